import type { TreeEvents, TreeStats, WatchedTree } from '../backend.js'
import { asError, WatchError } from '../errors.js'
import { HintList } from '../hint.js'
import * as kernel from '../kernel.js'
import { MountWatch, mountsWithin } from '../mounts.js'
import { KernelQueue } from '../queue.js'
import { join, printable, type RawPath, ROOT } from '../raw-path.js'
import { cannotOpenRoot, remoteName } from '../root.js'
import { Directories, type Filesystem, filesystemsWithin } from './directories.js'
import { NamelessFiles } from './nameless.js'
import { mendInit, mendMark } from './problems.js'
import { decodeRecords, FAN, type FanotifyRecord, GROUP, type Handle, type Place } from './records.js'

const EVENTS = FAN.CREATE | FAN.DELETE | FAN.MODIFY | FAN.CLOSE_WRITE | FAN.ATTRIB | FAN.ONDIR
/** FAN_RENAME is not to be ignored anywhere: what is renamed into the tree would be lost. */
const IGNORED = EVENTS | FAN.EVENT_ON_CHILD
const IGNORE = FAN.MARK_ADD | FAN.MARK_IGNORE | FAN.MARK_IGNORED_SURV_MODIFY | FAN.MARK_EVICTABLE
const NAME_EVENTS = FAN.CREATE | FAN.DELETE | FAN.RENAME

/** A directory outside the tree with so many events is ignored from then on. */
const HOT = 64
/** Directories whose events are counted, and ignored, at once. */
const OUTSIDE_MAX = 4096
/** Reads that follow each other faster than this are a load, */
const LOAD_MS = 1
/** and after so many of them each read waits for so long: the kernel merges what comes meanwhile. */
const LOAD_READS = 8
const REST_MS = 2
const BLIND_POLL_MS = 30_000
/** How soon everything is looked at after the root could not be found. */
const LOOK_MS = 1_000
/** How soon it is tried again to open what is mounted, and could not be. */
const MOUNTS_MS = 5_000

/**
 * A tree on filesystems that fanotify watches as a whole: it costs the same however many directories there are, and
 * nothing has to be found and watched before something happens in it.
 *
 * What happens outside the tree is told, too. Directories there with much of it are ignored by the kernel for us; that ends
 * when anything is moved into the tree, for it may be one of them.
 */
export class FanotifyTree implements WatchedTree {
  readonly identity: kernel.Identity
  readonly complete: Promise<void>
  readonly #queue: KernelQueue
  readonly #directories: Directories
  readonly #hints = new HintList()
  readonly #nameless: NamelessFiles
  readonly #mountWatch: MountWatch
  /** The directories that the root's path leads through, and the root. */
  readonly #way = new Set<Handle>()
  readonly #rootHandle: Handle | undefined
  /** Events in directories outside the tree; -1 when they are ignored. */
  readonly #outside = new Map<Handle, number>()
  /** Filesystems below the root that cannot be marked. */
  readonly #blind = new Set<RawPath>()
  #blindTimer: NodeJS.Timeout | undefined
  #lookTimer: NodeJS.Timeout | undefined
  #mountTimer: NodeJS.Timeout | undefined
  #directoryMoved = false
  #ignores = 0
  #fastReads = 0
  #lastReadMs = 0
  #drainedAtMs = 0
  /** When the queue was last known to be empty. */
  #emptiedAtMs = 0
  /** Files of which the last read told nothing but a change of attributes, and no name. */
  #unnamed = new Set<Handle>()
  #eventCount = 0
  #overflowCount = 0
  #closed = false

