import { createHash } from 'node:crypto'
import { type Hint, TreeWatcher, type RawPath as WatchedPath } from '@syncline/inotify'
import {
  type Expression,
  FileError,
  Filter,
  type FilterRule,
  isDirectory,
  parent,
  printable,
  type RawPath,
  SourceTree,
} from '@syncline/rsync'
import type { Logger } from 'pino'
import { type Action, ActionQueue } from './actions.js'
import type { Mark, Notice } from './dirty.js'
import { ConfigError } from './errors.js'
import { FailureFile } from './failure-file.js'
import { RootGuard } from './guard.js'
import type { Journal, Kept } from './journal.js'
import { LinkIndex } from './links.js'
import { type Schedule, Timetable } from './schedule.js'
import { type Comparison, Snapshot } from './snapshot.js'
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
const GONE_MS = 20
/** An empty file that was just made is often one that tries whether it can be made, or one to be filled. */
const EMPTY_MS = 5
/** Of a larger directory whoever is told has to find the rest. */
const TOLD_MAX = 5_000
const EXCLUDED_MS = 500
const RENAMES_MAX = 1_000
/** So many names that changed while nobody watched are sent by name, whatever part of all they are. */
const DIFFERENT_MIN = 1_000
const SWEEP_MAX = 1_000
/** Each is a session of its own: more are compared with everything else. */
const TREES_MAX = 32

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
  /**
   * Whether to compare everything at the start. `auto`: where the snapshot of the source and a sample of the target do
   * not prove it unnecessary.
   */
  initialSync: 'auto' | 'always' | 'never'
  /** When to compare everything again, beside the times at which it is necessary. */
  fullSync: Schedule | undefined
  /** What that comparison leaves alone, at both ends. */
  fullSyncRules: readonly FilterRule[]
  /** What to do about each change, once it is at every target that can be reached. */
  actions: readonly Action[]
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
  targets: Target[]
  readonly #context: TargetContext
  readonly #source: SourceTree
  readonly #guard: RootGuard
  readonly #filter: Filter
  readonly #links: LinkIndex
  readonly #snapshot: Snapshot
  readonly #actions: ActionQueue[]
  /** How many names the source has, when that is known. */
  readonly #names = { count: 0 }
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
    this.#context = {
      source: this.#source,
      filter: this.#filter,
      links: this.#links,
      guard: this.#guard,
      journal,
      log,
      names: this.#names,
      scheduledFilter: new Filter([...options.fullSyncRules, ...options.rules], options.expressions),
      onDone: (mark) => this.#act(mark),
      hasMoreHints: () => this.#watcher?.hasMore === true,
      onMirroring: (target) => {
        onMirroring(target)
        this.#keepSnapshot(target)
      },
    }
    this.#actions = options.actions.map((action) => new ActionQueue(action, options.source, log))
    this.targets = options.targets.map((one) => new Target(one, this.#context))
    this.#snapshot = new Snapshot({
      source: this.#source,
      filter: this.#filter,
      links: this.#links,
      guard: this.#guard,
      journal,
      drainedAtMs: () => this.#watcher?.drainedAtMs ?? 0,
      calm: () => this.targets.every((target) => target.owed === 0),
      mark: (notice) => this.#markAll(notice),
    })
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
    this.#snapshot.watched()
    if (this.journal.lost)
      this.log.warn('the journal could not be read and was begun anew: a full sync finds what it held')
    const synced = new Set<Target>()
    for (const target of this.targets) if (await this.#isSynced(target)) synced.add(target)
    const comparison = synced.size > 0 ? await this.#compare() : null
    for (const target of this.targets)
      void this.#startTarget(target, synced.has(target) ? comparison : null).catch(this.onFatal)
    const { failureFile } = this.options
    if (failureFile !== undefined) this.#failureFile = new FailureFile(failureFile, () => this.status(), this.log)
    if (this.options.fullSync !== undefined)
      this.#timetable = new Timetable(this.options.fullSync, () => this.#compareAll())
  }

  /** How the source differs from what it was, when a target can make use of that. */
  async #compare(): Promise<Comparison | null> {
    if (this.options.initialSync !== 'auto') return null
    const beganMs = performance.now()
    const comparison = await this.#snapshot.compare()
    if (comparison === null) return null
    const { notices, names } = comparison
    this.#names.count = names
    const seconds = ((performance.now() - beganMs) / 1000).toFixed(1)
    this.log.info(`${names} names compared with the snapshot in ${seconds} s: ${notices.length} differ`)
    // To send a large part by name takes longer than to compare everything, which also halts where nothing is left.
    if (names === 0) return null
    return notices.length > Math.max(DIFFERENT_MIN, names / 10) ? null : comparison
  }

  async #startTarget(target: Target, comparison: Comparison | null): Promise<void> {
    // At once, so that it is in the journal before the snapshot tells of it no more.
    for (const notice of comparison?.notices ?? []) target.mark(notice)
    const kept = await this.journal.load(target.name)
    const owed = kept.map(noticeOf)
    if (comparison === null || !(await this.#matches(target, comparison))) {
      const always = this.options.initialSync !== 'never' || this.journal.lost
      if (always) this.journal.setSynced(target.name, undefined)
      // What is only to be compared is compared with everything else.
      return target.start(always, always ? owed.filter(({ quick }) => quick !== true) : owed)
    }
    // A receiver that died while these were sent may have left its temporary files.
    const directories = [...new Set(kept.map(({ path }) => parent(path)))]
    const swept = directories.map((path): Notice => ({ path, scope: 'level', quick: true }))
    const trees = owed.filter(({ quick }) => quick).length
    if (trees > TREES_MAX || directories.length > SWEEP_MAX)
      target.start(
        true,
        owed.filter(({ quick }) => !quick),
      )
    else target.start(false, [...owed, ...swept], true)
  }

  async #matches(target: Target, { sample }: Comparison): Promise<boolean> {
    if (sample.length === 0 || target.options.update) return true
    try {
      if (await target.matches(sample)) return true
      this.log.warn(`${target.name} is not as it was left: everything is compared`)
    } catch (error) {
      this.log.warn(`${target.name}: ${(error as Error).message}; everything will be compared`)
    }
    return false
  }

  async #isSynced(target: Target): Promise<boolean> {
    return (await this.journal.synced(target.name)) === this.#meaning(target)
  }

  /** What a full sync of this target means: after it, and while this stays so, it is equal but for what is owed. */
  #meaning({ options }: Target): string {
    const { rules, expressions } = this.options
    const patterns = [rules, expressions.map(({ source }) => source)]
    return createHash('sha256')
      .update(JSON.stringify([patterns, options.delete, options.update]))
      .digest('hex')
  }

  /** From now on this target owes nothing but what the journal says. */
  #keepSnapshot(target: Target): void {
    if (this.options.initialSync === 'never' || !target.fullySynced) return
    this.journal.setSynced(target.name, this.#meaning(target))
    this.#snapshot.begin()
  }

  /** Whether these options are of this mirror, but for its targets. */
  takes(options: MirrorOptions): boolean {
    const meaning = ({ targets, ...own }: MirrorOptions) => JSON.stringify([own, targets.length > 0])
    return meaning(options) === meaning(this.options)
  }

  /** Ends the targets that are not among these, and begins those that are new; the others go on as if nothing had been. */
  async changeTargets(wanted: readonly TargetOptions[]): Promise<void> {
    const meaning = (options: TargetOptions) => JSON.stringify(options)
    const stays = new Set(wanted.map(meaning))
    const has = new Set(this.targets.map(({ options }) => meaning(options)))
    const leaving = this.targets.filter(({ options }) => !stays.has(meaning(options)))
    // From now on they are told what changes; they begin when nobody else writes to their places any more.
    const coming = wanted.filter((options) => !has.has(meaning(options))).map((one) => new Target(one, this.#context))
    this.targets = [...this.targets.filter((target) => !leaving.includes(target)), ...coming]
    await Promise.all(leaving.map((target) => target.stop(STOP_GRACE_MS)))
    for (const target of coming) {
      const before = leaving.find(({ name }) => name === target.name)
      if (before?.fullySynced && before.announced && this.#meaning(before) === this.#meaning(target))
        target.start(false, (await this.journal.load(target.name)).map(noticeOf), true)
      else {
        this.journal.setSynced(target.name, undefined)
        target.start(true, [])
      }
    }
  }

  #compareAll(): void {
    this.log.info(`the scheduled full sync of ${printable(this.options.source)} begins`)
    this.#markAll({ path: '' as RawPath, scope: 'tree', quick: true, scheduled: this.options.fullSyncRules.length > 0 })
  }

  /** Something is done at one target: when it is at all that can be reached, whoever wants to know is told. */
  #act({ path, content, quick, scope }: Mark): void {
    if (this.#actions.length === 0 || !content || quick || path === '') return
    if (this.targets.some((target) => target.state === 'mirroring' && target.owesAt(path))) return
    if (scope === 'entry') this.#tell(path)
    else this.#tellTree(path)
  }

  /** A directory that appeared, and what is in it: not each of its names had an event of its own. */
  #tellTree(top: RawPath): void {
    this.#tell(top)
    const open = [top]
    const keep = (path: RawPath, directory: boolean) => !this.#filter.excludes(path, directory)
    let told = 0
    try {
      this.#source.enter()
    } catch {
      return // whoever sees to a root that is gone has been told
    }
    try {
      for (let dir = open.pop(); dir !== undefined && told < TOLD_MAX; dir = open.pop()) {
        for (const { path, mode } of this.#source.list(dir, keep, () => undefined) ?? []) {
          if (isDirectory(mode)) open.push(path)
          if (told++ < TOLD_MAX) this.#tell(path)
        }
      }
    } catch (error) {
      if (!(error instanceof FileError)) throw error
    } finally {
      this.#source.leave()
    }
  }

  #tell(relative: RawPath): void {
    const found = this.#links.look(relative)
    const directory = found !== null && isDirectory(found.mode)
    const path = (this.options.source === '/' ? `/${relative}` : `${this.options.source}/${relative}`) as RawPath
    for (const queue of this.#actions)
      queue.add({ path, relative, kind: found === null ? 'deleted' : 'changed', directory })
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
    await this.#snapshot.finish()
    await this.#watcher?.close()
    await Promise.all(this.targets.map((target) => target.stop(STOP_GRACE_MS)))
    await Promise.all(this.#actions.map((queue) => queue.close()))
    await this.journal.close()
  }

  #mark(hints: readonly Hint[]): void {
    const moves = new Moves(hints)
    const last = new Map<WatchedPath, Hint['kind']>()
    for (const hint of hints) if (hint.kind === 'entry' || hint.kind === 'writing') last.set(hint.path, hint.kind)
    for (const hint of hints) {
      this.#followLinks(hint, moves.to)
      if (hint.kind !== 'root' && hint.kind !== 'unmounted')
        this.#snapshot.noticed(raw(hint.path), hint.kind === 'tree')
      switch (hint.kind) {
        case 'entry':
          this.#markEntry(hint, moves, last.get(hint.path) === 'writing')
          // Deletions wait in any case; a file that is made again at once, and is still open, is not to be sent meanwhile.
          if (hint.gone) for (const target of this.targets) target.postpone(raw(hint.path), GONE_MS)
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

  /** `written`: it is open again already, and will be looked at when that is over. */
  #markEntry(hint: EntryHint, moves: Moves, written: boolean): void {
    const path = raw(hint.path)
    const { attribOnly, movedFrom, isDir, closed, excluded } = hint
    // Nothing but a directory's time, and perhaps a thousand times a second.
    if (excluded) return this.#markAll({ path, content: false, settleMs: EXCLUDED_MS, evenWhileWritten: true })
    if (attribOnly === true && !this.options.attributes) return
    if (attribOnly !== true) this.#markBackup(path)
    if (moves.isLeaving(hint)) return // its new name comes next
    if (movedFrom === undefined)
      this.#markAll({
        path,
        content: attribOnly !== true,
        // Attributes travel with a comparison; otherwise the content would go along once more.
        quick: attribOnly === true && !isDir,
        plain: closed === true,
        ...(written && { settleMs: SETTLE_MS, evenWhileWritten: this.options.whileWritten }),
        ...(closed === true &&
          (this.#links.look(path)?.size ?? 0) === 0 && { settleMs: EMPTY_MS, evenWhileWritten: true }),
      })
    else if (moves.isSimple(hint)) this.#markMoved(raw(movedFrom), path, isDir)
    else for (const one of [raw(movedFrom), path]) this.#markAll({ path: one, ...(isDir && { scope: 'tree' }) })
  }

  /** Renamed: as far as it was at a target already, it is renamed there, too. */
  #markMoved(from: RawPath, to: RawPath, directory: boolean): void {
    if (this.targets.length === 0) {
      this.#tell(from)
      return directory ? this.#tellTree(to) : this.#tell(to)
    }
    const size = directory ? MOVE_BYTES : (this.#links.look(to)?.size ?? 0)
    if (size < MOVE_BYTES) {
      if (this.#renamed.size >= RENAMES_MAX) this.#renamed.clear()
      this.#renamed.set(from, { to, atMs: Date.now() })
    }
    for (const target of this.targets) {
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

  #markAll(notice: Notice): void {
    for (const target of this.targets) target.mark(notice)
    // Without targets the actions are all there is to do: sersync's -m.
    if (this.targets.length > 0 || notice.path === '' || notice.content === false) return
    if (notice.scope === 'tree') this.#tellTree(notice.path)
    else if ((notice.settleMs ?? 0) <= EMPTY_MS) this.#tell(notice.path)
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

const noticeOf = ({ path, extent }: Kept): Notice => ({
  path,
  scope: extent === 'entry' ? 'entry' : 'tree',
  quick: extent === 'tree',
})

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
