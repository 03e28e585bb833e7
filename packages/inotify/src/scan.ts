import * as kernel from './kernel.js'
import { join, type RawPath, ROOT } from './raw-path.js'
import { NONE, type WatchTable, type Wd } from './watch-table.js'

/** What a scan needs from the tree it works for. */
export interface ScanTree {
  readonly table: WatchTable
  readonly exclude: ((path: RawPath, isDir: boolean) => boolean) | undefined
  /** A descriptor of the directory, or the negative errno. */
  openDirectory(path: RawPath): number
  /** Each returns the wd, or the negative errno. */
  watchRoot(fd: number): number
  watch(fd: number): number
  watchIn(fd: number, name: RawPath): number
  onDisplaced(wd: Wd): void
  onWatched(parent: Wd, name: RawPath): void
  onBlind(parent: Wd, name: RawPath, errno: number): void
  /** A directory that is watched could not be listed to its end. */
  onUnlisted(wd: Wd, errno: number): void
  /** What is at the root's path is not the directory that is watched as the root. */
  onRootChanged(): void
}

/** A directory on the way down. */
interface Frame {
  wd: Wd
  fd: number // -1: lent out, see DESCRIPTORS_MAX
  /** Of a filesystem that counts subdirectories. */
  device: number | undefined
  listed: boolean
  subdirectories: RawPath[]
}

/** For one scan. The frames nearest to the bottom keep theirs; the others reopen when their turn comes. */
const DESCRIPTORS_MAX = 32

/**
 * Watches a directory and everything below it, in steps that the caller can spread over time.
 *
 * There is no moment at which a directory can change unseen: it is opened, then that very descriptor is watched, then that very
 * descriptor is rewound and listed, and its subdirectories are opened from it. What appears before the listing is in the listing,
 * what appears after it is an event.
 *
 * Most directories have no subdirectories. Where the filesystem tells, those are not even opened: watched by name in the descriptor
 * of their parent, then asked. If meanwhile the name became another's, the parent, which is watched, has an event of it.
 */
export class Scan {
  readonly #tree: ScanTree
  readonly #frames: Frame[] = []

  constructor(tree: ScanTree) {
    this.#tree = tree
  }

  /** Begins at `name` in `parent`, or at the root when `parent` is NONE. False when there is no directory. */
  begin(parent: Wd, name: RawPath): boolean {
    const { table } = this.#tree
    const path = parent === NONE ? ROOT : table.pathOfChild(parent, name)
    if (path === undefined) return false
    const fd = this.#tree.openDirectory(path)
    if (parent === NONE) return this.#beginAtRoot(fd)
    return this.#enter(parent, name, fd)
  }

  /** Works until `deadlineMs` (performance.now). True when all is done. */
  run(deadlineMs: number): boolean {
    while (this.#frames.length > 0) {
      this.#step(this.#frames.at(-1)!)
      if (performance.now() >= deadlineMs) return this.#frames.length === 0
    }
    return true
  }

  /** Gives up. */
  close(): void {
    while (this.#frames.length > 0) this.#pop()
  }

  #step(frame: Frame): void {
    if (!this.#tree.table.has(frame.wd)) this.#pop()
    else if (!frame.listed) this.#list(frame)
    else if (frame.subdirectories.length === 0) this.#pop()
    else this.#descend(frame)
  }

  #list(frame: Frame): void {
    const from = frame.subdirectories.length
    const length = kernel.readSubdirectories(frame.fd, frame.subdirectories)
    if (length <= 0) frame.listed = true
    if (length < 0 && !kernel.isGone(length)) this.#tree.onUnlisted(frame.wd, length)
    const { exclude, table } = this.#tree
    if (exclude === undefined || frame.subdirectories.length === from) return
    const added = frame.subdirectories.splice(from)
    const path = table.pathOf(frame.wd)
    if (path === undefined) return // detached meanwhile: whoever attaches it will list it again
    for (const name of added) {
      if (exclude(join(path, name), true)) this.#leaveOut(frame.wd, name)
      else frame.subdirectories.push(name)
    }
  }

