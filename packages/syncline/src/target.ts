import {
  ancestors,
  ConnectError,
  type Credentials,
  type FileEntry,
  FileError,
  type Filter,
  isDirectory,
  isRegular,
  Pace,
  ProtocolError,
  parent,
  printable,
  type RawPath,
  RemoteError,
  Session,
  SessionPool,
  type SourceTree,
  SystemError,
  TimeoutError,
  type TransferReport,
} from '@syncline/rsync'
import type { Logger } from 'pino'
import { type Batch, buildBatch } from './batch.js'
import { DeletionLimit } from './deletion-limit.js'
import type { Destination } from './destination.js'
import { DirtySet, InFlight, type Kind, type Mark, type Notice } from './dirty.js'
import { HaltError } from './errors.js'
import type { RootGuard } from './guard.js'
import type { Journal } from './journal.js'
import type { Departure, LinkIndex } from './links.js'
import { MUCH_WORK, releaseSoon } from './memory.js'
import { transferSplit } from './split.js'

const ROOT = '' as RawPath
const BATCH_MAX = 5_000
const LARGE_BYTES = 8 << 20
const LARGE_BATCH_MAX = 16
/** Single paths that fail one after the other before we take it for the target's trouble and not theirs. */
const ISOLATE_MAX = 32
const LOST_MAX = 3
const SWEEP_MAX = 1_000
const AHEAD_BYTES = 64 << 10
const SOURCE_EMPTY =
  'the source is empty: the target keeps what it has. Put the source back, or run "syncline resume" to let the target become empty, too'

export type TargetState = 'connecting' | 'full-sync' | 'mirroring' | 'backing-off' | 'refused' | 'halted'

export interface TargetOptions {
  destination: Destination
  credentials: Credentials | undefined
  /** Where the password was read, when it was a file. */
  passwordFile: string | undefined
  delete: boolean
  /** Halt rather than delete more names than this at once. */
  maxDelete: number | undefined
  compress: boolean
  /** Leave files alone that are newer at the target (rsync's -u). */
  update: boolean
  /** Bytes a second; 0 for no limit. */
  rate: number
  /** Sessions of this target at work at once; as many are kept ready. */
  sessions: number
  timeoutMs: number
}

/** What a target shares with the other targets of its source. */
export interface TargetContext {
  source: SourceTree
  filter: Filter
  links: LinkIndex
  guard: RootGuard
  journal: Journal
  log: Logger
  /** Called once, when the first full sync is done and changes flow. */
  onMirroring: (target: Target) => void
}

export interface Failure {
  path: string
  reason: string
  attempts: number
  retryAtMs: number
}

export interface TargetStatus {
  name: string
  state: TargetState
  /** Why it is halted, refused or backing off. */
  reason: string | null
  owed: number
  /** Age of the oldest change that is not at the target yet. */
  lagMs: number
  failures: Failure[]
  lastError: string | null
  sent: number
  deleted: number
  bytesWritten: number
  sessions: number
}

/** A batch on its way. Directories above its names are listed, too, with what they were at `listed`. */
interface Lane {
  kind: 'small' | 'bulk'
  order: number
  /** Directories that a batch listed later than ours has finished with: ours would set them back. */
  overtaken: Set<RawPath>
  batch: Batch | undefined
}

const FAILURES_SHOWN = 100

/** One destination: what it owes, its sessions, its pace, its failures. It shares no fate with other targets. */
export class Target {
  readonly #dirty = new DirtySet()
  readonly #inFlight = new InFlight()
  readonly #flying = new Map<RawPath, Mark>()
  readonly #lanes = new Set<Lane>()
  readonly #pool: SessionPool
  readonly #pace: Pace | undefined
  readonly #limit: DeletionLimit | undefined
  readonly #abort = new AbortController()
  #state: TargetState = 'connecting'
  #reason: string | null = null
  #lastError: string | null = null
  #timer: NodeJS.Timeout | undefined
  #timerAtMs = 0
  #pumping = false
  #stopping = false
  #resumeAtMs = 0
  #lost = 0
  #order = 0
  #announced = false
  #fullySynced = false
  /** A session has shown that the daemon is new enough to compare nanoseconds. */
  #nanoseconds = false
  #emptyAllowed = false
  /** Marks of the first full sync that are still owed; the mirror is announced when none is. */
  #first: Set<RawPath> | undefined
  /** What ended its session the last time that it was sent. */
  readonly #died = new Set<RawPath>()
  #sent = 0
  #deleted = 0
  #bytesWritten = 0
  #idle: (() => void) | undefined

