import { setTimeout as sleep } from 'node:timers/promises'

/** --bwlimit: spreads what is written over time. One limit may be shared by several sessions. */
export class Pace {
  #freeAtMs = 0

  /** `bytesPerSecond` is what all users of this limit may send together. */
  constructor(readonly bytesPerSecond: number) {}

  /** Resolves when `bytes`, already handed to the kernel, have had their time. */
  async spend(bytes: number): Promise<void> {
    const nowMs = performance.now()
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + (bytes * 1000) / this.bytesPerSecond
    const waitMs = this.#freeAtMs - nowMs
    if (waitMs >= 1) await sleep(waitMs)
  }
}
