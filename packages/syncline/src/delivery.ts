import {
  ancestors,
  ConnectError,
  compareEntries,
  type FileEntry,
  type Filter,
  ITEM,
  isDirectory,
  isRegular,
  Pace,
  printable,
  type RawPath,
  Session,
  SessionPool,
  type SourceTree,
  TimeoutError,
  type TransferReport,
} from '@syncline/rsync'
import type { Logger } from 'pino'
import { type Batch, buildBatch } from './batch.js'
import { DeletionLimit } from './deletion-limit.js'
import type { Destination } from './destination.js'
import type { Mark } from './dirty.js'
import { HaltError } from './errors.js'
import type { RootGuard } from './guard.js'
import type { LinkIndex } from './links.js'
import { MUCH_WORK, releaseSoon } from './memory.js'
import { pairedEntries } from './moves.js'
import type { Place } from './place.js'
import { transferSplit } from './split.js'
import type { TargetOptions } from './target.js'

export const LARGE_BYTES = 8 << 20
const AHEAD_BYTES = 64 << 10
export const SOURCE_EMPTY =
  'the source is empty: the target keeps what it has. Put the source back, or run "syncline resume" to let the target become empty, too'

/** The source, as every target of it sees it. */
export interface SourceView {
  source: SourceTree
  filter: Filter
  /** What scheduled comparisons use instead. */
  scheduledFilter: Filter
  links: LinkIndex
  guard: RootGuard
  log: Logger
  /** How many names the tree had when it was last listed as a whole; 0 before. */
  names: { count: number }
}

/** What is to be delivered, and how. */
export interface Order {
  marks: readonly Mark[]
  /** It may take long: files that are large go along. */
  bulk: boolean
  /** Nothing else is owed or on its way, and all that was is acknowledged since a full sync. */
  alone: boolean
  /** Whether a name that is missing is not to be deleted yet. */
  holdsBack: (mark: Mark) => boolean
  /** Told when a session is ready, before the marks are looked at. */
  onSession: () => void
  /** Told what was found, before it is sent. Throws what is to stop it. */
  onListed: (batch: Batch) => void
}

/** What came of it. */
export interface Delivered {
  batch: Batch
  /** Undefined when there was nothing to send. */
  report?: TransferReport
  /** The receiver compared whole seconds. */
  coarse: boolean
  /** What the target has, the source has not, and no filter hides: it is to be deleted by name. */
  unlisted: RawPath[]
}

/** The deliveries to one destination: each looks at marks, lists what is there, and sends it in a session. */
export class Delivery {
  readonly pool: SessionPool
  readonly #limit: DeletionLimit | undefined
  readonly #pace: Pace | undefined
  readonly #abort = new AbortController()
  /** A session has shown that the daemon is new enough to compare nanoseconds. */
  #nanoseconds = false
  #emptyAllowed = false

  constructor(
    readonly options: TargetOptions,
    readonly view: SourceView,
    /** Of a local directory. */
    readonly place: Place | undefined,
  ) {
    this.#limit = options.maxDelete === undefined ? undefined : new DeletionLimit(options.maxDelete)
    this.#pace = options.rate > 0 ? new Pace(options.rate) : undefined
    this.pool = new SessionPool((signal) => this.#open({ ignoreTimes: true }, signal), options.sessions, view.source)
  }

  get #destination(): Destination {
    return this.options.destination
  }

  /** One session to see whether the daemon takes us at all; it is kept for the first changes. */
  async probe(): Promise<void> {
    await this.place?.check()
    const session = await this.pool.acquire()
    try {
      this.#nanoseconds = session.canCompareNanoseconds
      await session.refusal()
    } finally {
      if (session.alive) this.pool.giveBack(session)
      else session.destroy()
    }
  }

  /** Ends what is on its way. */
  abort(): void {
    this.#abort.abort()
  }

  /** Somebody has looked at why it halted. To let an empty source empty the target takes a resume that was asked for just that. */
  resume(reason: string | null): void {
    this.#emptyAllowed = reason === SOURCE_EMPTY
    this.#limit?.lift()
  }

  /** All that was owed is done: what was resumed for is over. */
  settled(): void {
    this.#limit?.restore()
  }

  /** Throws HaltError when so many names are more than may be deleted at once. */
  checkCount(count: number): void {
    this.#limit?.check(count, this.view.names.count)
  }