  constructor(
    readonly options: TargetOptions,
    readonly context: TargetContext,
  ) {
    this.#limit = options.maxDelete === undefined ? undefined : new DeletionLimit(options.maxDelete)
    this.#pace = options.rate > 0 ? new Pace(options.rate) : undefined
    this.#pool = new SessionPool(
      (signal) => this.#open({ ignoreTimes: true }, signal),
      options.sessions,
      context.source,
    )
  }

  get name(): string {
    return this.options.destination.name
  }

  get state(): TargetState {
    return this.#state
  }

  /** Whether the first full sync is done. */
  get announced(): boolean {
    return this.#announced
  }

  /** One session to see whether the daemon takes us at all; it is kept for the first changes. */
  async probe(): Promise<void> {
    const session = await this.#pool.acquire()
    try {
      this.#nanoseconds = session.canCompareNanoseconds
      await session.refusal()
    } finally {
      if (session.alive) this.#pool.giveBack(session)
      else session.destroy()
    }
  }

  /** Begins with a full sync, or without one. `owed` is what the journal kept. */
  start(fullSync: boolean, owed: readonly Notice[]): void {
    for (const notice of owed) this.mark(notice)
    this.#first = new Set([ROOT])
    this.#fullySynced = fullSync
    // Without a full sync the root's attributes alone show that changes can flow.
    this.mark(fullSync ? { path: ROOT, scope: 'tree', quick: true } : { path: ROOT, content: false })
  }

  mark(notice: Notice): void {
    const mark = this.#dirty.mark(notice, Date.now())
    this.context.journal.owed(this.name, mark.path, mark.scope !== 'entry')
    this.#kick()
  }

  /** A name left while it was owed: what changed is to be found under the file's other names. */
  departed({ path, others }: Departure): void {
    const owed = this.#dirty.get(path) ?? this.#flying.get(path)
    if (owed === undefined) return
    const names = others()
    if (names === null) this.mark({ path: ROOT, scope: 'tree', quick: true })
    else for (const other of names) this.mark({ path: other, content: owed.content })
  }

  /** Stops everything that could harm until `resume`. */
  halt(reason: string): void {
    if (this.#state === 'halted') return
    this.#state = 'halted'
    this.#reason = reason
    this.context.log.error({ target: this.name }, `halted: ${reason}`)
  }

  /** Someone has looked: go on, with a full sync, because nobody knows what was missed. */
  resume(): void {
    this.#resumeAtMs = 0
    this.#dirty.wakeAll()
    this.#pool.retryNow()
    if (this.#state === 'halted') {
      // To let an empty source empty the target takes a resume that was asked for just that.
      this.#emptyAllowed = this.#reason === SOURCE_EMPTY
      this.#limit?.lift()
      this.#setState('connecting')
      this.context.log.info({ target: this.name }, 'resumed')
      this.mark({ path: ROOT, scope: 'tree', quick: true })
    }
    this.#pump()
  }

  status(): TargetStatus {
    const nowMs = Date.now()
    let sinceMs = nowMs
    const failures: Failure[] = []
    for (const mark of [...this.#dirty, ...this.#flying.values()]) {
      sinceMs = Math.min(sinceMs, mark.sinceMs)
      if (mark.reason === null || failures.length >= FAILURES_SHOWN) continue
      failures.push({
        path: printable(mark.path) || '.',
        reason: mark.reason,
        attempts: mark.attempts,
        retryAtMs: mark.dueMs,
      })
    }
    return {
      name: this.name,
      state: this.#state,
      reason: this.#reason,
      owed: this.#dirty.size + this.#flying.size,
      lagMs: nowMs - sinceMs,
      failures,
      lastError: this.#lastError,
      sent: this.#sent,
      deleted: this.#deleted,
      bytesWritten: this.#bytesWritten,
      sessions: this.#lanes.size,
    }
  }

  /** Finishes what is in flight, for at most `graceMs`; what is still owed stays in the journal. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#timer)
    this.#pool.stopOpening()
    if (this.#lanes.size > 0) {
      const timer = setTimeout(() => this.#abort.abort(), graceMs)
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
      clearTimeout(timer)
    }
    await this.#pool.close()
  }

  /** Once per turn, after all hints of a read have been marked. */
  #kick(): void {
    if (this.#pumping) return
    this.#pumping = true
    queueMicrotask(() => {
      this.#pumping = false
      this.#pump()
    })
  }

  /** Starts what can start: one lane of small changes, and lanes for large files and long trees. */
  #pump(): void {
    const nowMs = Date.now()
    if (this.#stopping || this.#state === 'halted') return
    const nextMs = this.#dirty.wakeRested(nowMs)
    if (nowMs < this.#resumeAtMs) return this.#wakeAt(this.#resumeAtMs)
    if (nextMs !== null) this.#wakeAt(nextMs)
    this.#announce()
    if (this.#dirty.size === 0 && this.#flying.size === 0) this.#limit?.restore()
    if (this.#dirty.dueSize === 0) return
    this.#startLane('small', 1, BATCH_MAX, 'plain')
    this.#startLane('bulk', Math.max(1, this.options.sessions - 1), LARGE_BATCH_MAX, 'large')
    this.#startLane('bulk', Math.max(1, this.options.sessions - 1), 1, 'tree')
    this.#startLane('small', 1, BATCH_MAX, 'level')
  }

  #startLane(kind: Lane['kind'], most: number, batchMax: number, kinds: Kind): void {
    while ([...this.#lanes].filter((lane) => lane.kind === kind).length < most) {
      const marks = this.#dirty.take(kinds, batchMax, (mark) => !this.#inFlight.conflicts(mark.path))
      if (marks.length === 0) return
      const lane: Lane = { kind, order: 0, overtaken: new Set(), batch: undefined }
      this.#lanes.add(lane)
      for (const mark of marks) {
        this.#inFlight.add(mark.path)
        this.#flying.set(mark.path, mark)
      }
      void this.#run(lane, marks)
    }
  }

  async #run(lane: Lane, marks: Mark[]): Promise<void> {
    const left = new Set(marks)
    const settle = (mark: Mark) => {
      left.delete(mark)
      this.#inFlight.delete(mark.path)
      this.#flying.delete(mark.path)
    }
    try {
      await this.#send(lane, marks, settle, { failed: 0 })
    } catch (error) {
      // Whatever went wrong, nothing is forgotten.
      const nowMs = Date.now()
      for (const mark of left) {
        settle(mark)
        this.#dirty.putBack(mark, nowMs)
      }
      this.#trouble(error)
    }
    for (const mark of left) settle(mark)
    this.#lanes.delete(lane)
    this.#finishLane(lane)
    this.#pool.refill()
    if (this.#lanes.size === 0) this.#idle?.()
    this.#pump()
  }

  /** Sends marks as one batch; when the receiver reports errors, in ever smaller ones, to find whose they are. */
  async #send(lane: Lane, marks: Mark[], settle: (mark: Mark) => void, isolation: { failed: number }): Promise<void> {
    let outcome: Outcome
    try {
      outcome = await this.#sendOnce(lane, marks)
      this.#lost = 0
    } catch (error) {
      // Before the list is sent an error is about the target or the source, not about these paths.
      if (!(error instanceof InTransferError)) throw error
      outcome = { errors: [this.#complaint(error.cause)], failed: new Map(), again: [], died: true }
    }
    if (outcome.errors.length === 0) {
      for (const mark of marks) {
        this.#died.delete(mark.path)
        this.#acknowledge(mark, settle, outcome)
      }
      isolation.failed = 0
      return
    }
    this.#lastError = outcome.errors[0]
    if (marks.length === 1 && marks[0].plain) {
      // It went ahead, perhaps wrongly: once more, in the ordinary way.
      marks[0].plain = false
      return this.#send(lane, marks, settle, isolation)
    }
    if (marks.length === 1 || isolation.failed >= ISOLATE_MAX) {
      isolation.failed += marks.length
      if (outcome.died) for (const { path } of marks) this.#died.add(path)
      if (outcome.died) this.#backOff('backing-off', outcome.errors[0], 0)
      for (const mark of marks) this.#reject(mark, settle, outcome.errors.slice(0, 3).join('; '))
      return
    }
    const half = marks.length >> 1
    await this.#send(lane, marks.slice(0, half), settle, isolation)
    await this.#send(lane, marks.slice(half), settle, isolation)
  }

  /** The text of an error that may be about something in the list; rethrows what is not. */
  #complaint(error: unknown): string {
    if (this.#stopping || !(error instanceof Error)) throw error
    // A list that ends its session each time it is sent has something in it that does; once may be the network.
    if (isConnectionLoss(error) && ++this.#lost <= LOST_MAX) throw error
    if (error instanceof RemoteError && error.permanent) throw error
    if (isConnectionLoss(error) || error instanceof RemoteError || error instanceof ProtocolError) return error.message
    throw error
  }

  async #sendOnce(lane: Lane, marks: readonly Mark[]): Promise<Outcome> {
    const { source, filter, links, guard, log } = this.context
    const { quick } = marks[0]
    const session = quick
      ? await this.#pool.acquireOther((signal) => this.#open({ ignoreTimes: false }, signal))
      : await this.#pool.acquire()
    if (this.#state !== 'halted') this.#setState(this.#announced ? 'mirroring' : 'full-sync')
    this.#nanoseconds ||= session.canCompareNanoseconds
    lane.order = ++this.#order
    let used = false
    let keepAlive: NodeJS.Timeout | undefined
    try {
      guard.enter()
      try {
        const deletion = this.#deletionIn(session)
        // A scan, and asking what would be deleted, may take longer than the daemon waits.
        keepAlive = setInterval(() => session.keepAlive(), session.keepAliveMs)
        const largeBytes = lane.kind === 'small' ? LARGE_BYTES : Number.POSITIVE_INFINITY
        const batch = await buildBatch(marks, { source, filter, links, deletion, largeBytes })
        lane.batch = batch
        if (batch.entries.some((entry) => entry.path !== '' && entry.mode !== 0)) this.#emptyAllowed = false
        for (const path of batch.large) this.mark({ path, large: true })
        if (batch.large.length === marks.length) return NOTHING
        if (this.options.delete && deletesAtTop(batch)) await this.#checkFilled(batch)
        if (deletion !== 'none') await this.#checkLimit(batch)
        if (this.#state === 'halted') throw new HaltError(this.#reason ?? 'halted')
        clearInterval(keepAlive)
        used = true
        const coarse = quick && !session.comparesNanoseconds
        const report = await this.#transfer(
          session,
          batch,
          lane.kind === 'small' || quick,
          this.#mayGoAhead(marks, batch),
        )
        if (log.isLevelEnabled('debug'))
          log.debug(
            { target: this.name, names: batch.entries.length, sent: report.sent, deleted: report.deleted },
            'batch done',
          )
        if (deletion === 'by-name' && !this.#filterIsShared) await this.#findUnlisted(batch)
        this.#noteProgress(batch, report, coarse, marks)
        return outcomeOf(batch, report)
      } finally {
        source.leave()
      }
    } finally {
      clearInterval(keepAlive)
      if (!used && quick) await session.close(source)
      else if (!used) this.#pool.giveBack(session)
    }
  }

  /**
   * A small file may be sent before it is asked for when the target surely has a regular file or nothing in its place,
   * and the directory around it: all else is acknowledged since a full sync, and this one was only created and written.
   */
  #mayGoAhead(marks: readonly Mark[], batch: Batch): boolean {
    const nothingElse = marks.length === 1 && this.#dirty.size === 0 && this.#flying.size === 1
    if (!nothingElse || !marks[0].plain || marks[0].attempts > 0) return false
    // With a filter the target may hold what we do not know of, and with -u it is the receiver that decides.
    const { rules, expressions } = this.context.filter
    if (rules.length > 0 || expressions.length > 0 || this.options.update) return false
    if (!this.#announced || !this.#fullySynced || !this.options.delete) return false
    const files = batch.entries.filter((entry) => !isDirectory(entry.mode))
    return files.length === 1 && isRegular(files[0].mode) && files[0].size <= AHEAD_BYTES && files[0].linkGroup === ''
  }

  async #transfer(session: Session, batch: Batch, deferLarge: boolean, ahead: boolean): Promise<TransferReport> {
    try {
      const report = await transferSplit(session, {
        source: this.context.source,
        entries: batch.entries,
        ioError: batch.failed.length > 0,
        defer: (entry) => deferLarge && entry.size >= LARGE_BYTES,
        ahead,
        signal: this.#abort.signal,
        spare: () => this.#pool.spare(session.openedMs),
      })
      if (batch.entries.length >= MUCH_WORK) releaseSoon()
      this.#sent += report.sent
      this.#deleted += report.deleted
      this.#bytesWritten += report.bytesWritten
      for (const line of report.notices) this.context.log.debug({ target: this.name }, line)
      return report
    } catch (error) {
      if (isConnectionLoss(error)) this.#sweep(batch)
      throw new InTransferError(error)
    }
  }

  /** A receiver that dies leaves its temporary files behind: list the directories that it worked in. */
  #sweep(batch: Batch): void {
    if (!this.options.delete || this.#stopping) return
    const directories = new Set<RawPath>()
    for (const entry of batch.entries) if (isRegular(entry.mode)) directories.add(parent(entry.path))
    if (directories.size > SWEEP_MAX) this.mark({ path: ROOT, scope: 'tree', quick: true })
    else for (const path of directories) this.mark({ path, scope: 'level', quick: true })
  }

  /** Throws HaltError when the source has become empty and the target would lose what it has. */
  async #checkFilled(batch: Batch): Promise<void> {
    if (!this.context.guard.isEmpty()) this.#emptyAllowed = false
    else if (!this.#emptyAllowed) {
      if (batch.missing > 0 || (await this.#wouldDelete(batch, false)) > 0) {
        throw new HaltError(SOURCE_EMPTY)
      }
    }
  }

  /** Throws HaltError when the batch would delete too many. Only the receiver can tell how many a directory holds. */
  async #checkLimit(batch: Batch): Promise<void> {
    if (this.#limit === undefined) return
    const deletes = batch.missing > 0 || batch.entries.some((entry) => entry.hasContent)
    if (deletes) this.#limit.take(await this.#wouldDelete(batch, !this.#filterIsShared), Date.now())
  }

  /** Asks the daemon, without changing anything, how many names it would delete. */
  async #wouldDelete(batch: Batch, keepUnlisted: boolean): Promise<number> {
    const kind = { ignoreTimes: false, dryRun: true, keepUnlisted }
    const session = await this.#pool.acquireOther((signal) => this.#open(kind, signal))
    const report = await session.transfer({
      source: this.context.source,
      entries: batch.entries,
      ioError: batch.failed.length > 0,
      signal: this.#abort.signal,
    })
    return report.deleted
  }

  /** How what is missing is deleted. rsync 3.0 can only be shown a listing, and must not be when it lacks our filter. */
  #deletionIn(session: Session): 'none' | 'by-name' | 'by-listing' {
    if (!this.options.delete) return 'none'
    if (session.deletesMissing) return 'by-name'
    return this.#filterIsShared ? 'by-listing' : 'none'
  }

  /** Whether the receiver knows all that is to be left alone; otherwise we must choose what it deletes. */
  get #filterIsShared(): boolean {
    return this.context.filter.expressions.length === 0
  }

  /** Asks what the receiver has in the directories that were listed and we have not, and marks what is not hidden. */
  async #findUnlisted(batch: Batch): Promise<void> {
    if (!batch.entries.some((entry) => entry.hasContent)) return
    const { filter, source } = this.context
    const unlisted: RawPath[] = []
    const kept = new Set<RawPath>()
    const session = await this.#pool.acquireOther((signal) => this.#open({ ignoreTimes: false, dryRun: true }, signal))
    await session.transfer({
      source,
      entries: batch.entries.filter((entry) => entry.mode !== 0),
      ioError: batch.failed.length > 0,
      onDeleted: (text, directory) => {
        const path = text as RawPath
        if (!filter.hides(path, directory)) unlisted.push(path)
        // A directory goes with all that is in it.
        else for (const dir of ancestors(path)) kept.add(dir)
      },
      signal: this.#abort.signal,
    })
    for (const path of unlisted) if (!kept.has(path)) this.mark({ path })
  }

  /** What a session found out beyond success: large files put off, files that changed meanwhile. */
  #noteProgress(batch: Batch, report: TransferReport, coarse: boolean, marks: readonly Mark[]): void {
    for (const path of report.deferred) {
      this.#first?.add(path)
      this.mark({ path, large: true })
    }
    for (const path of batch.levels) this.mark({ path, scope: 'level', quick: true })
    for (const path of report.changed) this.mark({ path })
    this.#markLinked(batch, report)
    for (const error of report.failed) if (!error.vanished) this.#fail(error.path as RawPath, error.message, marks)
    // A daemon that compares whole seconds cannot see a change within one; what changed lately is sent by name.
    const sinceMs = Math.min(...marks.map((mark) => mark.sinceMs))
    if (coarse && this.#announced) {
      for (const entry of batch.entries) if (changedSince(entry, sinceMs - 2_000)) this.mark({ path: entry.path })
    }
  }

  #acknowledge(mark: Mark, settle: (mark: Mark) => void, outcome: Outcome): void {
    const reason = failureBelow(mark, outcome.failed)
    if (reason !== null) return this.#reject(mark, settle, reason)
    settle(mark)
    this.#first?.delete(mark.path)
    if (outcome.again.includes(mark.path)) {
      this.#dirty.putBack({ ...mark, quick: mark.scope !== 'entry', reason: null }, Date.now())
    } else if (this.#dirty.get(mark.path) === undefined) this.context.journal.done(this.name, mark.path)
  }

  #reject(mark: Mark, settle: (mark: Mark) => void, reason: string): void {
    settle(mark)
    this.#lastError = reason
    if (mark.attempts === 0)
      this.context.log.warn(
        { target: this.name },
        `${printable(mark.path) || '.'}: ${reason}; it will be tried again until it succeeds`,
      )
    // A tree that failed in part is compared the next time, not sent whole again.
    this.#dirty.putBackFailed({ ...mark, quick: mark.quick || mark.scope !== 'entry' }, reason, Date.now())
  }

  /** A list sends the content of linked names once: when that one failed, the others have nothing either. */
  #markLinked(batch: Batch, report: TransferReport): void {
    const unsent = new Set<string>([...report.changed, ...report.deferred, ...report.failed.map((error) => error.path)])
    if (unsent.size === 0) return
    const groups = new Set<string>()
    for (const entry of batch.entries) if (entry.linkGroup !== '' && unsent.has(entry.path)) groups.add(entry.linkGroup)
    for (const entry of batch.entries) {
      if (groups.has(entry.linkGroup) && !unsent.has(entry.path)) this.mark({ path: entry.path })
    }
  }

  /** A file that was listed could not be read: it alone is owed, whatever mark led to it. */
  #fail(path: RawPath, reason: string, marks: readonly Mark[]): void {
    const attempts = marks.find((mark) => mark.path === path)?.attempts ?? 0
    this.#lastError = reason
    if (attempts === 0)
      this.context.log.warn({ target: this.name }, `${reason}; it will be tried again until it succeeds`)
    const nowMs = Date.now()
    this.#dirty.putBackFailed(
      {
        path,
        scope: 'entry',
        quick: false,
        content: true,
        plain: false,
        large: false,
        sinceMs: nowMs,
        dueMs: nowMs,
        attempts,
        reason,
      },
      reason,
      nowMs,
    )
    this.context.journal.owed(this.name, path, false)
  }

  /** The session as a whole failed: wait, say so, and go on when it is worth it. */
  #trouble(error: unknown): void {
    const cause = error instanceof InTransferError ? error.cause : error
    if (this.#stopping) return
    if (cause instanceof HaltError) return this.halt(cause.message)
    if (!(cause instanceof Error)) throw cause
    const ours = cause instanceof FileError || cause instanceof SystemError
    if (!ours && !(cause instanceof RemoteError) && !isConnectionLoss(cause) && !(cause instanceof ProtocolError))
      throw cause
    const state = cause instanceof RemoteError && cause.permanent ? 'refused' : 'backing-off'
    const retryAtMs = Math.max(this.#pool.retryAtMs, Date.now() + 500)
    if (this.#lastError !== cause.message || this.#state !== state) {
      this.context.log.warn({ target: this.name }, `${cause.message}; trying again`)
    }
    this.#backOff(state, cause.message, retryAtMs)
  }

  #backOff(state: 'backing-off' | 'refused', reason: string, untilMs: number): void {
    this.#lastError = reason
    if (this.#state === 'halted') return
    this.#state = state
    this.#reason = reason
    this.#resumeAtMs = untilMs
    if (untilMs > 0) this.#wakeAt(untilMs)
  }

  #finishLane(lane: Lane): void {
    const parents = lane.batch?.parents
    if (parents === undefined) return
    for (const path of parents) if (lane.overtaken.has(path)) this.mark({ path, content: false })
    for (const other of this.#lanes) {
      if (other.order < lane.order) for (const path of parents) other.overtaken.add(path)
    }
  }

  /** Says, once, that the first full sync is done: nothing of it is owed but what failed and is retried. */
  #announce(): void {
    if (this.#announced || this.#first === undefined || this.#state !== 'full-sync') return
    for (const path of this.#first) {
      if (this.#flying.has(path)) return
      const owed = this.#dirty.get(path)
      if (owed === undefined) this.#first.delete(path)
      else if (owed.attempts === 0 || this.#died.has(path)) return
    }
    this.#announced = true
    this.#setState('mirroring')
    this.context.onMirroring(this)
  }

  #setState(state: TargetState): void {
    this.#state = state
    this.#reason = null
  }

  #wakeAt(atMs: number): void {
    if (this.#timer !== undefined && this.#timerAtMs <= atMs) return
    clearTimeout(this.#timer)
    this.#timerAtMs = atMs
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        this.#pump()
      },
      Math.max(1, atMs - Date.now()),
    )
  }

  #open(
    kind: { ignoreTimes: boolean; dryRun?: boolean; keepUnlisted?: boolean },
    signal: AbortSignal,
  ): Promise<Session> {
    const { destination, credentials, compress, update, timeoutMs } = this.options
    return Session.open(
      {
        remote: destination.remote,
        credentials,
        ignoreTimes: kind.ignoreTimes,
        nanoseconds: this.#nanoseconds,
        delete: this.options.delete,
        keepUnlisted: kind.keepUnlisted ?? (!this.#filterIsShared && kind.dryRun !== true),
        rules: this.context.filter.rules,
        numericIds: true,
        compress,
        dryRun: kind.dryRun === true,
        timeoutMs,
        update,
        pace: this.#pace,
      },
      signal,
    )
  }
}

