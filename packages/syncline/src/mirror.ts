import { type Hint, TreeWatcher, type RawPath as WatchedPath } from '@syncline/inotify'
import { type Expression, Filter, type FilterRule, printable, type RawPath, SourceTree } from '@syncline/rsync'
import type { Logger } from 'pino'
import { ConfigError } from './errors.js'
import { FailureFile } from './failure-file.js'
import { RootGuard } from './guard.js'
import type { Journal } from './journal.js'
import { LinkIndex } from './links.js'
import { type Schedule, Timetable } from './schedule.js'
import { Target, type TargetContext, type TargetOptions, type TargetStatus } from './target.js'

/** A file that is being written is looked at when it is closed, or when nothing was written for this long. */
const SETTLE_MS = 2_000
const STOP_GRACE_MS = 30_000
/** Smaller files are sent again under their new name: that takes less than to rename them at the target. */
const MOVE_BYTES = 256 << 10
/** A renamed file waits for so long for another to take its old name: then it is a backup, and the other the change. */
const RENAME_MS = 3
/** Such a backup is mostly removed as soon as the change is written. */
const BACKUP_MS = 1_000
const RENAMES_MAX = 1_000

/** One source with its targets: what the command line and every form of configuration come to. */
export interface MirrorOptions {
  source: RawPath
  targets: TargetOptions[]
  rules: readonly FilterRule[]
  /** sersync's: see Filter. */
  expressions: readonly Expression[]
  /** Whether a change of attributes alone is sent when it happens. */
  attributes: boolean
  /** Whether a file that is written without a pause is sent now and then. */
  whileWritten: boolean
  initialSync: boolean
  /** When to compare everything again, beside the times at which it is necessary. */
  fullSync: Schedule | undefined
  /** Where to keep a list of what has failed and is still owed. */
  failureFile: string | undefined
}

export interface MirrorStatus {
  pid: number
  source: string
  startedMs: number
  watches: number
  events: number
  overflows: number
  /** Directories that the kernel would not let us watch; they are looked at now and then instead. */
  unwatched: number
  journalProblem: string | null
  targets: TargetStatus[]
}

/** One source, watched once, and each of its targets. */
export class Mirror {
  readonly targets: Target[]
  readonly #source: SourceTree
  readonly #guard: RootGuard
  readonly #filter: Filter
  readonly #links: LinkIndex
  /** Small files that were renamed a moment ago: old name to new. */
  readonly #renamed = new Map<RawPath, { to: RawPath; atMs: number }>()
  #watcher: TreeWatcher | undefined
  #timetable: Timetable | undefined
  #failureFile: FailureFile | undefined
  readonly #startedMs = Date.now()

