/** Of so many values that nobody has taken, `onFull` is called; once half of them are taken, `onRoom`. */
const FULL = 16_384

/** Values that come when they come, for one reader who takes them when he likes. */
export class Stream<T> implements AsyncIterableIterator<T> {
  #values: T[] = []
  #at = 0
  readonly #waiting: { give: (result: IteratorResult<T>) => void; fail: (error: Error) => void }[] = []
  #failure: Error | undefined
  #ended = false
  #full = false

  constructor(
    readonly onFull: () => void,
    readonly onRoom: () => void,
    /** The reader wants no more. */
    readonly onReturn: () => void,
  ) {}

  push(values: readonly T[]): void {
    if (this.#ended) return
    for (const value of values) this.#values.push(value)
    this.#serve()
    if (this.#full || this.#values.length - this.#at < FULL) return
    this.#full = true
    this.onFull()
  }

  /** What has come is still given; then it ends, with the error if there is one. */
  end(failure?: Error): void {
    this.#ended = true
    this.#failure ??= failure
    this.#serve()
  }

  next(): Promise<IteratorResult<T>> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ give: resolve, fail: reject })
      this.#serve()
    })
  }

  async return(): Promise<IteratorResult<T>> {
    this.#values = []
    this.#at = 0
    this.end()
    this.onReturn()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  #serve(): void {
    while (this.#waiting.length > 0 && this.#at < this.#values.length) {
      this.#waiting.shift()?.give({ done: false, value: this.#values[this.#at++]! })
      this.#makeRoom()
    }
    if (!this.#ended || this.#at < this.#values.length) return
    for (const { give, fail } of this.#waiting.splice(0)) {
      const failure = this.#failure
      this.#failure = undefined
      if (failure === undefined) give({ done: true, value: undefined })
      else fail(failure)
    }
  }

  #makeRoom(): void {
    if (this.#at < FULL / 2 && this.#at < this.#values.length) return
    this.#values = this.#values.slice(this.#at)
    this.#at = 0
    if (!this.#full || this.#values.length > FULL / 2) return
    this.#full = false
    this.onRoom()
  }
}
