import { setTimeout as sleep } from 'node:timers/promises'
import {
  ancestors,
  type Credentials,
  type FileEntry,
  FileError,
  isRegular,
  ProtocolError,
  parent,
  printable,
  type RawPath,
  RemoteError,
  SystemError,
  TransferError,
  type TransferReport,
} from '@syncline/rsync'
import type { Batch } from './batch.js'
import { DeletionHold } from './deletion-hold.js'
import type { Limit } from './deletion-limit.js'
import { type Delivered, Delivery, InTransferError, isConnectionLoss, type SourceView } from './delivery.js'
import type { Destination } from './destination.js'
import { DirtySet, InFlight, type Kind, type Mark, type Notice } from './dirty.js'
import { HaltError } from './errors.js'
import type { Extent, Journal } from './journal.js'
import type { Departure } from './links.js'
import type { Move } from './moves.js'
import { Place } from './place.js'

const ROOT = '' as RawPath
const BATCH_MAX = 5_000
const LARGE_BATCH_MAX = 16
/** Single paths that fail one after the other before we take it for the target's trouble and not theirs. */
const ISOLATE_MAX = 32
const LOST_MAX = 3
const SWEEP_MAX = 1_000
const CLOSE_MS = 2_000
/** Renames that wait; further ones are a deletion and something new. */
const MOVES_MAX = 100

export type TargetState = 'connecting' | 'full-sync' | 'mirroring' | 'backing-off' | 'refused' | 'halted'

export interface TargetOptions {
  destination: Destination
  credentials: Credentials | undefined
  /** Where the password was read, when it was a file. */
  passwordFile: string | undefined
  delete: boolean
  /** Halt rather than delete more names than this at once. */
  maxDelete: Limit | undefined
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
export interface TargetContext extends SourceView {
  journal: Journal
  /** Whether events wait that may be about what was marked just now. */
  hasMoreHints: () => boolean
  /** Called for each mark that is done. */
  onDone: (mark: Mark) => void
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
  kind: 'small' | 'bulk' | 'move'
  order: number
  /** Directories that a batch listed later than ours has finished with: ours would set them back. */
  overtaken: Set<RawPath>
  /** Files with several names of which another batch listed one, too, while ours was on its way. */
  tangled: Set<string>
  batch: Batch | undefined
}

const FAILURES_SHOWN = 100

/** One destination: what it owes, its sessions, its pace, its failures. It shares no fate with other targets. */
export class Target {
  readonly #dirty = new DirtySet()
  readonly #inFlight = new InFlight()
  readonly #flying = new Map<RawPath, Mark>()
  readonly #lanes = new Set<Lane>()
  readonly #delivery: Delivery
  readonly #hold = new DeletionHold()
  readonly #moves: Move[] = []
  /** The paths of `#moves`, and of the one on its way. */
  readonly #moving = new InFlight()
  /** Directories that were moved, and whose content is to be compared rather than sent. */
  readonly #moved = new Set<RawPath>()
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
    this.#delivery = new Delivery(options, context, this.#place())
  }

