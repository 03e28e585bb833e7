import { HaltError } from './errors.js'

const WINDOW_MS = 10_000

/** How many names may be deleted at a target at once, which is within ten seconds. */
export class DeletionLimit {
  #recent: { atMs: number; count: number }[] = []
  #lifted = false

  constructor(readonly max: number) {}

  /** Throws HaltError when `count` more would be too many; otherwise they count from now on. */
  take(count: number, nowMs: number): void {
    if (count === 0 || this.#lifted) return
    this.#recent = this.#recent.filter(({ atMs }) => atMs > nowMs - WINDOW_MS)
    const total = this.#recent.reduce((sum, one) => sum + one.count, count)
    if (total > this.max) {
      throw new HaltError(
        `${total} names would be deleted within ${WINDOW_MS / 1000} s and max-delete is ${this.max}: the target keeps what it has. If they are meant to go, run "syncline resume"`,
      )
    }
    this.#recent.push({ atMs: nowMs, count })
  }

  /** Somebody has looked: what is owed may be deleted, until `restore`. */
  lift(): void {
    this.#lifted = true
    this.#recent = []
  }

  restore(): void {
    this.#lifted = false
  }
}
