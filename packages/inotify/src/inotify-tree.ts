import type { TreeEvents, TreeStats, WatchedTree } from './backend.js'
import { BlindSpots } from './blind-spots.js'
import { Departures } from './departures.js'
import { openSafely } from './drained-queue.js'
import { asError } from './errors.js'
import { decodeEvents, IN, type InotifyEvent } from './events.js'
import { HintList } from './hint.js'
import * as kernel from './kernel.js'
import { currentLimit, mend, raiseWatches } from './limits.js'
import { isMounted, type Mount, MountWatch, mountsWithin } from './mounts.js'
import { type EventQueue, initInotify } from './queue.js'
import { isExcluded, printable, type RawPath, ROOT } from './raw-path.js'
import { cannotOpenRoot, noticeRemote, Root, remoteName } from './root.js'
import { Scan, type ScanTree } from './scan.js'
import { NONE, WatchTable, type Wd } from './watch-table.js'

const MASK =
  IN.CREATE |
  IN.DELETE |
  IN.MODIFY |
  IN.CLOSE_WRITE |
  IN.ATTRIB |
  IN.MOVED_FROM |
  IN.MOVED_TO |
  IN.ONLYDIR |
  IN.EXCL_UNLINK |
  IN.MASK_ADD // the root may be met again below itself, and is to keep what it has
const ROOT_MASK = MASK | IN.DELETE_SELF | IN.MOVE_SELF

/** What changes the time of the directory that a name is in. */
const NAME_EVENTS = IN.CREATE | IN.DELETE | IN.MOVED_FROM | IN.MOVED_TO

/** Scanning yields to the queue after this long. */
const SLICE_MS = 10
const BLIND_POLL_SECONDS = 30
const RETRY_MS = 1000
/** Beyond it, blind spots are polled as one look everywhere. */
const BLIND_HINTS_MAX = 4096
/** Begun scans that wait to go on; each may hold 32 descriptors. Further ones wait unopened. */
const BEGUN_SCANS_MAX = 8
/** Scans that wait. Beyond it they become one of the whole tree. */
const PENDING_SCANS_MAX = 65_536

type Reason = 'arrived' | 'left' | 'overflow' | 'start'

/** A scan and the hint that is due when it is complete. */
interface Arrival {
  readonly parent: Wd // NONE: the root
  readonly name: RawPath
  readonly movedFrom: RawPath | undefined
  readonly why: Reason
  scan?: Scan
  found?: boolean
}

/**
 * A tree of which each directory has a watch of inotify.
 *
 * What holds after each event about a directory's name: the table agrees with the disk about that name, because it was opened again.
 * Later changes are events that are still queued. So every mistake that a stale path causes (opening a directory that has just taken the
 * place of another) is mended by an event to come, and because a scan ends in a 'tree' hint, nothing reported under a wrong path
 * stays unreported under the right one.
 */
export class InotifyTree implements ScanTree, WatchedTree {
  readonly exclude: ((path: RawPath, isDir: boolean) => boolean) | undefined
  readonly table: WatchTable
  readonly identity: kernel.Identity
  readonly #root: Root
  readonly #events: TreeEvents
  readonly #queue: EventQueue
  readonly #departures: Departures
  readonly #blind: BlindSpots
  readonly #hints = new HintList()
  readonly #pending = new Map<string, Arrival>()
  readonly #mountWatch: MountWatch
  #mounts: ReadonlyMap<RawPath, Mount>
  #blindTimer: NodeJS.Timeout | undefined
  #turn: NodeJS.Immediate | undefined
  #retryTimer: NodeJS.Timeout | undefined
  /** performance.now; 0 until somebody needs it: the clock is a third of what an event costs that comes after a pause. */
  #sliceEndsMs = 0
  #started!: { resolve: () => void; reject: (error: Error) => void }
  #drainedAtMs = 0
  #eventCount = 0
  #overflowCount = 0
  /** What is mounted below the root of which not all that happens is told. */
  readonly #remotes = new Set<RawPath>()
  #mountTimer: NodeJS.Timeout | undefined
  /** Why the root could not be listed in this scan of everything, and why so in the last one of which the operator was told. */
  #rootErrno = 0
  #toldErrno = 0
  #overflowedAgain = false
  #closed = false
  /** Resolves when every directory is watched. */
  readonly complete: Promise<void>

