import { parent, type RawPath } from '@syncline/rsync'

const ROOT = '' as RawPath

/**
 * How far to look: at the name itself; at a directory and the names in it, so that others are deleted there; or at
 * everything below, likewise.
 */
export type Scope = 'entry' | 'level' | 'tree'
const WIDTH: Record<Scope, number> = { entry: 0, level: 1, tree: 2 }

/** Where to look, and why it is still owed. */
export interface Mark {
  path: RawPath
  scope: Scope
  /** What is below is compared by size and time instead of sent whole: for doubt, not for known change. */
  quick: boolean
  /** Content may have changed; false when only attributes did. */
  content: boolean
  /** Nothing but a regular file can have been here since it was last sent: it was only created and written. */
  plain: boolean
  /** A file that was found to be large: it travels in a session of its own. */
  large: boolean
  /** It was found gone and has waited; it may be deleted. */
  waited: boolean
  /** What it was has another name at the target by now: that it goes is no loss. */
  moved: boolean
  /** A scheduled comparison, which leaves more alone than the mirror does. */
  scheduled: boolean
  /** When it was first noticed, ms since the epoch. */
  sinceMs: number
  /** Not to be looked at before then: a file being written, or a failure that rests. */
  dueMs: number
  /** How often sending it has failed, and what was said the last time. */
  attempts: number
  reason: string | null
}

export type Notice = Pick<Mark, 'path'> &
  Partial<Omit<Mark, 'path' | 'sinceMs' | 'dueMs'>> & {
    /** It is being written: to be looked at after so long, and later still when more is written. */
    settleMs?: number
    /** More that is written moves nothing further off. */
    evenWhileWritten?: boolean
    sinceMs?: number
  }

/** Which session a mark waits for. */
export type Kind = 'plain' | 'large' | 'tree' | 'level'
const kindOf = (mark: Mark): Kind =>
  mark.quick ? (mark.scope === 'level' ? 'level' : 'tree') : mark.large ? 'large' : 'plain'

/** More marks than this cost more than looking everywhere does. */
export const DIRTY_MAX = 200_000
const FAILURE_FIRST_MS = 1_000
const FAILURE_MAX_MS = 5 * 60_000

