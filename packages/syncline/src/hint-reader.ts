import type { Hint, RawPath as WatchedPath } from '@syncline/inotify'
import type { RawPath } from '@syncline/rsync'
import type { Notice } from './dirty.js'
import type { LinkIndex } from './links.js'
import type { MirrorOptions } from './mirror.js'
import type { Snapshot } from './snapshot.js'
import type { Target } from './target.js'
import type { Teller } from './teller.js'

/** A file that is being written is looked at when it is closed, or when nothing was written for this long. */
const SETTLE_MS = 2_000
/** Smaller files are sent again under their new name: that takes less than to rename them at the target. */
const MOVE_BYTES = 256 << 10
/** A renamed file waits for so long for another to take its old name: then it is a backup, and the other the change. */
const RENAME_MS = 3
/** Such a backup is mostly removed as soon as the change is written. */
const BACKUP_MS = 1_000
const RENAMES_MAX = 1_000
const GONE_MS = 20
/** An empty file that was just made is often one that tries whether it can be made, or one to be filled. */
const EMPTY_MS = 5
const EXCLUDED_MS = 500

/** What is needed to make marks of hints. */
export interface HintContext {
  options: Pick<MirrorOptions, 'attributes' | 'whileWritten' | 'initialSync'>
  links: LinkIndex
  snapshot: Snapshot
  targets: () => readonly Target[]
  teller: Teller
  /** A directory appeared, or, with `overflow`, anything may have happened anywhere. */
  onTree: (path: RawPath, overflow: boolean) => void
  onUnmounted: (path: RawPath) => void
  onRoot: (state: 'gone' | 'unmounted' | 'replaced' | 'back') => void
}

/**
 * From hints to marks. A hint says where to look; this decides when. At once, but for what is being written, and for what
 * programs make for a moment: swap files, backups, files that only try whether they can be made.
 */
export class HintReader {
  /** Small files that were renamed a moment ago: old name to new. */
  readonly #renamed = new Map<RawPath, { to: RawPath; atMs: number }>()

  constructor(readonly context: HintContext) {}

