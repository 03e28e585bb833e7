/** First in, first out, in constant time: an array's shift moves all that is left. */
export class Fifo<T> {
  #in: T[] = []
  /** What was put in before that, the first one last. */
  #out: T[] = []

  get length(): number {
    return this.#in.length + this.#out.length
  }

  push(item: T): void {
    this.#in.push(item)
  }

  first(): T | undefined {
    if (this.#out.length === 0) [this.#out, this.#in] = [this.#in.reverse(), this.#out]
    return this.#out.at(-1)
  }

  shift(): T | undefined {
    this.first()
    return this.#out.pop()
  }

  /** Takes all of them. */
  drain(): T[] {
    const all = [...this.#out.reverse(), ...this.#in]
    this.#out = []
    this.#in = []
    return all
  }
}
