/** A name that is gone waits until no other has gone for this long, */
const QUIET_MS = 50
/** and longer the more have gone, up to a second: the more it is, the worse, and the sooner whoever removes it may rest. */
const QUIET_EACH_MS = 5
const QUIET_MOST_MS = 1_000
/** So many at once look like the end of a tree. */
const MASS = (QUIET_MOST_MS - QUIET_MS) / QUIET_EACH_MS
/** No longer than this while names come and go all the time, */
const MOST_MS = 5_000
/** or while a tree is being removed. */
const MASS_MOST_MS = 60_000

/**
 * Deletions wait for a moment: whoever removes everything begins with one name, and what it comes to can only be judged
 * when it is over. Nothing else waits for them.
 */
export class DeletionHold {
  #firstMs = 0
  #lastMs = 0
  #count = 0

  /** One more name waits. */
  add(nowMs: number): void {
    if (this.#count++ === 0) this.#firstMs = nowMs
    this.#lastMs = nowMs
  }

  /** Whether so much is going that nothing is to be compared as a whole before it is over. */
  get massive(): boolean {
    return this.#count >= MASS
  }

  /** When what is held may go, in ms since the epoch; null when nothing is held. */
  get releaseAtMs(): number | null {
    if (this.#count === 0) return null
    const quietMs = Math.min(QUIET_MOST_MS, QUIET_MS + this.#count * QUIET_EACH_MS)
    return Math.min(this.#lastMs + quietMs, this.#firstMs + (this.massive ? MASS_MOST_MS : MOST_MS))
  }

  release(): void {
    this.#count = 0
  }
}
