import * as kernel from '../kernel.js'
import { join, type RawPath, ROOT } from '../raw-path.js'
import { Root } from '../root.js'
import type { Directories } from './directories.js'
import type { Handle } from './records.js'

/** What comes within this time is searched for at once, */
const GATHER_MS = 1_000
/** and after a search there is none for so many times what it took. */
const SHARE = 10
/** A search works so long in one turn of the event loop. */
const SLICE_MS = 10
/** Files that are searched for at once. */
const WANTED_MAX = 16_384

/** Which file it is, and on which filesystem. */
type Inode = string
const inodeOf = (dev: string, ino: bigint): Inode => `${dev}:${ino}`

export interface Finder {
  /** Whether this directory cannot have them in it, and is not to be opened. */
  skips(path: RawPath): boolean
  /** One of the places where the file is to which this happened (FAN.*). */
  onFound(path: RawPath, mask: number): void
  /** A turn is over in which something may have been found. */
  onTurn(): void
  /** Too many are sought, or not everything could be searched: they may be anywhere. */
  onLost(): void
  onError(thrown: unknown): void
}

/**
 * Files of which the kernel tells without a name. An NFS server opens files by handle, and of one that nobody has looked
 * up by name since it was read from the disk the kernel has no path: its dentry is disconnected. So they are searched for in the whole
 * tree, by inode number. What is found is looked up, and so the next change of it comes with its name.
 */
export class NamelessFiles {
  readonly #root: Root
  #wanted = new Map<Inode, number>()
  #wantedSinceMs = Number.POSITIVE_INFINITY
  /** In the search that is under way: what it is for, and the directories that are still to be listed. */
  #sought = new Map<Inode, number>()
  #soughtSinceMs = Number.POSITIVE_INFINITY
  #inos = new Set<bigint>()
  #open: RawPath[] = []
  #beganMs = 0
  #isSearching = false
  #isIncomplete = false
  #timer: NodeJS.Timeout | undefined
  #turn: NodeJS.Immediate | undefined
  #closed = false

  constructor(
    readonly directories: Directories,
    readonly finder: Finder,
  ) {
    this.#root = new Root(directories.root)
  }

  /** When (Date.now) everything was found that had happened by then. */
  get foundAtMs(): number {
    return Math.min(this.#wantedSinceMs, this.#soughtSinceMs)
  }

  /** Something happened to this file after `sinceMs` (Date.now). To be called while the directories are held. */
  add(handle: Handle, mask: number, sinceMs: number): void {
    const found = this.directories.fileOf(handle)
    if (found === undefined) return // elsewhere; or gone, and its name is told
    if (typeof found === 'string') {
      if (!this.directories.excludes(found.slice(0, Math.max(found.lastIndexOf('/'), 0)) as RawPath))
        this.finder.onFound(found, mask)
      return
    }
    const inode = inodeOf(found.dev, found.ino)
    this.#wanted.set(inode, (this.#wanted.get(inode) ?? 0) | mask)
    this.#wantedSinceMs = Math.min(this.#wantedSinceMs, sinceMs)
    if (this.#wanted.size <= WANTED_MAX) this.#arm(GATHER_MS)
    else this.finder.onLost()
  }

  /** Everything is looked at now. */
  forget(): void {
    this.#wanted.clear()
    this.#sought.clear()
    this.#wantedSinceMs = this.#soughtSinceMs = Number.POSITIVE_INFINITY
    this.#open = []
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    clearImmediate(this.#turn)
    this.forget()
  }

  /** Not while a search is under way: its end does. */
  #arm(ms: number): void {
    if (!this.#isSearching && !this.#closed) this.#timer ??= setTimeout(() => this.#begin(), ms)
  }

  #begin(): void {
    this.#timer = undefined
    if (this.#wanted.size === 0) return
    this.#isSearching = true
    this.#isIncomplete = false
    this.#beganMs = performance.now()
    this.#sought = this.#wanted
    this.#wanted = new Map()
    this.#soughtSinceMs = this.#wantedSinceMs
    this.#wantedSinceMs = Number.POSITIVE_INFINITY
    this.#inos = new Set([...this.#sought.keys()].map((inode) => BigInt(inode.slice(inode.lastIndexOf(':') + 1))))
    this.#open = [ROOT]
    this.#continue()
  }

  #continue(): void {
    try {
      const untilMs = performance.now() + SLICE_MS
      while (this.#open.length > 0 && performance.now() < untilMs) this.#look(this.#open.pop()!)
      if (this.#open.length === 0) this.#end()
      this.finder.onTurn()
    } catch (thrown) {
      this.finder.onError(thrown)
      return
    }
    if (this.#isSearching && !this.#closed) this.#turn = setImmediate(() => this.#continue())
  }

  #end(): void {
    const isLost = this.#isIncomplete && this.#sought.size > 0
    this.#isSearching = false
    this.#sought.clear()
    this.#soughtSinceMs = Number.POSITIVE_INFINITY
    this.#arm(Math.max(GATHER_MS, SHARE * (performance.now() - this.#beganMs)))
    if (isLost) this.finder.onLost()
  }

  /** To the end: a file may have several names. */
  #look(directory: RawPath): void {
    const fd = this.#root.openDirectory(directory)
    if (fd < 0) {
      if (!kernel.isGone(fd) && fd !== -kernel.ERRNO.EACCES) this.#isIncomplete = true
      return
    }
    try {
      const identity = kernel.identityOf(fd)
      if (typeof identity !== 'number') this.#lookIn(fd, directory, identity.dev)
    } finally {
      kernel.close(fd)
    }
  }

  #lookIn(fd: number, directory: RawPath, dev: string): void {
    const { exclude } = this.directories
    const listed = kernel.list(fd, (name, ino, mayBeDirectory) => {
      const path = join(directory, name)
      if (mayBeDirectory && exclude?.(path, true) !== true && !this.finder.skips(path)) this.#open.push(path)
      const mask = this.#inos.has(ino) ? this.#sought.get(inodeOf(dev, ino)) : undefined
      if (mask === undefined) return false
      kernel.lookUp(fd, name)
      this.finder.onFound(path, mask)
      return false
    })
    if (listed < 0 && !kernel.isGone(listed)) this.#isIncomplete = true
  }
}