  /**
   * Throws WatchError: NO_FANOTIFY with the reason when it cannot be used for this tree; with `wholly` also when a
   * filesystem that is mounted below the root cannot be watched so. Without, such a one is looked at from time to time.
   */
  constructor(
    readonly rootPath: RawPath,
    readonly events: TreeEvents,
    wholly: boolean,
  ) {
    const { identity, path } = rootAt(rootPath)
    this.identity = identity
    const group = kernel.fanotifyInit(GROUP)
    if (group < 0) throw cannot(rootPath, `fanotify_init: ${kernel.errnoName(group)}${mendInit(group)}`)
    const queue = KernelQueue.of(
      group,
      'fanotify',
      (bytes) => this.#read(bytes),
      (error) => this.#fail(error),
    )
    if (typeof queue === 'number') throw cannot(rootPath, `pipe: ${kernel.errnoName(queue)}`)
    this.#queue = queue
    this.#directories = new Directories(path, events.exclude)
    this.#nameless = new NamelessFiles(this.#directories, {
      skips: (found) => this.#blind.size > 0 && this.#blind.has(this.#directories.absolute(found)),
      onFound: (found, mask) => this.#fileFound(found, mask),
      onTurn: () => this.flush(),
      onLost: () => this.#lookEverywhere(),
      onError: (thrown) => this.#fail(asError(thrown)),
    })
    try {
      this.#mountWatch = new MountWatch(() => this.#mountsChanged())
      for (const filesystem of filesystemsWithin(path)) {
        const { point } = filesystem.mount
        if (this.#directories.excludes(this.#directories.relative(point))) continue
        const problem = this.#mark(filesystem)
        if (problem === undefined) continue
        const isRemote = remoteName(Number(kernel.withDirectory(point, kernel.filesystemType))) !== undefined
        if ((wholly && !isRemote && filesystem.fsid !== '') || point === path) throw cannot(point, problem)
        this.#leaveBlind(filesystem, problem)
      }
      this.#rootHandle = this.#findWay(path)
    } catch (error) {
      void this.close(asError(error))
      throw error
    }
    this.complete = Promise.resolve()
  }

  get stats(): TreeStats {
    const watches = this.#closed ? 0 : this.#directories.filesystems.size - this.#blind.size
    return { watches, events: this.#eventCount, overflows: this.#overflowCount, blind: this.#blind.size }
  }

  get hasMore(): boolean {
    return !this.#closed && !this.#queue.isEmpty
  }

  get drainedAtMs(): number {
    this.#noteDrained()
    return this.#drainedAtMs
  }

  #noteDrained(): void {
    const nowMs = Date.now()
    if (this.#closed || this.#lookTimer !== undefined || !this.#queue.isEmpty) return
    this.#emptiedAtMs = nowMs
    this.#drainedAtMs = Math.max(this.#drainedAtMs, Math.min(nowMs, this.#nameless.foundAtMs))
  }

  /** What the kernel tells is looked for where the root was, and not where a new symbolic link leads. */
  get isAstray(): boolean {
    const path = kernel.withDirectory(this.rootPath, kernel.pathOf)
    return typeof path === 'string' && path !== this.#directories.root
  }

  async close(_reason: Error): Promise<void> {
    this.#closed = true
    clearInterval(this.#blindTimer)
    clearTimeout(this.#lookTimer)
    clearTimeout(this.#mountTimer)
    this.#nameless.close()
    this.#mountWatch?.close()
    await this.#queue.close()
  }

  flush(): void {
    const hints = this.#hints.take()
    if (hints.length > 0 && !this.#closed) this.events.onHints(hints)
  }

  #fail(error: Error): void {
    if (this.#closed) return
    void this.close(error)
    this.events.onError(error)
  }

  // --- events

  #read(bytes: Buffer): void {
    if (this.#closed) return
    const records = decodeRecords(bytes)
    this.#eventCount += records.length
    this.#directories.begin(records)
    try {
      for (const record of records) {
        this.#interpret(record)
        if (this.#closed) return // the root was lost
      }
      this.#addUnnamed(records)
    } finally {
      this.#directories.end()
    }
    if (this.#directories.takeLost()) this.#lookEverywhereSoon()
    if (this.#directoryMoved) {
      this.#directoryMoved = false
      this.#mountWatch.look()
    }
    this.flush()
    this.#noteDrained()
    this.#pace()
  }

  /**
   * A file has one name less, or one more: of that comes a record of its attributes without a name, and beside it, by and
   * large, one with the name. Without that somebody has changed the attributes of a file that the kernel knows no name of.
   */
  #addUnnamed(records: readonly FanotifyRecord[]): void {
    const before = this.#unnamed
    const unnamed = new Set<Handle>()
    records.forEach(({ mask, place, target }, i) => {
      if (mask === FAN.ATTRIB && place === undefined && target !== undefined && !isReplaced(records[i - 1]))
        unnamed.add(target)
    })
    if (before.size + unnamed.size === 0) return
    for (const { place, target } of records) {
      if (place === undefined || target === undefined) continue
      before.delete(target)
      unnamed.delete(target)
    }
    this.#unnamed = unnamed
    for (const file of before) this.#nameless.add(file, FAN.ATTRIB, this.#emptiedAtMs)
    if (!this.#queue.isEmpty) return // the next read may tell the name
    for (const file of unnamed) this.#nameless.add(file, FAN.ATTRIB, this.#emptiedAtMs)
    this.#unnamed = new Set()
  }

  /** Under load what is read at once is more, and most of it is merged already: that costs a fraction. */
  #pace(): void {
    const nowMs = performance.now()
    this.#fastReads = nowMs - this.#lastReadMs < LOAD_MS + REST_MS ? this.#fastReads + 1 : 0
    this.#lastReadMs = nowMs
    if (this.#fastReads >= LOAD_READS && !this.#closed) this.#queue.rest(REST_MS)
  }

  #interpret(record: FanotifyRecord): void {
    const { mask, place, target } = record
    if (mask & FAN.Q_OVERFLOW) this.#overflowed()
    else if (place === undefined) {
      if (target !== undefined && mask !== FAN.ATTRIB && !(mask & FAN.ONDIR))
        this.#nameless.add(target, mask, this.#emptiedAtMs)
    } else if (mask & FAN.RENAME) this.#renamed(record, place)
    else this.#happened(record, place)
  }

  #happened({ mask, target }: FanotifyRecord, place: Place): void {
    const isDir = (mask & FAN.ONDIR) !== 0
    if (isDir && mask & FAN.DELETE && target !== undefined) this.#directoryDeleted(target)
    const directory = this.#directories.pathOf(place.directory)
    if (directory === undefined) return this.#countOutside(place.directory)
    if (place.name === '.') {
      if (mask & FAN.ATTRIB) this.#hints.push({ kind: 'entry', path: directory, isDir: true, attribOnly: true })
      return
    }
    const path = join(directory, place.name)
    if (this.events.exclude?.(path, isDir)) {
      if (mask & NAME_EVENTS) this.#excludedNameChanged(directory)
    } else if (isDir) this.#directoryChanged(path, mask)
    else this.#fileChanged(path, mask)
  }

  /** Its directory is not excluded. */
  #fileFound(path: RawPath, mask: number): void {
    if (!this.events.exclude?.(path, false)) this.#fileChanged(path, mask)
  }

  #directoryChanged(path: RawPath, mask: number): void {
    if (mask & FAN.DELETE) this.#hints.push({ kind: 'entry', path, isDir: true, gone: true })
    if (mask & FAN.CREATE) {
      // Of both no one knows which came first.
      if (!(mask & FAN.DELETE) || kernel.isDirectory(this.#directories.absolute(path)))
        this.#hints.push({ kind: 'tree', path })
    } else if (mask & FAN.ATTRIB) this.#hints.push({ kind: 'entry', path, isDir: true, attribOnly: true })
  }

  /** As many hints as inotify would have made, in the order that is most likely. */
  #fileChanged(path: RawPath, mask: number): void {
    const entry = { kind: 'entry', path, isDir: false } as const
    if (mask & FAN.DELETE) this.#hints.push({ ...entry, gone: true })
    const written = (mask & FAN.CLOSE_WRITE) !== 0
    if (mask & FAN.CREATE && !kernel.mayBeBeingWritten(this.#directories.absolute(path))) this.#hints.push(entry)
    else if (mask & (FAN.CREATE | FAN.MODIFY) && !written) this.#hints.push({ kind: 'writing', path })
    if (written) this.#hints.push({ ...entry, closed: true })
    if (mask & FAN.ATTRIB) this.#hints.push({ ...entry, attribOnly: true })
  }

  #renamed({ mask, from: before, target }: FanotifyRecord, now: Place): void {
    const isDir = (mask & FAN.ONDIR) !== 0
    const [from, to] = [this.#included(before, isDir), this.#included(now, isDir)]
    if (isDir) this.#directories.forget()
    if (isDir && target !== undefined && this.#way.has(target)) {
      // It may be back already; what was asked for meanwhile was not to be found.
      this.events.onRootDoubt('moved')
      if (!this.#closed) this.#lookEverywhereSoon()
    }
    if (this.#closed || (from === undefined && to === undefined)) return
    this.#directoryMoved ||= isDir
    // What comes from outside may be ignored, or have something in it that is; and so may what was excluded.
    if (isDir && (from === undefined || this.events.exclude !== undefined)) this.#ignoreNothing()
    if (from !== undefined) this.#hints.push({ kind: 'entry', path: from, isDir, gone: true })
    if (to === undefined) return
    const moved = from === undefined ? {} : { movedFrom: from }
    if (from !== undefined || !isDir) this.#hints.push({ kind: 'entry', path: to, isDir, ...moved })
    if (isDir) this.#hints.push({ kind: 'tree', path: to, ...moved })
  }

  /** Where it is in the tree; when it is excluded there, the time of the directory that it is in has changed all the same. */
  #included(place: Place | undefined, isDir: boolean): RawPath | undefined {
    if (place === undefined) return undefined
    const directory = this.#directories.pathOf(place.directory)
    if (directory === undefined) return undefined
    const path = join(directory, place.name)
    if (!this.events.exclude?.(path, isDir)) return path
    this.#excludedNameChanged(directory)
    return undefined
  }

  #excludedNameChanged(path: RawPath): void {
    this.#hints.push({ kind: 'entry', path, isDir: true, attribOnly: true, excluded: true })
  }

  #directoryDeleted(target: Handle): void {
    this.#directories.delete(target)
    this.#outside.delete(target)
    if (target === this.#rootHandle) this.events.onRootDoubt('deleted')
  }

  #overflowed(): void {
    this.#overflowCount++
    this.#lookEverywhere()
  }

  #lookEverywhere(): void {
    this.#directories.forget()
    this.#ignoreNothing()
    this.#nameless.forget()
    this.#hints.push({ kind: 'tree', path: ROOT, overflow: true })
  }

  /** As soon as the root is where it was; should it not come back, others will notice. */
  #lookEverywhereSoon(): void {
    this.#directories.forget()
    this.#lookTimer ??= setTimeout(() => {
      this.#lookTimer = undefined
      if (this.#closed) return
      const found = kernel.directoryIdentity(this.#directories.root)
      const isThere = typeof found !== 'number' && found.ino === this.identity.ino && found.dev === this.identity.dev
      if (!isThere) return this.#lookEverywhereSoon()
      this.#lookEverywhere()
      this.flush()
    }, LOOK_MS)
  }

  // --- what happens elsewhere

  #countOutside(directory: Handle): void {
    if (this.#way.has(directory)) return // what happens to the root itself is told there
    const count = this.#outside.get(directory) ?? 0
    if (count < 0) return
    if (this.#outside.size >= OUTSIDE_MAX) this.#outside.clear()
    this.#outside.set(directory, count + 1)
    if (count + 1 < HOT) return
    this.#outside.set(directory, -1)
    const fd = this.#directories.open(directory)
    if (fd < 0) return
    if (kernel.fanotifyMark(this.#queue.fd, IGNORE, IGNORED, fd) >= 0) this.#ignores++
    kernel.close(fd)
  }

  #ignoreNothing(): void {
    this.#outside.clear()
    if (this.#ignores === 0) return
    this.#ignores = 0
    // Without naming mounts or filesystems this removes the marks on inodes: ours are all ignore marks.
    kernel.fanotifyMark(this.#queue.fd, FAN.MARK_FLUSH, 0, -1)
  }

  // --- mounts

  /** What is wrong, as one line. */
  #mark(filesystem: Filesystem): string | undefined {
    const { point } = filesystem.mount
    const problem = kernel.withDirectory(point, (fd) => this.#markOpen(fd))
    if (typeof problem === 'number') return kernel.errnoName(problem)
    if (problem !== '') return problem
    this.#directories.add(filesystem)
    return undefined
  }

  /** '' when its filesystem is marked, and what is in it can be found. */
  #markOpen(fd: number): string {
    const remote = remoteName(kernel.filesystemType(fd))
    if (remote !== undefined) return `it is on ${remote}, where others make changes that are not told`
    const marked = kernel.fanotifyMark(this.#queue.fd, FAN.MARK_ADD | FAN.MARK_FILESYSTEM, EVENTS | FAN.RENAME, fd)
    if (marked < 0) return `fanotify_mark: ${kernel.errnoName(marked)}${mendMark(marked)}`
    const handle = kernel.handleOf(fd)
    const opened = typeof handle === 'number' ? handle : kernel.openByHandle(fd, handle)
    if (opened < 0) return `open_by_handle_at: ${kernel.errnoName(opened)}${mendInit(opened)}`
    kernel.close(opened)
    return ''
  }

  /** `again`: without a sign that anything has changed. */
  #mountsChanged(again = false): void {
    if (this.#closed) return
    let isSame = true
    try {
      const { root, filesystems } = this.#directories
      const now = new Map(filesystemsWithin(root).map((filesystem) => [filesystem.mount.point, filesystem]))
      const ids = new Set([...mountsWithin('/' as RawPath).values()].map(({ id }) => id))
      for (const [point, { mount, fsid }] of [...filesystems]) {
        const found = now.get(point)
        if (found?.mount.id === mount.id && found.fsid === fsid) continue
        if (found?.mount.id === mount.id && found.fsid === '') {
          if (!this.#blind.has(point)) this.#lookAtMountsLater() // it is there, and cannot be opened now
          continue
        }
        isSame = false
        this.#directories.remove(point)
        this.#blind.delete(point)
        if (point !== root && ids.has(mount.id)) continue // a directory above it was renamed
        if (point === root) this.events.onRootDoubt(now.get(root)?.mount.id === '' ? 'unmounted' : 'moved')
        else this.#unmounted(point)
        if (this.#closed) return
      }
      for (const filesystem of now.values()) {
        if (this.#directories.filesystems.has(filesystem.mount.point)) continue
        isSame = false
        this.#mounted(filesystem)
      }
      if (isSame && again) return this.flush()
      this.#ignoreNothing()
      this.events.onRootDoubt('moved') // it may lie under another mount now
      this.flush()
    } catch (error) {
      this.#fail(asError(error))
    }
  }

  #lookAtMountsLater(): void {
    this.#mountTimer ??= setTimeout(() => {
      this.#mountTimer = undefined
      this.#mountsChanged(true)
    }, MOUNTS_MS)
  }

  /** What it covered shows again. */
  #unmounted(point: RawPath): void {
    const path = this.#directories.relative(point)
    this.#hints.push({ kind: 'unmounted', path })
    if (kernel.isDirectory(point)) this.#hints.push({ kind: 'tree', path })
  }

  #mounted(filesystem: Filesystem): void {
    const { point } = filesystem.mount
    if (this.#directories.excludes(this.#directories.relative(point))) return
    const problem = this.#mark(filesystem)
    if (problem !== undefined) this.#leaveBlind(filesystem, problem)
    this.#hints.push({ kind: 'tree', path: this.#directories.relative(point) })
  }

  #leaveBlind(filesystem: Filesystem, problem: string): void {
    const { point } = filesystem.mount
    this.#directories.add(filesystem)
    this.#blind.add(point)
    this.#blindTimer ??= setInterval(() => this.#lookAtBlind(), BLIND_POLL_MS).unref()
    this.events.onNotice(`${cannot(point, problem).message}; it is looked at every ${BLIND_POLL_MS / 1000} s`)
  }

  #lookAtBlind(): void {
    this.#mountsChanged(true) // one that could not be opened may be marked now
    for (const point of this.#blind) this.#hints.push({ kind: 'tree', path: this.#directories.relative(point) })
    this.flush()
  }

  /** The handles of the root, and of all directories above it: when one of these is moved, the root is. */
  #findWay(root: RawPath): Handle | undefined {
    let rootHandle: Handle | undefined
    for (let path: string = root; ; path = path.slice(0, path.lastIndexOf('/'))) {
      const handle = kernel.withDirectory((path === '' ? '/' : path) as RawPath, (fd) => {
        const [fsid, file] = [kernel.filesystemId(fd), kernel.handleOf(fd)]
        return typeof fsid === 'string' && typeof file === 'string' ? ((fsid + file) as Handle) : -1
      })
      if (typeof handle === 'string') {
        rootHandle ??= handle
        this.#way.add(handle)
      }
      if (path === '' || path === '/') return rootHandle
    }
  }
}

/** A file was renamed; if it has taken the place of another, that one has a name less now. */
const isReplaced = (before: FanotifyRecord | undefined): boolean =>
  before !== undefined && (before.mask & FAN.RENAME) !== 0 && !(before.mask & FAN.ONDIR)

/** The root, without symbolic links. Throws WatchError. */
function rootAt(rootPath: RawPath): { identity: kernel.Identity; path: RawPath } {
  const found = kernel.withDirectory(rootPath, (fd) => ({ identity: kernel.identityOf(fd), path: kernel.pathOf(fd) }))
  if (typeof found === 'number') throw cannotOpenRoot(rootPath, found)
  const { identity, path } = found
  if (typeof identity === 'number') throw cannotOpenRoot(rootPath, identity)
  if (typeof path === 'number') throw cannot(rootPath, `its path: ${kernel.errnoName(path)}`)
  return { identity, path }
}

const cannot = (rootPath: RawPath, problem: string): WatchError =>
  new WatchError('NO_FANOTIFY', `cannot watch ${printable(rootPath)} by fanotify: ${problem}`)
