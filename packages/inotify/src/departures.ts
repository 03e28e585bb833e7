import type { RawPath } from './raw-path.js'
import { NONE, type WatchTable, type Wd } from './watch-table.js'

/** The second half of a move pair follows within microseconds; a busy main thread may make it wait longer. */
const PARTNER_MS = 100
/** Pairs that wait at once. Beyond it the oldest are forgotten, and become a deletion and a creation. */
const MOVES_MAX = 65_536
/** Each removal queues an IN_IGNORED, so it must stay well below the length of the queue until that is read. */
const REMOVALS_PER_TURN = 1000

/**
 * What has left its place: names that wait for the second half of their move pair, and directories that may turn up elsewhere.
 * Those that do not have left the tree, and their watches go: until then they would report under a path that is no longer theirs.
 */
export class Departures {
  readonly #moves = new Map<number, { from: RawPath; atMs: number }>()
  readonly #detached = new Map<Wd, number>()
  #condemned: Wd[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(
    readonly table: WatchTable,
    readonly removeWatch: (wd: Wd) => void,
    readonly onCondemned: () => void,
  ) {}

  movedFrom(cookie: number, from: RawPath): void {
    if (this.#moves.size >= MOVES_MAX) this.#moves.delete(this.#moves.keys().next().value!)
    this.#moves.set(cookie, { from, atMs: performance.now() })
    this.#arm()
  }

  /** Where the partner of this MOVED_TO came from, if it came from inside the tree. */
  take(cookie: number): RawPath | undefined {
    const move = this.#moves.get(cookie)
    if (move !== undefined) this.#moves.delete(cookie)
    return move?.from
  }

  detached(wd: Wd): void {
    this.#detached.delete(wd) // so that the map stays in order of time
    this.#detached.set(wd, performance.now())
    this.#arm()
  }

  /** Removes the watches of this directory, and of all below it, unless a scan attaches it in the meantime. */
  condemn(wd: Wd): void {
    this.#condemned.push(wd)
    this.onCondemned()
  }

  /** Removes some of the watches that must go. True when all are gone. */
  removeSome(): boolean {
    for (let removed = 0; removed < REMOVALS_PER_TURN; ) {
      const wd = this.#condemned.pop()
      if (wd === undefined) return true
      if (this.table.parentOf(wd) !== NONE || !this.table.has(wd)) continue
      this.removeWatch(wd)
      removed++
      for (const child of this.table.remove(wd)) this.#condemned.push(child)
    }
    return this.#condemned.length === 0
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#condemned = []
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => this.#expire(performance.now() - PARTNER_MS), PARTNER_MS).unref()
  }

  #expire(beforeMs: number): void {
    this.#timer = undefined
    for (const [cookie, move] of this.#moves) {
      if (move.atMs > beforeMs) break
      this.#moves.delete(cookie)
    }
    for (const [wd, atMs] of this.#detached) {
      if (atMs > beforeMs) break
      this.#detached.delete(wd)
      this.condemn(wd)
    }
    if (this.#moves.size > 0 || this.#detached.size > 0) this.#arm()
  }
}
