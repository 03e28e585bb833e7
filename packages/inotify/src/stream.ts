/** Of so many values that nobody has taken, `onFull` is called; once half of them are taken, `onRoom`. */
const FULL = 16_384

/** Values that come when they come, for one reader who takes them when he likes. */
export class Stream<T> implements AsyncIterableIterator<T> {
  #values: T[] = []
  #at = 0
  #waiting: ((result: IteratorResult<T>) => void) | undefined
  #failed: ((error: Error) => void) | undefined
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
      this.#waiting = resolve
      this.#failed = reject
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
    const give = this.#waiting
    if (give === undefined) return
    if (this.#at < this.#values.length) {
      this.#waiting = undefined
      give({ done: false, value: this.#values[this.#at++]! })
      this.#makeRoom()
    } else if (this.#ended) {
      this.#waiting = undefined
      const failure = this.#failure
      this.#failure = undefined
      if (failure === undefined) give({ done: true, value: undefined })
      else this.#failed?.(failure)
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