/** What one target still owes. A path is in it once, whatever happened to it and however often. */
export class DirtySet {
  readonly #due: Record<Kind, Map<RawPath, Mark>> = {
    plain: new Map(),
    large: new Map(),
    tree: new Map(),
    level: new Map(),
  }
  readonly #kinds = Object.values(this.#due)
  readonly #later = new Map<RawPath, Mark>()
  /** Found gone, and waiting until all of it is over. */
  readonly #held = new Map<RawPath, Mark>()

  get size(): number {
    return this.dueSize + this.#later.size + this.#held.size
  }

  get dueSize(): number {
    return this.#kinds.reduce((sum, due) => sum + due.size, 0)
  }

  *[Symbol.iterator](): Iterator<Mark> {
    for (const due of this.#kinds) yield* due.values()
    yield* this.#later.values()
    yield* this.#held.values()
  }

  get heldSize(): number {
    return this.#held.size
  }

  /** Keeps what was found gone until `releaseHeld`. */
  hold(mark: Mark, nowMs: number): void {
    const newer = this.get(mark.path)
    // What was noticed meanwhile says when to look.
    if (newer === undefined) this.#held.set(mark.path, mark)
    else this.#place({ ...widened(newer, mark, nowMs, newer.dueMs), dueMs: newer.dueMs }, nowMs)
  }

  releaseHeld(): void {
    for (const mark of this.#held.values()) this.#due[kindOf(mark)].set(mark.path, { ...mark, waited: true })
    this.#held.clear()
  }

  /** Notes that `path` wants a look. A mark that was there already is widened, never narrowed. Returns it. */
  mark(notice: Notice, nowMs: number): Mark {
    const { path } = notice
    const old = this.get(path)
    if (old === undefined && this.size >= DIRTY_MAX && path !== ROOT) return this.#markAll(nowMs)
    const dueMs = notice.settleMs === undefined ? nowMs : nowMs + notice.settleMs
    const mark = old === undefined ? fresh(notice, nowMs, dueMs) : widened(old, notice, nowMs, dueMs)
    this.#place(mark, nowMs)
    return mark
  }

  /** Puts back what was taken and not done; what was noticed meanwhile widens it. */
  putBack(mark: Mark, nowMs: number): void {
    const newer = this.get(mark.path)
    const back =
      newer === undefined
        ? mark
        : widened({ ...mark, dueMs: Math.min(mark.dueMs, newer.dueMs) }, newer, nowMs, newer.dueMs)
    this.#place(back, nowMs)
  }

  /** Puts back with the reason of a failure, to rest for a growing time. */
  putBackFailed(mark: Mark, reason: string, nowMs: number): void {
    const attempts = mark.attempts + 1
    const restMs = Math.min(FAILURE_MAX_MS, FAILURE_FIRST_MS * 2 ** Math.min(attempts - 1, 16))
    this.putBack({ ...mark, attempts, reason, dueMs: nowMs + restMs }, nowMs)
  }

  /** Takes up to `max` marks of one kind that are due and that `choose` accepts out of the set. */
  take(kind: Kind, max: number, choose: (mark: Mark) => boolean): Mark[] {
    const taken: Mark[] = []
    const due = this.#due[kind]
    for (const mark of due.values()) {
      if (taken.length >= max) break
      if (choose(mark)) taken.push(mark)
    }
    for (const { path } of taken) due.delete(path)
    return taken
  }

  get(path: RawPath): Mark | undefined {
    for (const due of this.#kinds) {
      const mark = due.get(path)
      if (mark !== undefined) return mark
    }
    return this.#later.get(path) ?? this.#held.get(path)
  }

  /** Makes due what has rested long enough. Returns when the next one will be, in ms since the epoch, or null. */
  wakeRested(nowMs: number): number | null {
    let next: number | null = null
    for (const mark of this.#later.values()) {
      if (mark.dueMs <= nowMs) {
        this.#later.delete(mark.path)
        this.#due[kindOf(mark)].set(mark.path, mark)
      } else if (next === null || mark.dueMs < next) next = mark.dueMs
    }
    return next
  }

  /** Leaves what is due until then. */
  postpone(path: RawPath, dueMs: number): void {
    const mark = this.get(path)
    if (mark !== undefined && mark.dueMs < dueMs) this.#place({ ...mark, dueMs }, 0)
  }

  /** Makes every failure due at once: someone has mended something. */
  wakeAll(): void {
    for (const mark of this.#later.values()) this.#due[kindOf(mark)].set(mark.path, mark)
    this.#later.clear()
    this.releaseHeld()
  }

  /** Forgets that `path` is owed. */
  delete(path: RawPath): void {
    for (const due of this.#kinds) due.delete(path)
    this.#later.delete(path)
    this.#held.delete(path)
  }

  #place(mark: Mark, nowMs: number): void {
    this.delete(mark.path)
    if (mark.dueMs > nowMs) this.#later.set(mark.path, mark)
    else this.#due[kindOf(mark)].set(mark.path, mark)
  }

  /** Too many to name: forget the details and look everywhere. */
  #markAll(nowMs: number): Mark {
    let sinceMs = nowMs
    for (const mark of this) sinceMs = Math.min(sinceMs, mark.sinceMs)
    for (const due of this.#kinds) due.clear()
    this.#later.clear()
    this.#held.clear()
    const all = fresh({ path: ROOT, scope: 'tree', quick: true, sinceMs }, nowMs, nowMs)
    this.#due.tree.set(ROOT, all)
    return all
  }
}

function fresh(notice: Notice, nowMs: number, dueMs: number): Mark {
  const {
    path,
    scope = 'entry',
    quick = false,
    content = true,
    plain = false,
    large = false,
    waited = false,
    moved = false,
    scheduled = false,
    sinceMs = nowMs,
    attempts = 0,
    reason = null,
  } = notice
  return { path, scope, quick, content, plain, large, waited, moved, scheduled, sinceMs, dueMs, attempts, reason }
}

function widened(old: Mark, notice: Notice, nowMs: number, dueMs: number): Mark {
  // What is known to have changed is not narrowed to a comparison by a doubt.
  const scope = WIDTH[notice.scope ?? 'entry'] > WIDTH[old.scope] ? notice.scope! : old.scope
  const sent = (one: Notice) => one.scope !== undefined && one.scope !== 'entry' && one.quick !== true
  const quick = scope !== 'entry' && !sent(old) && !sent(notice)
  const settling =
    notice.settleMs !== undefined && notice.evenWhileWritten !== true && old.dueMs > nowMs && old.attempts === 0
  return {
    ...old,
    scope,
    quick,
    content: old.content || notice.content !== false,
    plain: old.plain && notice.plain === true,
    large: old.large || notice.large === true,
    moved: old.moved && notice.moved === true,
    scheduled: old.scheduled && notice.scheduled === true,
    sinceMs: Math.min(old.sinceMs, notice.sinceMs ?? nowMs),
    // While it is still being written each write moves the look further off, and attributes can wait for its end;
    // anything else makes it due.
    dueMs: settling ? dueMs : notice.content === false && old.attempts === 0 ? old.dueMs : Math.min(old.dueMs, dueMs),
    attempts: Math.max(old.attempts, notice.attempts ?? 0),
    reason: notice.reason ?? old.reason,
  }
}

/** The paths that sessions are working on, so that no other works on them, above or below them. */
export class InFlight {
  readonly #paths = new Map<RawPath, number>()
  readonly #above = new Map<RawPath, number>()

  conflicts(path: RawPath): boolean {
    if (this.#paths.size === 0) return false
    if (this.#paths.has(path) || this.#above.has(path)) return true
    if (this.#paths.has(ROOT)) return true
    for (let dir = parent(path); dir !== ROOT; dir = parent(dir)) if (this.#paths.has(dir)) return true
    return path === ROOT
  }

  add(path: RawPath): void {
    this.#count(path, 1)
  }

  delete(path: RawPath): void {
    this.#count(path, -1)
  }

  #count(path: RawPath, by: number): void {
    add(this.#paths, path, by)
    for (let dir = parent(path); dir !== ROOT; dir = parent(dir)) add(this.#above, dir, by)
  }
}

function add(counts: Map<RawPath, number>, path: RawPath, by: number): void {
  const count = (counts.get(path) ?? 0) + by
  if (count === 0) counts.delete(path)
  else counts.set(path, count)
}