  get #targets(): readonly Target[] {
    return this.context.targets()
  }

  /** Marks at every target what the hints of one read are about. */
  read(hints: readonly Hint[]): void {
    const moves = new Moves(hints)
    const last = new Map<WatchedPath, Hint['kind']>()
    const closed = new Map<WatchedPath, number>()
    for (const [i, hint] of hints.entries()) {
      if (hint.kind === 'entry' || hint.kind === 'writing') last.set(hint.path, hint.kind)
      if (hint.kind === 'entry' && hint.closed === true) closed.set(hint.path, i)
    }
    for (const [i, hint] of hints.entries()) {
      // It is closed by now, which says all that there is to say.
      if (hint.kind === 'writing' && (closed.get(hint.path) ?? -1) > i) continue
      this.#followLinks(hint, moves.to)
      if (hint.kind !== 'root' && hint.kind !== 'unmounted' && this.context.options.initialSync !== 'never')
        this.context.snapshot.noticed(raw(hint.path), hint.kind === 'tree')
      switch (hint.kind) {
        case 'entry':
          this.#markEntry(hint, moves, last.get(hint.path) === 'writing')
          // Deletions wait in any case; a file that is made again at once, and is still open, is not to be sent meanwhile.
          if (hint.gone) for (const target of this.#targets) target.postpone(raw(hint.path), GONE_MS)
          break
        case 'writing':
          this.#markBackup(raw(hint.path))
          this.markAll({
            path: raw(hint.path),
            plain: true,
            settleMs: SETTLE_MS,
            evenWhileWritten: this.context.options.whileWritten,
          })
          break
        case 'tree':
          if (hint.movedFrom !== undefined) for (const target of this.#targets) target.arrived(raw(hint.path))
          else this.context.onTree(raw(hint.path), hint.overflow === true)
          break
        case 'unmounted':
          this.context.onUnmounted(raw(hint.path))
          break
        case 'root':
          this.context.onRoot(hint.state)
          break
      }
    }
  }

  /** `written`: it is open again already, and will be looked at when that is over. */
  #markEntry(hint: EntryHint, moves: Moves, written: boolean): void {
    const path = raw(hint.path)
    const { attribOnly, movedFrom, isDir, closed, excluded } = hint
    // Nothing but a directory's time, and perhaps a thousand times a second.
    if (excluded) return this.markAll({ path, content: false, settleMs: EXCLUDED_MS, evenWhileWritten: true })
    if (attribOnly === true && !this.context.options.attributes) return
    if (attribOnly !== true) this.#markBackup(path)
    if (moves.isLeaving(hint)) return // its new name comes next
    if (movedFrom === undefined)
      this.markAll({
        path,
        content: attribOnly !== true,
        // Attributes travel with a comparison; otherwise the content would go along once more.
        quick: attribOnly === true && !isDir,
        plain: closed === true,
        ...(written && { settleMs: SETTLE_MS, evenWhileWritten: this.context.options.whileWritten }),
        ...(closed === true &&
          (this.context.links.look(path)?.size ?? 0) === 0 && { settleMs: EMPTY_MS, evenWhileWritten: true }),
      })
    else if (moves.isSimple(hint)) this.#markMoved(raw(movedFrom), path, isDir)
    else for (const one of [raw(movedFrom), path]) this.markAll({ path: one, ...(isDir && { scope: 'tree' }) })
  }

  /** Renamed: as far as it was at a target already, it is renamed there, too. */
  #markMoved(from: RawPath, to: RawPath, directory: boolean): void {
    if (this.#targets.length === 0) {
      this.context.teller.tell(from)
      return directory ? this.context.teller.tellTree(to) : this.context.teller.tell(to)
    }
    const size = directory ? MOVE_BYTES : (this.context.links.look(to)?.size ?? 0)
    if (size < MOVE_BYTES) {
      if (this.#renamed.size >= RENAMES_MAX) this.#renamed.clear()
      this.#renamed.set(from, { to, atMs: Date.now() })
    }
    for (const target of this.#targets) {
      if (size >= MOVE_BYTES) target.move({ from, to, directory })
      else {
        const settleMs = target.owes(from) ? 0 : RENAME_MS
        target.mark({ path: to, ...(settleMs > 0 && { settleMs }) })
        target.mark({ path: from, moved: true, ...(settleMs > 0 && { settleMs }) })
      }
    }
  }

  /** Something was written in the place of what had just been renamed: editors keep the former content so. */
  #markBackup(path: RawPath): void {
    const renamed = this.#renamed.get(path)
    if (renamed === undefined) return
    this.#renamed.delete(path)
    if (Date.now() - renamed.atMs < 10 * RENAME_MS) this.markAll({ path: renamed.to, settleMs: BACKUP_MS })
  }

  /** Keeps the index of hard links up with the tree, before what the hint says is marked. */
  #followLinks(hint: Hint, movedTo: ReadonlyMap<WatchedPath, WatchedPath>): void {
    if (hint.kind !== 'entry' || hint.attribOnly === true || hint.closed === true) return
    const path = raw(hint.path)
    const to = movedTo.get(hint.path)
    if (hint.isDir && hint.movedFrom !== undefined) return // the other half of the pair has seen to it
    if (hint.isDir) this.context.links.followDirectory(path, to === undefined ? undefined : raw(to))
    else if (to !== undefined) this.context.links.followMove(path, raw(to))
    else if (hint.movedFrom === undefined) this.context.links.follow(path)
  }

  /** Marks it at every target. */
  markAll(notice: Notice): void {
    for (const target of this.#targets) target.mark(notice)
    // Without targets the actions are all there is to do: sersync's -m.
    if (this.#targets.length > 0 || notice.path === '' || notice.content === false) return
    if (notice.scope === 'tree') this.context.teller.tellTree(notice.path)
    else if ((notice.settleMs ?? 0) <= EMPTY_MS) this.context.teller.tell(notice.path)
  }
}

type EntryHint = Extract<Hint, { kind: 'entry' }>

/** The move pairs among the hints of one read. */
class Moves {
  /** Old name to new. */
  readonly to = new Map<WatchedPath, WatchedPath>()
  readonly #arriving = new Set<WatchedPath>()
  readonly #left = new Set<WatchedPath>()

  constructor(hints: readonly Hint[]) {
    for (const hint of hints) {
      if (hint.kind !== 'entry' || hint.movedFrom === undefined) continue
      this.to.set(hint.movedFrom, hint.path)
      this.#arriving.add(hint.path)
    }
  }

  /** Whether this is the first half of a pair, whose second is among these hints, too. */
  isLeaving({ path, movedFrom, attribOnly, closed }: EntryHint): boolean {
    if (movedFrom !== undefined || attribOnly || closed || !this.to.has(path) || this.#left.has(path)) return false
    this.#left.add(path)
    return true
  }

  /** Whether this second half of a pair is the whole story: neither name was moved again. */
  isSimple({ path, movedFrom }: EntryHint): boolean {
    return this.to.get(movedFrom!) === path && !this.to.has(path) && !this.#arriving.has(movedFrom!)
  }
}

const raw = (path: WatchedPath) => path as string as RawPath