  /** Watches the root at once, and everything below it soon. Throws WatchError. */
  constructor(rootPath: RawPath, events: TreeEvents) {
    this.#root = new Root(rootPath)
    this.#events = events
    this.exclude = events.exclude
    const inotify = initInotify(events.onNotice)
    const { wd, identity, fsType } = this.#watchFirst(inotify)
    this.identity = identity
    this.table = new WatchTable(wd)
    this.#queue = openSafely(
      inotify,
      (bytes) => this.#read(bytes),
      (error) => this.#fail(error),
      events.onNotice,
    )
    try {
      noticeRemote(rootPath, fsType, events.onNotice)
      this.#mounts = this.#mountsBelow() ?? new Map()
      this.#mountWatch = new MountWatch(() => this.#mountsChanged())
    } catch (error) {
      this.#closed = true
      void this.#queue.close()
      throw error
    }
    this.#departures = new Departures(
      this.table,
      (wd) => kernel.removeWatch(this.#queue.fd, wd),
      () => this.#takeTurn(),
    )
    this.#blind = new BlindSpots(this.table, rootPath, BLIND_POLL_SECONDS, events.onNotice)
    this.complete = new Promise((resolve, reject) => {
      this.#started = { resolve, reject }
    })
    this.complete.catch(() => {}) // whoever waits for it hears it; nobody has to wait
    try {
      this.#lookForRemotes(this.#mounts, new Map())
      this.#scanAll('start')
    } catch (thrown) {
      void this.close(asError(thrown))
      throw thrown
    }
  }

  /** Before anything else is opened: while a root is away this is tried over and over. */
  #watchFirst(inotify: number): ReturnType<Root['watch']> {
    try {
      return this.#root.watch((fd) => this.#add(() => kernel.addWatch(inotify, fd, ROOT_MASK)))
    } catch (error) {
      kernel.close(inotify)
      throw error
    }
  }

  get stats(): TreeStats {
    const watches = this.#closed ? 0 : this.table.size
    return {
      watches,
      events: this.#eventCount,
      overflows: this.#overflowCount,
      blind: this.#blind.count + this.#remotes.size,
    }
  }

  /** Whether events wait to be read. */
  get hasMore(): boolean {
    return !this.#closed && !this.#queue.isEmpty
  }

  /** When (Date.now) everything that had happened by then had been handed over. */
  get drainedAtMs(): number {
    const nowMs = Date.now()
    const isDrained = this.#pending.size === 0 && this.#retryTimer === undefined
    if (!this.#closed && isDrained && this.#queue.isEmpty) this.#drainedAtMs = nowMs
    return this.#drainedAtMs
  }

  /** `reason` is what whoever still waits for `complete` hears. */
  close(reason: Error): Promise<void> {
    this.#closed = true
    clearImmediate(this.#turn)
    clearInterval(this.#blindTimer)
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#mountTimer)
    this.#mountWatch.close()
    this.#departures.close()
    this.#forgetPending()
    this.#started.reject(reason)
    return this.#queue.close()
  }

  // --- events

  #read(bytes: Buffer): void {
    if (this.#closed) return
    this.#sliceEndsMs = 0
    const events = decodeEvents(bytes)
    this.#eventCount += events.length
    for (const event of events) {
      this.#interpret(event)
      if (this.#closed) return // the root was lost
    }
    this.flush()
  }

  /** Hands over what was noticed so far. */
  flush(): void {
    if (this.#pending.size === 0) this.#blind.tellWhenNone()
    const hints = this.#hints.take()
    if (hints.length > 0 && !this.#closed) this.#events.onHints(hints)
  }

  #interpret(event: InotifyEvent): void {
    if (event.mask & IN.Q_OVERFLOW) this.#queueWasFull()
    else if (!this.table.has(event.wd))
      return // its watch was removed while this was queued
    else if (event.mask & IN.IGNORED) this.#ignored(event.wd)
    else if (event.mask & IN.UNMOUNT) this.#unmounted(event.wd)
    else if (event.name === ROOT) this.#interpretSelf(event)
    else this.#interpretEntry(event)
  }

  #interpretEntry(event: InotifyEvent): void {
    const parent = event.wd
    const path = this.table.pathOfChild(parent, event.name)
    if (path === undefined) return // detached: gone, or about to be scanned in its new place
    const isDir = (event.mask & IN.ISDIR) !== 0
    if (this.exclude?.(path, isDir)) {
      if (event.mask & NAME_EVENTS) this.#excludedNameChanged(parent)
      return
    }
    if (event.mask & IN.MOVED_FROM) this.#departures.movedFrom(event.cookie, path)
    const movedFrom = event.mask & IN.MOVED_TO ? this.#departures.take(event.cookie) : undefined
    if (isDir) this.#interpretDirectory(path, movedFrom, event)
    else this.#interpretFile(path, movedFrom, event.mask)
  }

  /** The time of the directory that it is in has changed all the same. */
  #excludedNameChanged(parent: Wd): void {
    const path = this.table.pathOf(parent)
    if (path !== undefined) this.#hints.push({ kind: 'entry', path, isDir: true, attribOnly: true, excluded: true })
  }

  #interpretFile(path: RawPath, movedFrom: RawPath | undefined, mask: number): void {
    if (mask & IN.MODIFY || (mask & IN.CREATE && kernel.mayBeBeingWritten(this.#root.absolute(path)))) {
      this.#hints.push({ kind: 'writing', path })
    } else {
      this.#pushEntry(path, false, mask, movedFrom)
    }
  }

  #interpretDirectory(path: RawPath, movedFrom: RawPath | undefined, event: InotifyEvent): void {
    const { wd: parent, mask, name } = event
    if (mask & (IN.CREATE | IN.MOVED_TO)) {
      if (movedFrom !== undefined) this.#hints.push({ kind: 'entry', path, isDir: true, movedFrom })
      this.#scan({ parent, name, movedFrom, why: 'arrived' })
      return
    }
    this.#pushEntry(path, true, mask)
    if (mask & (IN.DELETE | IN.MOVED_FROM)) this.#left(parent, name)
    else if (this.#blind.has(parent, name)) this.#scan({ parent, name, movedFrom, why: 'arrived' }) // chmod may help
  }

  /** An event about the watched directory itself; its parent, if watched, has reported it too. */
  #interpretSelf({ wd, mask }: InotifyEvent): void {
    const path = this.table.pathOf(wd)
    if (path !== undefined && mask & IN.ATTRIB) this.#pushEntry(path, true, mask)
    if (wd !== this.table.root) return
    if (mask & IN.DELETE_SELF) this.#events.onRootDoubt('deleted')
    if (mask & IN.MOVE_SELF) this.#events.onRootDoubt('moved')
  }

  #pushEntry(path: RawPath, isDir: boolean, mask: number, movedFrom?: RawPath): void {
    this.#hints.push({
      kind: 'entry',
      path,
      isDir,
      ...(movedFrom !== undefined && { movedFrom }),
      ...(mask & IN.ATTRIB && { attribOnly: true }),
      ...(mask & IN.CLOSE_WRITE && { closed: true }),
      ...(mask & (IN.DELETE | IN.MOVED_FROM) && { gone: true }),
    })
  }

  /** The name may by now be another directory's (RENAME_EXCHANGE, or quick successors): then that one is scanned. */
  #left(parent: Wd, name: RawPath): void {
    const wd = this.table.child(parent, name)
    if (wd !== NONE) {
      this.table.detach(wd)
      this.#departures.detached(wd)
    }
    this.#blind.delete(parent, name)
    this.#scan({ parent, name, movedFrom: undefined, why: 'left' })
  }

  /** The kernel removed the watch: the directory is no more. */
  #ignored(wd: Wd): void {
    if (wd === this.table.root) this.#events.onRootDoubt('deleted')
    else for (const orphan of this.table.remove(wd)) this.#departures.detached(orphan)
  }

  /** A filesystem below the root was unmounted. At its top the directory that it covered shows again. */
  #unmounted(wd: Wd): void {
    if (wd === this.table.root) this.#events.onRootDoubt('unmounted')
    else this.#uncover(wd)
  }

  #uncover(wd: Wd): void {
    const parent = this.table.parentOf(wd)
    if (parent === NONE) return // detached: it is known to have left
    const path = this.table.pathOf(wd)
    if (path !== undefined) this.#hints.push({ kind: 'unmounted', path })
    this.#left(parent, this.table.nameOf(wd))
  }

  /** What was mounted below the root covers directories whose watches say nothing of it. */
  #mountsChanged(): void {
    if (this.#closed) return
    this.#sliceEndsMs = 0
    try {
      const before = this.#mounts
      const now = this.#mountsBelow()
      if (now === undefined) {
        clearTimeout(this.#mountTimer)
        this.#mountTimer = setTimeout(() => this.#mountsChanged(), RETRY_MS).unref()
        return
      }
      this.#mounts = now
      const ids = new Set([...now.values()].map(({ id }) => id))
      for (const [path, { id }] of this.#mounts) {
        if (path === ROOT || before.get(path)?.id === id) continue
        const slash = path.lastIndexOf('/')
        const parent = this.table.at(path.slice(0, Math.max(slash, 0)) as RawPath)
        const name = path.slice(slash + 1) as RawPath
        if (parent !== NONE && !this.exclude?.(path, true))
          this.#postpone({ parent, name, movedFrom: undefined, why: 'arrived' })
      }
      for (const [path, { id, device }] of before) {
        if (path === ROOT || now.has(path)) continue
        if (ids.has(id)) this.#movedFrom(path)
        else this.#uncovered(path, isMounted(device))
        if (this.#closed) return
      }
      this.#lookForRemotes(now, before)
      // Under another mount it is not the one that is watched; that its own is gone is told by an event.
      const over = this.#mounts.get(ROOT)
      if (over !== undefined && over.id !== before.get(ROOT)?.id) this.#events.onRootDoubt('moved')
    } catch (thrown) {
      this.#fail(asError(thrown))
    }
  }

  /** A mount is at another place now: moved there itself, or with a directory above it. */
  #movedFrom(path: RawPath): void {
    const wd = this.table.at(path)
    const parent = this.table.parentOf(wd)
    if (parent !== NONE) this.#left(parent, this.table.nameOf(wd))
  }

  /** What others change there is not told. */
  #lookForRemotes(now: ReadonlyMap<RawPath, Mount>, before: ReadonlyMap<RawPath, Mount>): void {
    for (const path of this.#remotes) if (!now.has(path)) this.#remotes.delete(path)
    for (const [path, { id }] of now) {
      if (path === ROOT || before.get(path)?.id === id) continue
      this.#remotes.delete(path)
      if (isExcluded(path, this.exclude)) continue
      const absolute = this.#root.absolute(path)
      const name = remoteName(Number(kernel.withDirectory(absolute, kernel.filesystemType)))
      if (name === undefined) continue
      this.#remotes.add(path)
      const consequence = `it is looked at every ${BLIND_POLL_SECONDS} s, too`
      this.#events.onNotice(
        `${printable(absolute)} is on ${name}, where others make changes that are not told; ${consequence}`,
      )
      this.#pollBlindFromNowOn()
    }
  }

  /** A mount of a filesystem that shows elsewhere, too, is gone without an event. */
  #uncovered(path: RawPath, isElsewhere: boolean): void {
    const wd = this.table.at(path)
    if (wd === NONE) return // an event has said so, or it was left out
    this.#uncover(wd)
    if (isElsewhere) this.#lookEverywhere() // maybe at another place of the tree, and its watch was told to be of this one
    this.flush()
  }

  /** Undefined when the root cannot be opened. */
  #mountsBelow(): ReadonlyMap<RawPath, Mount> | undefined {
    const root = kernel.withDirectory(this.#root.absolute(ROOT), kernel.pathOf)
    if (typeof root === 'number') return undefined
    const start = root === '/' ? 1 : root.length + 1
    return new Map([...mountsWithin(root)].map(([point, mount]) => [point.slice(start) as RawPath, mount]))
  }

  #queueWasFull(): void {
    this.#overflowCount++
    if (!this.#pending.has(LOOK_EVERYWHERE)) this.#tellOfFullQueue()
    this.#lookEverywhere()
  }

  #tellOfFullQueue(): void {
    const root = printable(this.#root.absolute(ROOT))
    const limit = `fs.inotify.max_queued_events is ${currentLimit('max_queued_events') || 'not known'}`
    const mending = `To mend it: ${mend('max_queued_events')}`
    this.#events.onNotice(`${root}: the queue was full (${limit}), and everything is looked at instead. ${mending}`)
  }

  #lookEverywhere(): void {
    if (!this.#pending.has(LOOK_EVERYWHERE)) this.#scanAll('overflow')
    else this.#overflowedAgain = true // let that scan finish, or a busy tree would never see the end of one
  }

  // --- scans

  #scanAll(why: Reason): void {
    this.table.beginScan()
    this.#overflowedAgain = false
    this.#rootErrno = 0
    if (why === 'overflow') this.#forgetPending() // it goes everywhere, and so says its hint
    clearTimeout(this.#retryTimer)
    this.#retryTimer = undefined
    this.#scan({ parent: NONE, name: ROOT, movedFrom: undefined, why })
  }

  #forgetPending(): void {
    for (const { scan } of this.#pending.values()) scan?.close()
    this.#pending.clear()
  }

  /** At once when it is small, as ordinary changes are; otherwise spread over turns of the event loop. */
  #scan(arrival: Arrival): void {
    const mayBegin = this.#pending.size < BEGUN_SCANS_MAX && performance.now() < this.#sliceEndMs
    if (mayBegin && this.#work(arrival)) this.#arrived(arrival)
    else this.#postpone(arrival)
  }

  #postpone(arrival: Arrival): void {
    if (this.#pending.size >= PENDING_SCANS_MAX) {
      this.#lookEverywhere()
      return
    }
    // Unopened scans of the same place are one; a begun one may have passed what the new one is about.
    const key = keyOf(arrival.parent, arrival.name)
    const earlier = this.#pending.get(key)
    if (earlier?.scan !== undefined) this.#pending.set(`${key}\0${this.#eventCount}\0${this.#pending.size}`, arrival)
    else this.#pending.set(key, arrival)
    this.#takeTurn()
  }

  /** Of this turn of the event loop, from the first question on. */
  get #sliceEndMs(): number {
    if (this.#sliceEndsMs === 0) this.#sliceEndsMs = performance.now() + SLICE_MS
    return this.#sliceEndsMs
  }

  /** True when the scan is complete. */
  #work(arrival: Arrival): boolean {
    if (arrival.scan === undefined) {
      arrival.scan = new Scan(this)
      arrival.found = arrival.scan.begin(arrival.parent, arrival.name)
    }
    return arrival.scan.run(this.#sliceEndMs)
  }

  #arrived({ parent, name, movedFrom, why, found }: Arrival): void {
    if (parent === NONE) {
      if (found && this.#rootErrno === 0) this.#scannedAll(why)
      else this.#scanAllLater(why)
      return
    }
    if (why === 'left' && !found) return
    const path = this.table.pathOfChild(parent, name)
    // Without a path the parent has left, or a scan of its new place is due.
    if (path === undefined || !this.table.has(parent)) return
    this.#hints.push({ kind: 'tree', path, ...(movedFrom !== undefined && { movedFrom }) })
  }

  /** The root could not be opened or listed, and if it is not lost we are short of descriptors, or its disk is ill. */
  #scanAllLater(why: Reason): void {
    if (this.#closed) return
    if (this.#rootErrno !== 0) {
      const error = cannotOpenRoot(this.#root.absolute(ROOT), this.#rootErrno)
      if (why === 'start' && !kernel.isShortage(this.#rootErrno)) return void this.close(error)
      if (this.#rootErrno !== this.#toldErrno)
        this.#events.onNotice(`${error.message}; it is tried again every ${RETRY_MS / 1000} s`)
      this.#toldErrno = this.#rootErrno
    }
    this.#retryTimer ??= setTimeout(() => this.#scanAll(why), RETRY_MS)
  }

  #scannedAll(why: Reason): void {
    for (const wd of this.table.unseen()) {
      this.table.detach(wd)
      this.#departures.condemn(wd)
    }
    this.#started.resolve() // an overflow may have taken the place of the first scan
    if (why !== 'start') this.#hints.push({ kind: 'tree', path: ROOT, overflow: true })
    if (this.#overflowedAgain) this.#scanAll('overflow')
  }

  #takeTurn(): void {
    if (this.#closed) return
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined
      try {
        this.#continue()
      } catch (thrown) {
        this.#fail(asError(thrown))
      }
    })
  }

  #continue(): void {
    if (this.#closed) return
    this.#sliceEndsMs = 0
    for (const [key, arrival] of this.#pending) {
      if (!this.#work(arrival)) break
      this.#pending.delete(key)
      this.#arrived(arrival)
      if (performance.now() >= this.#sliceEndMs) break
    }
    const removedAll = this.#departures.removeSome()
    this.flush()
    if ((this.#pending.size > 0 || !removedAll) && !this.#closed) this.#takeTurn()
  }

  #fail(error: Error): void {
    if (this.#closed) return
    void this.close(error)
    this.#events.onError(error)
  }

  // --- what scans need (ScanTree)

  openDirectory(path: RawPath): number {
    return this.#root.openDirectory(path)
  }

  watchRoot(fd: number): number {
    return this.#add(() => kernel.addWatch(this.#queue.fd, fd, ROOT_MASK))
  }

  watch(fd: number): number {
    return this.#add(() => kernel.addWatch(this.#queue.fd, fd, MASK))
  }

  watchIn(fd: number, name: RawPath): number {
    return this.#add(() => kernel.addWatchIn(this.#queue.fd, fd, name, MASK | IN.DONT_FOLLOW))
  }

  #add(add: () => number): number {
    for (;;) {
      const wd = add()
      if (wd !== -kernel.ERRNO.ENOSPC || !raiseWatches(this.#events.onNotice)) return wd
    }
  }

  onDisplaced(wd: Wd): void {
    this.#departures.detached(wd)
  }

  onWatched(parent: Wd, name: RawPath): void {
    this.#blind.delete(parent, name)
  }

  onBlind(parent: Wd, name: RawPath, errno: number): void {
    this.#blind.add(parent, name, errno)
    this.#pollBlindFromNowOn()
  }

  onUnlisted(wd: Wd, errno: number): void {
    const parent = this.table.parentOf(wd)
    if (parent !== NONE) this.onBlind(parent, this.table.nameOf(wd), errno)
    else if (wd === this.table.root) this.#rootErrno = errno
  }

  #pollBlindFromNowOn(): void {
    this.#blindTimer ??= setInterval(() => this.#pollBlind(), BLIND_POLL_SECONDS * 1000).unref()
  }

  onRootChanged(): void {
    this.#events.onRootDoubt('moved')
  }

  /** Tries again to watch the blind spots; their 'tree' hints say to look there in any case. */
  #pollBlind(): void {
    this.#mountWatch.look() // a directory above a mount may have been renamed
    const spots = this.#blind.list()
    if (this.#pending.has(LOOK_EVERYWHERE)) return // it comes there, too
    for (const path of this.#remotes) if (this.table.at(path) !== NONE) this.#hints.push({ kind: 'tree', path })
    this.flush()
    if (this.#closed) return
    if (spots.length > BLIND_HINTS_MAX) this.#lookEverywhere()
    else for (const [parent, name] of spots) this.#postpone({ parent, name, movedFrom: undefined, why: 'arrived' })
  }
}

const keyOf = (parent: Wd, name: RawPath): string => `${parent}/${name}`
const LOOK_EVERYWHERE = keyOf(NONE, ROOT)