/** An error that came after the list was sent: it may be about something in the list. */
class InTransferError extends Error {
  constructor(cause: unknown) {
    super('in transfer', { cause })
  }
}

interface Outcome {
  /** The receiver's, which name no path that we could trust. */
  errors: string[]
  /** What we could not look at, by path: a directory above is not done until it can be. */
  failed: Map<RawPath, string>
  /** Gone between look and read: to be looked at again. */
  again: RawPath[]
  /** The session ended before its end. */
  died: boolean
}

const NOTHING: Outcome = { errors: [], failed: new Map(), again: [], died: false }

function outcomeOf(batch: Batch, report: TransferReport): Outcome {
  const failed = new Map<RawPath, string>()
  const again: RawPath[] = []
  for (const error of batch.failed) failed.set(error.path as RawPath, error.message)
  for (const error of report.failed) if (error.vanished) again.push(error.path as RawPath)
  return { errors: report.errors, failed, again, died: false }
}

function failureBelow(mark: Mark, failed: ReadonlyMap<RawPath, string>): string | null {
  for (const [path, reason] of failed) {
    if (path === mark.path || (mark.scope !== 'entry' && (mark.path === '' || path.startsWith(`${mark.path}/`))))
      return reason
  }
  return null
}

const isConnectionLoss = (error: unknown) => error instanceof ConnectError || error instanceof TimeoutError

/** Whether this batch can delete a name in the root itself. */
function deletesAtTop(batch: Batch): boolean {
  return batch.entries.some(
    (entry) => (entry.mode === 0 && !entry.path.includes('/')) || (entry.path === '' && entry.hasContent),
  )
}

const changedSince = (entry: FileEntry, sinceMs: number) => entry.mode !== 0 && entry.mtime * 1000 >= sinceMs