  /** Throws ConfigError when the source is not a directory. `onMirroring` is called once for each target. */
  constructor(
    readonly options: MirrorOptions,
    readonly journal: Journal,
    readonly log: Logger,
    onMirroring: (target: Target) => void,
    readonly onFatal: (error: Error) => void,
  ) {
    this.#source = new SourceTree(options.source)
    this.#filter = new Filter(options.rules, options.expressions)
    this.#guard = guardOf(this.#source, this.#filter)
    this.#links = new LinkIndex(this.#source, this.#filter, (departure) => {
      // What is owed for a name that has left is owed for the other names of its file.
      for (const target of this.targets) target.departed(departure)
    })
    const context: TargetContext = {
      source: this.#source,
      filter: this.#filter,
      links: this.#links,
      guard: this.#guard,
      journal,
      log,
      names: { count: 0 },
      onMirroring,
    }
    this.targets = options.targets.map((one) => new Target(one, context))
  }

  /** Watches first, then each target's full sync: what changes in between is seen. */
  async start(): Promise<void> {
    const { source } = this.options
    this.#watcher = await TreeWatcher.open(Buffer.from(source, 'latin1'), {
      exclude: (path, directory) => this.#filter.excludes(path as string as RawPath, directory),
      onHints: (hints) => this.#mark(hints),
      onError: (error) => this.onFatal(error),
      onNotice: (line) => this.log.warn(line),
    })
    const initialSync = this.options.initialSync || this.journal.lost
    if (this.journal.lost)
      this.log.warn('the journal could not be read and was begun anew: a full sync finds what it held')
    for (const target of this.targets) {
      const kept = await this.journal.load(target.name)
      target.start(
        initialSync,
        kept.map(({ path, tree }) => ({ path, scope: tree ? 'tree' : 'entry', quick: tree })),
      )
    }
    const { failureFile } = this.options
    if (failureFile !== undefined) this.#failureFile = new FailureFile(failureFile, () => this.status(), this.log)
    if (this.options.fullSync !== undefined)
      this.#timetable = new Timetable(this.options.fullSync, () => this.#compareAll())
  }

  #compareAll(): void {
    this.log.info(`the scheduled full sync of ${printable(this.options.source)} begins`)
    this.#markAll({ path: '' as RawPath, scope: 'tree', quick: true })
  }

  /** Lets halted targets go on, all or the one named. Returns which; throws when the source is not there. */
  resume(name: string | undefined): string[] {
    const chosen = this.targets.filter((target) => name === undefined || target.name === name)
    if (chosen.length > 0) this.#guard.accept()
    for (const target of chosen) target.resume()
    return chosen.map((target) => target.name)
  }

  status(): MirrorStatus {
    const stats = this.#watcher?.stats
    return {
      pid: process.pid,
      source: printable(this.options.source),
      startedMs: this.#startedMs,
      watches: stats?.watches ?? 0,
      events: stats?.events ?? 0,
      overflows: stats?.overflows ?? 0,
      unwatched: stats?.blind ?? 0,
      journalProblem: this.journal.problem,
      targets: this.targets.map((target) => target.status()),
    }
  }

  /** Finishes what is in flight and writes the journal. */
  async stop(): Promise<void> {
    this.#timetable?.stop()
    this.#failureFile?.close()
    await this.#watcher?.close()
    await Promise.all(this.targets.map((target) => target.stop(STOP_GRACE_MS)))
    await this.journal.close()
  }

  #mark(hints: readonly Hint[]): void {
    const moves = new Moves(hints)
    for (const hint of hints) {
      this.#followLinks(hint, moves.to)
      switch (hint.kind) {
        case 'entry':
          this.#markEntry(hint, moves)
          break
        case 'writing':
          this.#markBackup(raw(hint.path))
          this.#markAll({
            path: raw(hint.path),
            plain: true,
            settleMs: SETTLE_MS,
            evenWhileWritten: this.options.whileWritten,
          })
          break
        case 'tree':
          if (hint.movedFrom !== undefined) for (const target of this.targets) target.arrived(raw(hint.path))
          else this.#markTree(raw(hint.path), hint.overflow === true)
          break
        case 'unmounted':
          this.#unmountedBelow(raw(hint.path))
          break
        case 'root':
          this.#rootChanged(hint.state)
          break
      }
    }
  }

  #markEntry(hint: EntryHint, moves: Moves): void {
    const path = raw(hint.path)
    const { attribOnly, movedFrom, isDir, closed } = hint
    if (attribOnly === true && !this.options.attributes) return
    if (attribOnly !== true) this.#markBackup(path)
    if (moves.isLeaving(hint)) return // its new name comes next
    if (movedFrom === undefined) this.#markAll({ path, content: attribOnly !== true, plain: closed === true })
    else if (moves.isSimple(hint)) this.#markMoved(raw(movedFrom), path, isDir)
    else for (const one of [raw(movedFrom), path]) this.#markAll({ path: one, ...(isDir && { scope: 'tree' }) })
  }

  /** Renamed: as far as it was at a target already, it is renamed there, too. */
  #markMoved(from: RawPath, to: RawPath, directory: boolean): void {
    const size = directory ? MOVE_BYTES : (this.#links.look(to)?.size ?? 0)
    if (size < MOVE_BYTES) {
      if (this.#renamed.size >= RENAMES_MAX) this.#renamed.clear()
      this.#renamed.set(from, { to, atMs: Date.now() })
    }
    for (const target of this.targets) {
      if (size >= MOVE_BYTES) target.move({ from, to, directory })
      else {
        const settleMs = target.owes(from) ? 0 : RENAME_MS
        for (const path of [from, to]) target.mark({ path, ...(settleMs > 0 && { settleMs }) })
      }
    }
  }

  /** Something was written in the place of what had just been renamed: editors keep the former content so. */
  #markBackup(path: RawPath): void {
    const renamed = this.#renamed.get(path)
    if (renamed === undefined) return
    this.#renamed.delete(path)
    if (Date.now() - renamed.atMs < 10 * RENAME_MS) this.#markAll({ path: renamed.to, settleMs: BACKUP_MS })
  }

  /** Keeps the index of hard links up with the tree, before what the hint says is marked. */
  #followLinks(hint: Hint, movedTo: ReadonlyMap<WatchedPath, WatchedPath>): void {
    if (hint.kind !== 'entry' || hint.attribOnly === true || hint.closed === true) return
    const path = raw(hint.path)
    const to = movedTo.get(hint.path)
    if (hint.isDir && hint.movedFrom !== undefined) return // the other half of the pair has seen to it
    if (hint.isDir) this.#links.followDirectory(path, to === undefined ? undefined : raw(to))
    else if (to !== undefined) this.#links.followMove(path, raw(to))
    else if (hint.movedFrom === undefined) this.#links.follow(path)
  }

  #markAll(notice: Parameters<Target['mark']>[0]): void {
    for (const target of this.targets) target.mark(notice)
  }

  #markTree(path: RawPath, overflow: boolean): void {
    if (!overflow) return this.#markAll({ path, scope: 'tree' })
    this.log.warn(
      'the kernel dropped events (its queue was full): looking everywhere; a larger fs.inotify.max_queued_events helps',
    )
    this.#markAll({ path, scope: 'tree', quick: true, sinceMs: this.#watcher?.drainedAtMs ?? 0 })
  }

  #unmountedBelow(path: RawPath): void {
    const where = `${printable(this.options.source)}/${printable(path)}`
    const reason = `the filesystem at ${where} was unmounted: the target keeps what it has. Mount it again, or if it is meant to go, run "syncline resume"`
    for (const target of this.targets) target.halt(reason)
  }

  #rootChanged(state: 'gone' | 'unmounted' | 'replaced' | 'back'): void {
    const source = printable(this.options.source)
    if (state === 'back')
      return this.log.warn(`the source ${source} is there again; if it is right, run "syncline resume"`)
    try {
      this.#guard.checkPresent()
    } catch (error) {
      for (const target of this.targets) target.halt((error as Error).message)
    }
    // Otherwise somebody has resumed already, and the watcher only now comes to the directory that was accepted.
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

function guardOf(source: SourceTree, filter: Filter): RootGuard {
  try {
    return new RootGuard(source, filter)
  } catch (error) {
    throw new ConfigError(
      `SRC "${printable(source.path)}": ${(error as Error).message}; name a directory that can be read`,
      3,
    )
  }
}