  /**
   * Delivers one batch. Throws HaltError, and what a session says before its list is sent; InTransferError carries what
   * came after that.
   */
  async send({ marks, bulk, alone, holdsBack, onSession, onListed }: Order): Promise<Delivered> {
    const { source, links, guard, log } = this.view
    const { quick, scheduled } = marks[0]
    const filter = scheduled ? this.view.scheduledFilter : this.view.filter
    const replaced = (await this.place?.check()) === true
    const session = quick
      ? await this.pool.acquireOther((signal) => this.#open({ ignoreTimes: false, filter }, signal))
      : await this.pool.acquire()
    this.#nanoseconds ||= session.canCompareNanoseconds
    onSession()
    let keepAlive: NodeJS.Timeout | undefined
    try {
      guard.enter()
      try {
        const deletion = this.#deletionIn(session)
        // A scan, and asking what would be deleted, may take longer than the daemon waits.
        keepAlive = setInterval(() => session.keepAlive(), session.keepAliveMs)
        const largeBytes = bulk ? Number.POSITIVE_INFINITY : LARGE_BYTES
        const batch = await buildBatch(marks, { source, filter, links, deletion, largeBytes, holdsBack })
        const delivered: Delivered = { batch, coarse: quick && !session.comparesNanoseconds, unlisted: [] }
        if (batch.whole && !scheduled) this.view.names.count = batch.entries.length
        if (batch.entries.some((entry) => entry.path !== '' && entry.mode !== 0)) this.#emptyAllowed = false
        if (batch.large.length + batch.held.length < marks.length) {
          if (this.options.delete && deletesAtTop(batch)) await this.#checkFilled(batch, filter)
          if (deletion !== 'none') await this.#checkLimit(batch, filter)
        }
        onListed(batch)
        if (batch.large.length + batch.held.length === marks.length) return delivered
        clearInterval(keepAlive)
        delivered.report = await this.#transfer(session, batch, {
          deferLarge: !bulk || quick,
          ahead: alone && !replaced && this.#mayGoAhead(batch),
        })
        log.debug(
          { target: this.#destination.name, names: batch.entries.length, sent: delivered.report.sent },
          'batch done',
        )
        if (deletion === 'by-name' && !this.#filterIsShared)
          delivered.unlisted = await this.#findUnlisted(batch, filter)
        return delivered
      } finally {
        source.leave()
      }
    } finally {
      clearInterval(keepAlive)
      if (!quick) this.pool.giveBack(session)
      else if (session.ready) await session.close(source)
    }
  }

  /**
   * A small file may be sent before it is asked for when the target surely has a regular file or nothing in its place,
   * and the directory around it: all else is acknowledged, and this one was only created and written.
   */
  #mayGoAhead(batch: Batch): boolean {
    // With a filter the target may hold what we do not know of, and with -u it is the receiver that decides.
    const { rules, expressions } = this.view.filter
    if (rules.length > 0 || expressions.length > 0 || this.options.update || !this.options.delete) return false
    const files = batch.entries.filter((entry) => !isDirectory(entry.mode))
    return files.length === 1 && isRegular(files[0].mode) && files[0].size <= AHEAD_BYTES && files[0].linkGroup === ''
  }

