import { getHeapStatistics } from 'node:v8'
import { TransferError } from './errors.js'
import { RERR } from './wire/constants.js'

/**
 * What peers have made this process hold, all of them together, may be so much: RSYNC_MAX_ALLOC, as rsync has it, or half
 * of what the process can have at all. A peer pays a few bytes for each entry of a list, we some hundred.
 */
const MAX = sizeOf(process.env.RSYNC_MAX_ALLOC ?? '') ?? getHeapStatistics().heap_size_limit / 2

let heldByAll = 0

/** `512M`, `2G`, `1000000`; null for anything else. */
function sizeOf(text: string): number | null {
  const found = /^(\d{1,15})([kmgt]?)b?$/i.exec(text)
  return found === null ? null : Number(found[1]) * 1024 ** ' kmgt'.indexOf(found[2].toLowerCase() || ' ')
}

/** What one peer has made us hold. */
export class Share {
  #held = 0

  /** `what` in the plural: it ends the sentence "... take more than ... here". */
  constructor(readonly what: string) {}

  /** Throws TransferError when it is too much. */
  hold(bytes: number): void {
    if (heldByAll + bytes > MAX)
      throw new TransferError(
        `${this.what} take more than ${Math.round(MAX / 2 ** 20)} MiB here (RSYNC_MAX_ALLOC sets how much they may); exiting`,
        RERR.MALLOC,
      )
    heldByAll += bytes
    this.#held += bytes
  }

  /** Without an argument, all of it. */
  release(bytes = this.#held): void {
    heldByAll -= bytes
    this.#held -= bytes
  }
}
