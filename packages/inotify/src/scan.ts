import * as kernel from './kernel.js'
import { join, type RawPath, ROOT } from './raw-path.js'
import type { WatchNode, WatchTable } from './watch-table.js'

/** What a scan needs from the tree it works for. */
export interface ScanTree {
  readonly table: WatchTable
  readonly exclude: ((path: RawPath, isDir: boolean) => boolean) | undefined
  /** A descriptor of the directory, or the negative errno. */
  openDirectory(path: RawPath): number
  /** The wd, or the negative errno. */
  watch(fd: number, isRoot: boolean): number
  onDisplaced(node: WatchNode): void
  onWatched(parent: WatchNode, name: RawPath): void
  onBlind(parent: WatchNode, name: RawPath, errno: number): void
  /** What is at the root's path is not the directory that is watched as the root. */
  onRootChanged(): void
}

/** A directory on the way down. */
interface Frame {
  node: WatchNode
  fd: number // -1: lent out, see DESCRIPTORS_MAX
  listed: boolean
  subdirectories: RawPath[]
}

/** For one scan. The frames nearest to the bottom keep theirs; the others reopen when their turn comes. */
const DESCRIPTORS_MAX = 32

/**
 * Watches a directory and everything below it, in steps that the caller can spread over time.
 *
 * There is no moment at which a directory can change unseen: it is opened, then that very descriptor is watched, then that very
 * descriptor is listed, and its subdirectories are opened from it. What appears before the listing is in the listing,
 * what appears after it is an event.
 */
export class Scan {
  readonly #tree: ScanTree
  readonly #frames: Frame[] = []

  constructor(tree: ScanTree) {
    this.#tree = tree
  }

  /** Begins at `name` in `parent`, or at the root when `parent` is null. False when there is no directory. */
  begin(parent: WatchNode | null, name: RawPath): boolean {
    const { table } = this.#tree
    const path = parent === null ? ROOT : table.pathOfChild(parent, name)
    if (path === undefined) return false
    const fd = this.#tree.openDirectory(path)
    if (parent === null) return this.#beginAtRoot(fd)
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
    if (!this.#tree.table.has(frame.node)) this.#pop()
    else if (!frame.listed) this.#list(frame)
    else if (frame.subdirectories.length === 0) this.#pop()
    else this.#descend(frame)
  }

  #list(frame: Frame): void {
    const from = frame.subdirectories.length
    if (kernel.readSubdirectories(frame.fd, frame.subdirectories) <= 0) frame.listed = true
    const { exclude, table } = this.#tree
    if (exclude === undefined || frame.subdirectories.length === from) return
    const added = frame.subdirectories.splice(from)
    const path = table.pathOf(frame.node)
    if (path === undefined) return // detached meanwhile: whoever attaches it will list it again
    for (const name of added) if (!exclude(join(path, name), true)) frame.subdirectories.push(name)
  }

  #descend(frame: Frame): void {
    const name = frame.subdirectories.pop()!
    if (frame.fd < 0) frame.fd = this.#reopen(frame.node)
    // A directory that cannot be reopened was renamed or removed: that event is queued, and brings a new scan.
    if (frame.fd < 0) {
      this.#pop()
      return
    }
    const fd = kernel.openDirectory(frame.fd, name)
    if (frame.subdirectories.length === 0) this.#pop() // before going down, so that a long chain needs no stack
    this.#enter(frame.node, name, fd)
  }

  #reopen(node: WatchNode): number {
    const path = this.#tree.table.pathOf(node)
    return path === undefined ? -1 : this.#tree.openDirectory(path)
  }

  #beginAtRoot(fd: number): boolean {
    const { root } = this.#tree.table
    const wd = fd < 0 ? fd : this.#tree.watch(fd, true)
    if (wd === root.wd) {
      root.seen = this.#tree.table.scanNumber
      this.#push(root, fd)
      return true
    }
    if (fd >= 0) kernel.close(fd)
    this.#tree.onRootChanged()
    return false
  }

  /** Watches the directory that `fd` (or the errno of opening it) is. False when there is none. */
  #enter(parent: WatchNode, name: RawPath, fd: number): boolean {
    if (fd < 0) return this.#cannotWatch(parent, name, fd)
    const wd = this.#tree.watch(fd, false)
    if (wd < 0) {
      kernel.close(fd)
      return this.#cannotWatch(parent, name, wd)
    }
    const attached = this.#tree.table.attach(wd, parent, name)
    if (attached?.displaced) this.#tree.onDisplaced(attached.displaced)
    if (attached === undefined || kernel.hasNoSubdirectories(fd)) kernel.close(fd)
    else this.#push(attached.node, fd)
    this.#tree.onWatched(parent, name)
    return true
  }

  #cannotWatch(parent: WatchNode, name: RawPath, errno: number): boolean {
    if (isOrdinary(errno)) return false
    this.#tree.onBlind(parent, name, errno)
    return true
  }

  #push(node: WatchNode, fd: number): void {
    this.#frames.push({ node, fd, listed: false, subdirectories: [] })
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

/** The directory went, or something else took its name: its event is queued. All else leaves us blind. */
const isOrdinary = (errno: number): boolean =>
  errno === -kernel.ERRNO.ENOENT ||
  errno === -kernel.ERRNO.ENOTDIR ||
  errno === -kernel.ERRNO.ELOOP ||
  errno === -kernel.ERRNO.ESTALE
