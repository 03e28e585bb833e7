import { createHash } from 'node:crypto'
import { type BackendName, TreeWatcher } from '@syncline/inotify'
import { type Expression, Filter, type FilterRule, parent, printable, type RawPath, SourceTree } from '@syncline/rsync'
import type { Logger } from 'pino'
import type { Action } from './actions.js'
import type { Mark, Notice } from './dirty.js'
import { ConfigError } from './errors.js'
import { FailureFile } from './failure-file.js'
import { RootGuard } from './guard.js'
import { HintReader } from './hint-reader.js'
import type { Journal, Kept } from './journal.js'
import { LinkIndex } from './links.js'
import { type Schedule, Timetable } from './schedule.js'
import { type Comparison, Snapshot } from './snapshot.js'
import { Target, type TargetContext, type TargetOptions, type TargetStatus } from './target.js'
import { Teller } from './teller.js'

const STOP_GRACE_MS = 30_000
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
  /** How the source is watched. */
  watch: 'auto' | BackendName
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
  /** Null before it is watched. */
  watchedBy: BackendName | null
  /** Directories with inotify, filesystems with fanotify. */
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
  readonly #teller: Teller
  readonly #hints: HintReader
  /** How many names the source has, when that is known. */
  readonly #names = { count: 0 }
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
    this.#teller = new Teller(options.source, options.actions, this.#context, log)
    this.targets = options.targets.map((one) => new Target(one, this.#context))
    this.#snapshot = new Snapshot({
      source: this.#source,
      filter: this.#filter,
      links: this.#links,
      guard: this.#guard,
      journal,
      drainedAtMs: () => this.#watcher?.drainedAtMs ?? 0,
      calm: () => this.targets.every((target) => target.owed === 0),
      mark: (notice) => this.#hints.markAll(notice),
    })
    this.#hints = new HintReader({
      options,
      links: this.#links,
      snapshot: this.#snapshot,
      targets: () => this.targets,
      teller: this.#teller,
      onTree: (path, overflow) => this.#markTree(path, overflow),
      onUnmounted: (path) => this.#unmountedBelow(path),
      onRoot: (state) => this.#rootChanged(state),
    })
  }

  /** Watches first, then each target's full sync: what changes in between is seen. */
  async start(): Promise<void> {
    const { source } = this.options
    this.#watcher = await TreeWatcher.open(Buffer.from(source, 'latin1'), {
      backend: this.options.watch,
      exclude: (path, directory) => this.#filter.excludes(path as string as RawPath, directory),
      onHints: (hints) => this.#hints.read(hints),
      onError: (error) => this.onFatal(error),
      onNotice: (line) => this.log.warn(line),
    })
    const { backend, reason } = this.#watcher.choice
    this.log.info(`${printable(source)} is watched by ${backend}: ${reason}`)
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
    const trees = notices.filter(({ scope }) => scope === 'tree').length
    return trees > TREES_MAX || notices.length > Math.max(DIFFERENT_MIN, names / 10) ? null : comparison
  }

  async #startTarget(target: Target, comparison: Comparison | null): Promise<void> {
    // At once, so that it is in the journal before the snapshot tells of it no more.
    for (const notice of comparison?.notices ?? []) target.mark(notice)
    const halted = await this.journal.halted(target.name)
    if (halted !== undefined) target.halt(halted)
    const kept = await this.journal.load(target.name)
    const owed = kept.map(noticeOf)
    if (comparison === null || !(await this.#matches(target, comparison))) {
      const always = this.options.initialSync !== 'never' || this.journal.lost
      this.journal.setSynced(target.name, undefined)
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
    this.#snapshot.begin()
    // Records of an earlier run may be of a time when the target was something else.
    void this.#snapshot.complete.then(() => {
      if (this.targets.includes(target)) this.journal.setSynced(target.name, this.#meaning(target))
    })
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
    for (const { name } of leaving) {
      if (coming.some((target) => target.name === name)) continue
      // Should it ever come back, it is another.
      this.journal.setSynced(name, undefined)
      this.journal.setHalted(name, undefined)
      this.journal.setPlace(name, undefined)
      await this.journal.prune(name, () => false)
    }
    await this.journal.flush().catch(() => undefined)
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
    this.#hints.markAll({
      path: '' as RawPath,
      scope: 'tree',
      quick: true,
      scheduled: this.options.fullSyncRules.length > 0,
    })
  }

  /** Something is done at one target: when it is at all that can be reached, whoever wants to know is told. */
  #act({ path, content, quick, scope }: Mark): void {
    if (this.#teller.idle || !content || quick || path === '') return
    if (this.targets.some((target) => target.state === 'mirroring' && target.owesAt(path))) return
    if (scope === 'entry') this.#teller.tell(path)
    else this.#teller.tellTree(path)
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
      watchedBy: this.#watcher?.choice.backend ?? null,
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
    await this.#teller.close()
    await this.journal.close()
  }

  #markTree(path: RawPath, overflow: boolean): void {
    if (!overflow) return this.#hints.markAll({ path, scope: 'tree' })
    this.log.warn('events were lost, or the source was away for a moment: looking everywhere')
    this.#hints.markAll({ path, scope: 'tree', quick: true, sinceMs: this.#watcher?.drainedAtMs ?? 0 })
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