  async #transfer(
    session: Session,
    batch: Batch,
    { deferLarge, ahead }: { deferLarge: boolean; ahead: boolean },
  ): Promise<TransferReport> {
    const arrived = new Set<RawPath>()
    try {
      const report = await transferSplit(session, {
        source: this.view.source,
        entries: batch.entries,
        ioError: batch.failed.length > 0,
        defer: (entry) => deferLarge && entry.size >= LARGE_BYTES,
        ahead,
        signal: this.#abort.signal,
        onArrived: (entry) => arrived.add(entry.path),
        spare: () => this.pool.spare(session.openedMs),
        giveBack: (spare) => this.pool.giveBack(spare),
      })
      if (batch.entries.length >= MUCH_WORK) releaseSoon()
      for (const line of report.notices) this.view.log.debug({ target: this.#destination.name }, line)
      return report
    } catch (error) {
      throw new InTransferError(error, batch, arrived)
    }
  }

  /**
   * Gives a file, or all files of a directory, that the target has at `from` the name that they have at `to`, without
   * sending anything. What is at `from` then is still to be deleted. Throws as `send` does.
   */
  async move(from: RawPath, to: RawPath): Promise<void> {
    await this.place?.check()
    if (await this.#rename(from, to)) return
    await this.#link(from, to)
  }

  /** In one operation, where the target's end is ours; not with a filter, for what it hides there stays where it is. */
  async #rename(from: RawPath, to: RawPath): Promise<boolean> {
    const { source, filter, guard } = this.view
    const { delete: deletes, update } = this.options
    if (!deletes || update || filter.rules.length > 0 || filter.expressions.length > 0) return false
    const session = await this.pool.acquire()
    try {
      if (!session.lasts) return false
      guard.enter()
      source.leave()
      const reason = await session.rename(from, to, this.#abort.signal)
      if (reason === '') return true
      this.view.log.debug({ target: this.#destination.name }, `${printable(from)} is not renamed there: ${reason}`)
      return false
    } finally {
      this.pool.giveBack(session)
    }
  }

  /** By a list in which both are names of one file: what the target lacks, or has otherwise, is left out. */
  async #link(from: RawPath, to: RawPath): Promise<void> {
    const { source, filter, guard } = this.view
    const session = await this.pool.acquireOther((signal) =>
      this.#open({ ignoreTimes: false, keepUnlisted: true }, signal),
    )
    if (!session.deletesMissing) return session.close(source)
    let keepAlive: NodeJS.Timeout | undefined
    try {
      guard.enter()
      try {
        keepAlive = setInterval(() => session.keepAlive(), session.keepAliveMs)
        const entries = await pairedEntries(source, filter, from, to)
        clearInterval(keepAlive)
        if (entries === null) return
        const { signal } = this.#abort
        await session.transfer({ source, entries, ioError: true, defer: () => true, signal })
        if (entries.length >= MUCH_WORK) releaseSoon()
      } finally {
        source.leave()
      }
    } finally {
      clearInterval(keepAlive)
      if (session.ready) await session.close(source)
    }
  }

  /** Asks, without changing anything, whether these files are there as they are here. Throws as `send` does. */
  async matches(sample: readonly RawPath[]): Promise<boolean> {
    if ((await this.place?.check()) === true) return false
    const kind = { ignoreTimes: false, dryRun: true, keepUnlisted: true }
    const session = await this.pool.acquireOther((signal) => this.#open(kind, signal))
    const { source } = this.view
    const entries = new Map<RawPath, FileEntry>()
    source.enter()
    try {
      for (const path of new Set(sample.flatMap((one) => ['' as RawPath, ...ancestors(one), one]))) {
        const entry = source.look(path)
        if (entry !== null) entries.set(path, entry)
      }
    } finally {
      source.leave()
    }
    let same = true
    const report = await session.transfer({
      source,
      entries: [...entries.values()].sort(compareEntries),
      ioError: true,
      onItem: (entry, iflags) => {
        if (iflags & (ITEM.TRANSFER | ITEM.LOCAL_CHANGE | ITEM.IS_NEW) && !isDirectory(entry.mode)) same = false
      },
      signal: this.#abort.signal,
    })
    return same && report.errors.length === 0
  }

  /** Throws HaltError when the source has become empty and the target would lose what it has. */
  async #checkFilled(batch: Batch, filter: Filter): Promise<void> {
    if (!this.view.guard.isEmpty()) this.#emptyAllowed = false
    else if (!this.#emptyAllowed) {
      if (batch.missing > 0 || (await this.#wouldDelete(batch.entries, batch, { keepUnlisted: false, filter })) > 0)
        throw new HaltError(SOURCE_EMPTY)
    }
  }

  /** Throws HaltError when the batch would delete too many. Only the receiver can tell how many a directory holds. */
  async #checkLimit(batch: Batch, filter: Filter): Promise<void> {
    if (this.#limit === undefined) return
    const counted = batch.entries.filter((entry) => entry.mode !== 0 || !batch.moved.has(entry.path))
    if (!counted.some((entry) => entry.mode === 0 || entry.hasContent)) return
    const count = await this.#wouldDelete(counted, batch, { keepUnlisted: !this.#filterIsShared, filter })
    this.#limit.take(count, this.view.names.count, Date.now())
  }

  /** Asks the daemon, without changing anything, how many names it would delete. */
  async #wouldDelete(
    entries: readonly FileEntry[],
    { failed }: Batch,
    how: { keepUnlisted: boolean; filter: Filter },
  ): Promise<number> {
    const kind = { ignoreTimes: false, dryRun: true, ...how }
    const session = await this.pool.acquireOther((signal) => this.#open(kind, signal))
    const { source } = this.view
    const report = await session.transfer({ source, entries, ioError: failed.length > 0, signal: this.#abort.signal })
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
    return this.view.filter.expressions.length === 0
  }

  /** Asks what the receiver has in the directories that were listed and we have not, and names what is not hidden. */
  async #findUnlisted(batch: Batch, filter: Filter): Promise<RawPath[]> {
    if (!batch.entries.some((entry) => entry.hasContent)) return []
    const { source } = this.view
    const unlisted: RawPath[] = []
    const kept = new Set<RawPath>()
    const session = await this.pool.acquireOther((signal) =>
      this.#open({ ignoreTimes: false, dryRun: true, filter }, signal),
    )
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
    return unlisted.filter((path) => !kept.has(path))
  }

  #open(
    kind: { ignoreTimes: boolean; dryRun?: boolean; keepUnlisted?: boolean; filter?: Filter },
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
        rules: (kind.filter ?? this.view.filter).rules,
        numericIds: true,
        compress,
        dryRun: kind.dryRun === true,
        timeoutMs,
        update,
        pace: this.#pace,
        openDirectory: this.place === undefined ? undefined : () => this.place!.open(),
      },
      signal,
    )
  }
}

/** An error that came after the list was sent: it may be about something in the list. */
export class InTransferError extends Error {
  constructor(
    cause: unknown,
    readonly batch: Batch,
    /** Files of which the receiver has said that they are in their place. */
    readonly arrived: ReadonlySet<RawPath>,
  ) {
    super('in transfer', { cause })
  }
}

export const isConnectionLoss = (error: unknown) => error instanceof ConnectError || error instanceof TimeoutError

/** Whether this batch can delete a name in the root itself. */
function deletesAtTop(batch: Batch): boolean {
  return batch.entries.some(
    (entry) => (entry.mode === 0 && !entry.path.includes('/')) || (entry.path === '' && entry.hasContent),
  )
}
