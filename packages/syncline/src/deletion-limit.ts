import { HaltError } from './errors.js'

const WINDOW_MS = 10_000

/** How many names may go at once: a number, or a part of all that the source has, in percent. */
export type Limit = { count: number } | { percent: number }

export const limitText = (limit: Limit) => ('count' in limit ? `${limit.count}` : `${limit.percent}%`)

/** Reads `1000` or `25%`; undefined when it is neither. */
export function parseLimit(text: string): Limit | undefined {
  const [, number, percent] = /^(\d{1,10})(%?)$/.exec(text) ?? []
  if (number === undefined) return undefined
  if (percent === '') return { count: Number(number) }
  return Number(number) <= 100 ? { percent: Number(number) } : undefined
}

/** How many names may be deleted at a target at once, which is within ten seconds. */
export class DeletionLimit {
  #recent: { atMs: number; count: number }[] = []
  #lifted = false

  constructor(readonly limit: Limit) {}

  /** Throws HaltError when `count` names of a tree that had `names` are too many. */
  check(count: number, names: number): void {
    if (this.#lifted) return
    const max = 'count' in this.limit ? this.limit.count : Math.floor((names * this.limit.percent) / 100)
    if (count <= max) return
    throw new HaltError(
      `${count} names would be deleted within ${WINDOW_MS / 1000} s and max-delete is ${limitText(this.limit)}${'count' in this.limit ? '' : ` of ${names}`}: the target keeps what it has. If they are meant to go, run "syncline resume"`,
    )
  }

  /** The same for `count` more; otherwise they count from now on. */
  take(count: number, names: number, nowMs: number): void {
    if (count === 0 || this.#lifted) return
    this.#recent = this.#recent.filter(({ atMs }) => atMs > nowMs - WINDOW_MS)
    this.check(
      this.#recent.reduce((sum, one) => sum + one.count, count),
      names,
    )
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