  /** A local directory that is another one than before has nothing of what the target had. */
  #place(): Place | undefined {
    const { local, path } = this.options.destination.remote
    if (local !== true) return undefined
    const { journal, log } = this.context
    const memory = {
      load: () => journal.place(this.name),
      keep: (text: string | undefined) => journal.setPlace(this.name, text),
    }
    return new Place(path as RawPath, memory, () => {
      log.warn({ target: this.name }, `${this.name} is another directory than before: everything is compared`)
      this.mark({ path: ROOT, scope: 'tree', quick: true })
    })
  }

  get name(): string {
    return this.options.destination.name
  }

  get state(): TargetState {
    return this.#state
  }

  /** How many paths are owed. */
  get owed(): number {
    return this.#dirty.size + this.#flying.size + this.#moves.length
  }

  /** Whether it was equal to the source once, and owes all that has changed since. */
  get fullySynced(): boolean {
    return this.#fullySynced
  }

  /** Whether the first full sync is done. */
  get announced(): boolean {
    return this.#announced
  }

  /** One session to see whether the daemon takes us at all; it is kept for the first changes. */
  probe(): Promise<void> {
    return this.#delivery.probe()
  }

  /** Whether these files of the source are at the target as they are here: it is as we have left it. */
  matches(sample: readonly RawPath[]): Promise<boolean> {
    return this.#delivery.matches(sample)
  }

  /**
   * Begins with a full sync, or without one. `owed` is what is known to differ; `equal` says that nothing else does.
   */
  start(fullSync: boolean, owed: readonly Notice[], equal = fullSync): void {
    // Whoever had this place before may have said that they were done.
    for (const mark of this.#dirty) this.context.journal.owed(this.name, mark.path, this.#extentOf(mark))
    for (const notice of owed) this.mark(notice)
    this.#first = new Set([ROOT])
    this.#fullySynced = equal
    // Without a full sync the root's attributes alone show that changes can flow.
    this.mark(fullSync ? { path: ROOT, scope: 'tree', quick: true } : { path: ROOT, content: false })
  }

  mark(notice: Notice): void {
    const mark = this.#dirty.mark(notice, Date.now())
    this.context.journal.owed(this.name, mark.path, this.#extentOf(mark))
    this.#kick()
  }

  /**
   * A name was moved. When the target has it under the old one, it is given the new one there instead of being sent
   * again; false means that both have been marked as any other change. `from` itself must not be marked before.
   */
  move(move: Move): void {
    const { from, to, directory } = move
    if (!this.#mayMove(move)) {
      this.mark({ path: from })
      return this.mark(directory ? { path: to, scope: 'tree' } : { path: to })
    }
    // What is owed below the old name is below the new one by now.
    if (directory) {
      for (const mark of [...this.#dirty, ...this.#flying.values()]) {
        if (!mark.path.startsWith(`${from}/`)) continue
        const { scope, content } = mark
        this.mark({ path: `${to}${mark.path.slice(from.length)}` as RawPath, scope, content })
      }
      if (this.#moved.size >= MOVES_MAX) this.#moved.clear() // then they are sent
      this.#moved.add(to)
    }
    this.#dirty.delete(from)
    // After a crash in between, what is at `from` then may be linked to `to`: it is sent whole, which ends that.
    this.context.journal.owed(this.name, from, 'whole')
    this.context.journal.owed(this.name, to, directory ? 'tree' : 'entry')
    this.#moves.push(move)
    for (const path of [from, to]) this.#moving.add(path)
    this.#kick()
  }

  /** A directory that was moved is watched in its new place: what changed in between is to be found. */
  arrived(path: RawPath): void {
    this.mark({ path, scope: 'tree', quick: this.#moved.delete(path) })
  }

  /** Whether `path` is owed or on its way, and so not at the target as it was at the source. */
  owes(path: RawPath): boolean {
    return (this.#dirty.get(path) ?? this.#flying.get(path))?.content === true
  }

  #mayMove({ from, to, directory }: Move): boolean {
    // With -u the receiver keeps what is newer, and without deletions it would keep one file under two names.
    if (this.#stopping || !this.options.delete || this.options.update || this.#moves.length >= MOVES_MAX) return false
    if (this.#state === 'halted' || this.#moving.conflicts(from) || this.#moving.conflicts(to)) return false
    if (!directory && this.owes(from)) return false
    for (const path of [from, to]) {
      for (const above of [ROOT, ...ancestors(path), path]) {
        const mark = this.#dirty.get(above) ?? this.#flying.get(above)
        if (mark !== undefined && mark.scope !== 'entry') return false
      }
    }
    // Then the target may have something at `to` that looks like what comes there.
    return !directory || !this.#owesWithin(to)
  }

  /** Whether anything at all is to be done for this path. */
  owesAt(path: RawPath): boolean {
    return this.#dirty.get(path) !== undefined || this.#flying.has(path) || this.#moving.conflicts(path)
  }

  #owesWithin(dir: RawPath): boolean {
    for (const { path } of [...this.#dirty, ...this.#flying.values()])
      if (path === dir || path.startsWith(`${dir}/`)) return true
    return false
  }

  /** What to keep of a mark: no less than of the one that is on its way. */
  #extentOf(mark: Mark): Extent {
    const wide = [mark, this.#flying.get(mark.path)].filter((one) => one !== undefined && one.scope !== 'entry')
    if (wide.length === 0) return 'entry'
    // What was to be sent whole may look like what is at the target.
    return wide.some((one) => one?.quick === false) ? 'whole' : 'tree'
  }

  /** Something is gone that may be back in a moment. */
  postpone(path: RawPath, ms: number): void {
    this.#dirty.postpone(path, Date.now() + ms)
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
    this.context.journal.setHalted(this.name, reason)
    this.context.log.error({ target: this.name }, `halted: ${reason}`)
  }

  /** Someone has looked: go on, with a full sync, because nobody knows what was missed. */
  resume(): void {
    this.#resumeAtMs = 0
    this.#dirty.wakeAll()
    this.#hold.release()
    this.#delivery.pool.retryNow()
    if (this.#delivery.place?.accept()) this.mark({ path: ROOT, scope: 'tree', quick: true })
    if (this.#state === 'halted') {
      this.#delivery.resume(this.#reason)
      this.context.journal.setHalted(this.name, undefined)
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
      owed: this.owed,
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
    this.#delivery.pool.stopOpening()
    if (this.#lanes.size > 0) {
      const timer = setTimeout(() => this.#delivery.abort(), graceMs)
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
      clearTimeout(timer)
    }
    // Whoever hangs is not waited for.
    await Promise.race([this.#delivery.pool.close(), sleep(CLOSE_MS)])
  }

  /** Once per turn, after all hints of a read have been marked. */
  #kick(): void {
    if (this.#pumping) return
    this.#pumping = true
    queueMicrotask(() => {
      // A name that was closed a moment ago is often gone again, or another file: once, that is waited for.
      if (this.context.hasMoreHints()) setImmediate(() => this.#pumpNow())
      else this.#pumpNow()
    })
  }

  #pumpNow(): void {
    this.#pumping = false
    this.#pump()
  }

  /** Starts what can start: one lane of small changes, and lanes for large files and long trees. */
  #pump(): void {
    const nowMs = Date.now()
    if (this.#first === undefined || this.#stopping || this.#state === 'halted') return
    const nextMs = this.#dirty.wakeRested(nowMs)
    if (nowMs < this.#resumeAtMs) return this.#wakeAt(this.#resumeAtMs)
    if (nextMs !== null) this.#wakeAt(nextMs)
    this.#announce()
    if (this.#dirty.size === 0 && this.#flying.size === 0) this.#delivery.settled()
    this.#startMove()
    if (!this.#release(nowMs) || this.#dirty.dueSize === 0) return
    this.#startLane('small', 1, BATCH_MAX, 'plain')
    this.#startLane('bulk', Math.max(1, this.options.sessions - 1), LARGE_BATCH_MAX, 'large')
    // While a tree is being removed, a comparison would remove from the target what has gone so far.
    if (this.#hold.massive) return
    this.#startLane('bulk', Math.max(1, this.options.sessions - 1), 1, 'tree')
    this.#startLane('small', 1, BATCH_MAX, 'level')
  }

  /** Lets deletions go that have waited long enough. False when it halted instead. */
  #release(nowMs: number): boolean {
    const releaseMs = this.#hold.releaseAtMs
    if (releaseMs === null) return true
    if (nowMs < releaseMs) {
      this.#wakeAt(releaseMs)
      return true
    }
    try {
      this.#delivery.checkCount(this.#dirty.heldSize)
    } catch (error) {
      if (!(error instanceof HaltError)) throw error
      this.halt(error.message)
      return false
    }
    this.#hold.release()
    this.#dirty.releaseHeld()
    return true
  }

  #startLane(kind: Lane['kind'], most: number, batchMax: number, kinds: Kind): void {
    while ([...this.#lanes].filter((lane) => lane.kind === kind).length < most) {
      const marks = this.#dirty.take(
        kinds,
        batchMax,
        ({ path }) => !this.#inFlight.conflicts(path) && !this.#moving.conflicts(path),
      )
      if (marks.length === 0) return
      const lane: Lane = { kind, order: 0, overtaken: new Set(), tangled: new Set(), batch: undefined }
      this.#lanes.add(lane)
      for (const mark of marks) {
        this.#inFlight.add(mark.path)
        this.#flying.set(mark.path, mark)
      }
      void this.#run(lane, marks)
    }
  }

  /** Starts the next rename, when nothing is on its way to either name. One at a time. */
  #startMove(): void {
    const [move] = this.#moves
    if (move === undefined || [...this.#lanes].some(({ kind }) => kind === 'move')) return
    if (this.#inFlight.conflicts(move.from) || this.#inFlight.conflicts(move.to)) return
    const lane: Lane = {
      kind: 'move',
      order: ++this.#order,
      overtaken: new Set(),
      tangled: new Set(),
      batch: undefined,
    }
    this.#lanes.add(lane)
    void this.#runMove(lane, move)
  }

  async #runMove(lane: Lane, move: Move): Promise<void> {
    const { from, to, directory } = move
    try {
      await this.#delivery.move(from, to)
    } catch (error) {
      // A list that a receiver cannot take is not worth a second try: what it was for is sent.
      if (isConnectionLoss(error) || error instanceof HaltError || !(error instanceof Error)) this.#trouble(error)
      else this.context.log.debug({ target: this.name }, `${printable(from)} is not renamed but sent: ${error.message}`)
    }
    this.#moves.shift()
    for (const path of [from, to]) this.#moving.delete(path)
    this.#lanes.delete(lane)
    // A file may have taken the place of another that looks the same: its content is compared, which needs no sending.
    this.mark(directory ? { path: to, scope: 'tree', quick: true } : { path: to })
    this.mark({ path: from, waited: true, moved: true })
    this.context.journal.owed(this.name, from, 'whole')
    this.#delivery.pool.refill()
    if (this.#lanes.size === 0) this.#idle?.()
    this.#pump()
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
    this.#delivery.pool.refill()
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
      const rest = this.#acknowledgeArrived(marks, error, settle)
      if (rest.length === 0 && !isConnectionLoss(error.cause)) return
      marks = rest
      outcome = {
        errors: [this.#complaint(error.cause)],
        failed: new Map(),
        again: [],
        held: new Set(),
        died: true,
      }
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

  /** A transfer that ended early has delivered what the receiver has confirmed. Returns the other marks. */
  #acknowledgeArrived(marks: Mark[], { arrived }: InTransferError, settle: (mark: Mark) => void): Mark[] {
    const isDone = ({ scope, path }: Mark) => scope === 'entry' && arrived.has(path)
    const outcome: Outcome = { errors: [], failed: new Map(), again: [], held: new Set(), died: true }
    for (const mark of marks.filter(isDone)) {
      this.#acknowledge(mark, settle, outcome)
      this.mark({ path: parent(mark.path), content: false }) // its time is set in the end
    }
    return marks.filter((mark) => !isDone(mark))
  }

  /** The text of an error that may be about something in the list; rethrows what is not. */
  #complaint(error: unknown): string {
    if (this.#stopping || !(error instanceof Error)) throw error
    // A list that ends its session each time it is sent has something in it that does; once may be the network.
    if (isConnectionLoss(error) && ++this.#lost <= LOST_MAX) throw error
    if (error instanceof RemoteError && error.permanent) throw error
    if (isConnectionLoss(error) || error instanceof RemoteError || error instanceof ProtocolError) return error.message
    // What the receiver asks for is more than we may hold for it.
    if (error instanceof TransferError) return error.message
    throw error
  }

  async #sendOnce(lane: Lane, marks: readonly Mark[]): Promise<Outcome> {
    const [{ plain, attempts }] = marks
    let delivered: Delivered
    try {
      delivered = await this.#delivery.send({
        marks,
        bulk: lane.kind === 'bulk',
        alone:
          marks.length === 1 &&
          this.#dirty.size === 0 &&
          this.#flying.size === 1 &&
          plain &&
          attempts === 0 &&
          this.#announced &&
          this.#fullySynced,
        holdsBack: (mark) => !mark.waited && !this.#stopping,
        onSession: () => {
          if (this.#state !== 'halted') this.#setState(this.#announced ? 'mirroring' : 'full-sync')
          lane.order = ++this.#order
        },
        onListed: (batch) => {
          lane.batch = batch
          if (this.#state === 'halted') throw new HaltError(this.#reason ?? 'halted')
        },
      })
    } catch (error) {
      if (error instanceof InTransferError && isConnectionLoss(error.cause)) this.#sweep(error.batch)
      throw error
    }
    const { batch, report } = delivered
    for (const path of batch.large) this.mark({ path, large: true })
    if (report !== undefined) this.#noteProgress(delivered, report, marks)
    return outcomeOf(batch, report, marks)
  }

  /** A receiver that dies leaves its temporary files behind: list the directories that it worked in. */
  #sweep(batch: Batch): void {
    if (!this.options.delete || this.#stopping) return
    const directories = new Set<RawPath>()
    for (const entry of batch.entries) if (isRegular(entry.mode)) directories.add(parent(entry.path))
    if (directories.size > SWEEP_MAX) this.mark({ path: ROOT, scope: 'tree', quick: true })
    else for (const path of directories) this.mark({ path, scope: 'level', quick: true })
  }

  /** What a session found out beyond success: large files put off, files that changed meanwhile. */
  #noteProgress({ batch, coarse, unlisted }: Delivered, report: TransferReport, marks: readonly Mark[]): void {
    this.#sent += report.sent
    this.#deleted += report.deleted
    this.#bytesWritten += report.bytesWritten
    for (const path of unlisted) this.mark({ path })
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
    if (mark.path === ROOT && mark.scope === 'tree')
      void this.context.journal.prune(this.name, (path) => this.owesAt(path))
    if (outcome.held.has(mark)) {
      this.#hold.add(Date.now())
      return this.#dirty.hold(mark, Date.now())
    }
    this.#first?.delete(mark.path)
    if (outcome.again.includes(mark.path)) {
      this.#dirty.putBack({ ...mark, quick: mark.scope !== 'entry', reason: null }, Date.now())
    } else if (this.#dirty.get(mark.path) === undefined) {
      this.context.journal.done(this.name, mark.path)
      this.context.onDone(mark)
    }
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
        waited: false,
        moved: false,
        scheduled: false,
        sinceMs: nowMs,
        dueMs: nowMs,
        attempts,
        reason,
      },
      reason,
      nowMs,
    )
    if (this.#dirty.get(path) !== undefined)
      this.context.journal.owed(this.name, path, this.#extentOf(this.#dirty.get(path)!))
  }

  /** The session as a whole failed: wait, say so, and go on when it is worth it. */
  #trouble(error: unknown): void {
    const cause = error instanceof InTransferError ? error.cause : error
    if (this.#stopping) return
    if (cause instanceof HaltError) return this.halt(cause.message)
    if (!(cause instanceof Error)) throw cause
    const ours = cause instanceof FileError || cause instanceof SystemError || cause instanceof TransferError
    if (!ours && !(cause instanceof RemoteError) && !isConnectionLoss(cause) && !(cause instanceof ProtocolError))
      throw cause
    const state = cause instanceof RemoteError && cause.permanent ? 'refused' : 'backing-off'
    const retryAtMs = Math.max(this.#delivery.pool.retryAtMs, Date.now() + 500)
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
    this.#untangle(lane)
    for (const other of this.#lanes) {
      if (other.order < lane.order) for (const path of parents) other.overtaken.add(path)
    }
  }

  /** Two sessions at work on names of one file may leave them two files: whoever ends last sends them once more. */
  #untangle({ batch, tangled }: Lane): void {
    const others = [...this.#lanes].filter((other) => other.batch !== undefined)
    for (const { path, linkGroup } of batch?.entries ?? []) {
      if (linkGroup === '') continue
      if (tangled.has(linkGroup)) this.mark({ path })
      for (const other of others) if (other.batch!.linkGroups.has(linkGroup)) other.tangled.add(linkGroup)
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
}

interface Outcome {
  /** The receiver's, which name no path that we could trust. */
  errors: string[]
  /** What we could not look at, by path: a directory above is not done until it can be. */
  failed: Map<RawPath, string>
  /** Gone between look and read: to be looked at again. */
  again: RawPath[]
  /** Gone, and to be deleted later. */
  held: ReadonlySet<Mark>
  /** The session ended before its end. */
  died: boolean
}

function outcomeOf(batch: Batch, report: TransferReport | undefined, marks: readonly Mark[]): Outcome {
  const failed = new Map<RawPath, string>()
  const again: RawPath[] = []
  for (const error of batch.failed) failed.set(error.path as RawPath, error.message)
  for (const error of report?.failed ?? []) if (error.vanished) again.push(error.path as RawPath)
  const errors = [...(report?.errors ?? [])]
  for (const [path, reason] of report?.refused ?? []) {
    // What is above the marks is listed with them: whoever is to blame for it must be found.
    const known = marks.some((mark) => isAtOrBelow(mark, path))
    if (known && !(marks.length === 1 && marks[0].plain)) failed.set(path, reason)
    else errors.push(reason)
  }
  return { errors, failed, again, held: new Set(batch.held), died: false }
}

function failureBelow(mark: Mark, failed: ReadonlyMap<RawPath, string>): string | null {
  for (const [path, reason] of failed) {
    if (isAtOrBelow(mark, path)) return reason
  }
  return null
}

const isAtOrBelow = (mark: Mark, path: RawPath) =>
  path === mark.path || (mark.scope !== 'entry' && (mark.path === '' || path.startsWith(`${mark.path}/`)))

const changedSince = (entry: FileEntry, sinceMs: number) => entry.mode !== 0 && entry.mtime * 1000 >= sinceMs