  /** It may be watched since before a directory above it was renamed. */
  #leaveOut(parent: Wd, name: RawPath): void {
    const wd = this.#tree.table.child(parent, name)
    if (wd === NONE) return
    this.#tree.table.detach(wd)
    this.#tree.onDisplaced(wd)
  }

  #descend(frame: Frame): void {
    const name = frame.subdirectories.pop()!
    if (frame.fd < 0) frame.fd = this.#reopen(frame.wd)
    if (frame.fd < 0) {
      // When it was renamed or removed, that event is queued, and brings a new scan.
      if (!kernel.isGone(frame.fd)) this.#tree.onUnlisted(frame.wd, frame.fd)
      this.#pop()
      return
    }
    const fd = this.#watchLeaf(frame, name) ? undefined : kernel.openDirectory(frame.fd, name)
    if (frame.subdirectories.length === 0) this.#pop() // before going down, so that a long chain needs no stack
    if (fd !== undefined) this.#enter(frame.wd, name, fd)
  }

  /** Watches a directory that surely has no subdirectories. False when it may be of another kind, or cannot be watched. */
  #watchLeaf({ wd: parent, fd, device }: Frame, name: RawPath): boolean {
    if (device === undefined) return false
    const wd = this.#tree.watchIn(fd, name)
    if (wd < 0) return false
    this.#attach(wd, parent, name)
    return kernel.hasNoSubdirectories(fd, device, name)
  }

  #reopen(wd: Wd): number {
    const path = this.#tree.table.pathOf(wd)
    return path === undefined ? -kernel.ERRNO.ENOENT : this.#tree.openDirectory(path)
  }

  #beginAtRoot(fd: number): boolean {
    const { root } = this.#tree.table
    const wd = fd < 0 ? fd : this.#tree.watchRoot(fd)
    if (wd === root) {
      this.#push(root, fd, kernel.countingDevice(fd))
      return true
    }
    if (fd >= 0) kernel.close(fd)
    this.#tree.onRootChanged()
    return false
  }

  /** Watches the directory that `fd` (or the errno of opening it) is. False when there is none. */
  #enter(parent: Wd, name: RawPath, fd: number): boolean {
    if (fd < 0) return this.#cannotWatch(parent, name, fd)
    const wd = this.#tree.watch(fd)
    if (wd < 0) {
      kernel.close(fd)
      return this.#cannotWatch(parent, name, wd)
    }
    const device = kernel.countingDevice(fd)
    if (!this.#attach(wd, parent, name) || kernel.hasNoSubdirectories(fd, device)) kernel.close(fd)
    else this.#push(wd, fd, device)
    return true
  }

  /** False when the directory contains its parent. */
  #attach(wd: Wd, parent: Wd, name: RawPath): boolean {
    const displaced = this.#tree.table.attach(wd, parent, name)
    if (displaced !== undefined && displaced !== NONE) this.#tree.onDisplaced(displaced)
    this.#tree.onWatched(parent, name)
    return displaced !== undefined
  }

  #cannotWatch(parent: Wd, name: RawPath, errno: number): boolean {
    if (kernel.isGone(errno)) return false // or else we are blind there
    this.#tree.onBlind(parent, name, errno)
    return true
  }

  #push(wd: Wd, fd: number, device: number | undefined): void {
    kernel.rewindDirectory(fd) // it was opened before it was watched
    this.#frames.push({ wd, fd, device, listed: false, subdirectories: [] })
    const lender = this.#frames.at(-1 - DESCRIPTORS_MAX)
    if (lender === undefined || lender.fd < 0) return
    kernel.close(lender.fd)
    lender.fd = -1
  }

  #pop(): void {
    const { fd } = this.#frames.pop()!
    if (fd >= 0) kernel.close(fd)
  }
}
