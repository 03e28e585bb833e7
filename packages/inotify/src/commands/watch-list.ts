import { decodeEvents, IN, type InotifyEvent } from '../events.js'
import * as kernel from '../kernel.js'
import { type KernelQueue, openInotify } from '../queue.js'
import type { RawPath } from '../raw-path.js'

/** An event, and where it happened. */
export interface PathEvent {
  /** What is watched, as it was given, with a slash behind it when it is a directory; '' when the kernel names nothing. */
  watched: string
  /** The name in it; '' when it is about what is watched. */
  name: RawPath
  mask: number
  cookie: number
}

export interface WatchListOptions {
  mask: number
  followsLinks: boolean
  /** Watches what is below the directories that are given, */
  recursive: boolean
  /** and what appears there later. */
  grows: boolean
  /** Whether events on this path are left out; a directory of such a path is not watched when it appears. */
  hides: (path: string) => boolean
  onEvents: (events: PathEvent[]) => void
  onError: (error: Error) => void
  /** A directory that appeared could not be watched. */
  onUnwatched: (path: string, errno: number) => void
  /** A directory, with all below it, is not watched any more; or has another name now. */
  onGone?: (path: string) => void
  onRenamed?: (from: string, to: string) => void
}

/** What makes a listing visible to others who watch: ours is not to be, where Debian's is not. */
const LISTING = IN.OPEN | IN.ACCESS | IN.CLOSE_NOWRITE
/** In the place of nothing, which cannot be watched. */
const NOTHING = IN.DELETE_SELF
/** The other half of a rename comes within microseconds, when it comes. */
const PARTNER_MS = 100
/** So many at once are not waited for. */
const MOVES_MAX = 1024

/** What inotifywait and inotifywatch watch: paths as they were given, and trees below them. */
export class WatchList {
  readonly #paths = new Map<number, string>()
  readonly #queue: KernelQueue
  readonly #given: string[] = []
  /** Directories that were moved, by cookie: away, unless an event that is still to come says where to. */
  readonly #moved = new Map<number, string>()
  #timer: NodeJS.Timeout | undefined
  /** What is watched since a directory has appeared that is being looked at. */
  #fresh: number[] | undefined
  /** Names that were told when they were found in a new directory, until the events about them have come. */
  readonly #told = new Map<number, Set<RawPath>>()

  /** Throws WatchError when there are no more inotify instances. */
  constructor(readonly options: WatchListOptions) {
    this.#queue = openInotify((bytes) => this.#read(bytes), options.onError)
  }

  /** Directories that are left out where trees are watched from now on. */
  excluded: ReadonlySet<string> = new Set()
  /** How many paths are watched; one that was given a second time counts twice. */
  count = 0

  /** In the order in which they were set. */
  get watched(): Iterable<string> {
    return this.#paths.values()
  }

  /** Watches a path that was given, and with `recursive` what is below it. Returns 0, or the negative errno. */
  add(path: string): number {
    this.#given.push(path)
    const { recursive, followsLinks } = this.options
    const directory = withSlash(path)
    if (recursive && isDirectoryBehind(directory)) return this.#addTree(directory, true, undefined)
    const dontFollow = followsLinks ? 0 : IN.DONT_FOLLOW
    return this.#watch(kernel.isDirectory(path) ? directory : path, path, this.options.mask | dontFollow, true)
  }

  /** Returns 0, or the negative errno. What is watched already keeps the name that it has. */
  #watch(watched: string, path: string, mask: number, given: boolean): number {
    const wd = kernel.addWatchAt(this.#queue.fd, path as RawPath, mask)
    if (wd < 0) return wd
    const known = this.#paths.has(wd)
    if (!known) {
      this.#paths.set(wd, watched)
      this.#fresh?.push(wd)
    }
    if (!known || given) this.count++
    return 0
  }

  /**
   * A directory and all below it: first what is below, as it is told then. When it grows, it is watched before it is listed,
   * so that nothing comes unseen in between; but without what a listing itself would make visible.
   * `found` gets what is in it, and was there before it was watched.
   */
  #addTree(directory: string, given: boolean, found: PathEvent[] | undefined): number {
    const { mask, grows } = this.options
    if (directory.length >= kernel.PATH_MAX) return -kernel.ERRNO.ENAMETOOLONG
    if (grows) kernel.addWatchAt(this.#queue.fd, directory as RawPath, mask & ~LISTING || NOTHING)
    const fd = kernel.openDirectory(undefined, directory, true)
    if (fd < 0) return given || isShortage(fd) ? fd : 0
    const names = kernel.readNames(fd)
    kernel.close(fd) // a deep tree has more levels than there are descriptors
    for (const name of names) {
      const path = `${directory}${name}`
      const isDir = path.length >= kernel.PATH_MAX || kernel.isDirectory(path)
      if (found !== undefined) this.#find(directory, name, isDir, found)
      if (!isDir || this.excluded.has(path)) continue
      const result = this.#addTree(`${path}/`, false, found)
      if (result < 0) return result
    }
    return this.#watch(directory, directory, mask, given)
  }

  #find(directory: string, name: RawPath, isDir: boolean, found: PathEvent[]): void {
    const event = { watched: directory, name, cookie: 0 }
    found.push({ ...event, mask: IN.CREATE | (isDir ? IN.ISDIR : 0) })
    const path = `${directory}${name}` as RawPath
    // Whoever has it open for writing will close it, and that is an event.
    if (!isDir && kernel.isFile(path) && !kernel.isBeingWritten(path)) found.push({ ...event, mask: IN.CLOSE_WRITE })
  }

  // --- events

  #read(bytes: Buffer): void {
    const events: PathEvent[] = []
    for (const event of decodeEvents(bytes)) this.#interpret(event, events)
    if (this.#queue.isEmpty) {
      this.#told.clear()
      if (this.#moved.size > 0) this.#timer ??= setTimeout(() => this.#endMoves(), PARTNER_MS)
    }
    this.options.onEvents(events)
  }

  #interpret(event: InotifyEvent, events: PathEvent[]): void {
    const { wd, mask, cookie, name } = event
    if (mask & IN.Q_OVERFLOW) {
      events.push({ watched: '', name, mask, cookie })
      return this.#lookAgain()
    }
    const watched = this.#paths.get(wd)
    const arrives = (mask & IN.MOVED_TO) !== 0 && this.#arrives(event, events)
    if (watched === undefined) return // it has left the tree, and its watch was removed
    if (mask & IN.IGNORED) this.#paths.delete(wd)
    const path = `${watched}${name}`
    const isSubdirectory = this.options.grows && (mask & IN.ISDIR) !== 0 && name !== ''
    if (isSubdirectory && mask & IN.MOVED_FROM) this.#leaves(cookie, `${path}/`)
    if (this.options.hides(path) || this.#wasTold(wd, event)) return
    events.push({ watched, name, mask, cookie })
    if (!isSubdirectory) return
    if (mask & IN.CREATE || (mask & IN.MOVED_TO && !arrives)) this.#appeared(path, (mask & IN.CREATE) !== 0, events)
  }

  #leaves(cookie: number, path: string): void {
    if (this.#moved.size >= MOVES_MAX) this.#endMoves()
    this.#moved.set(cookie, path)
  }

  /** What was moved has arrived elsewhere in the tree. False when it comes from outside, or was not watched. */
  #arrives({ cookie, name, wd }: InotifyEvent, events: PathEvent[]): boolean {
    const from = this.#moved.get(cookie)
    const parent = this.#paths.get(wd)
    if (from === undefined || parent === undefined) return false
    this.#moved.delete(cookie)
    const to = `${parent}${name}/`
    let isWatched = false
    for (const [below, path] of this.#paths) {
      if (!path.startsWith(from)) continue
      this.#paths.set(below, `${to}${path.slice(from.length)}`)
      isWatched = true
    }
    if (!isWatched) return false // nothing below it was watched under a name that was hidden
    for (const [other, path] of this.#moved)
      if (path.startsWith(from)) this.#moved.set(other, `${to}${path.slice(from.length)}`)
    this.options.onEvents(events.splice(0)) // they happened under the old names
    this.options.onRenamed?.(from, to)
    return true
  }

  /** What was moved and has not arrived has left the tree. */
  #endMoves(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    for (const from of this.#moved.values()) {
      for (const [wd, path] of this.#paths) {
        if (!path.startsWith(from)) continue
        this.#paths.delete(wd)
        kernel.removeWatch(this.#queue.fd, wd)
      }
      this.options.onGone?.(from)
    }
    this.#moved.clear()
  }

  #appeared(path: string, isNew: boolean, events: PathEvent[]): void {
    const found: PathEvent[] | undefined = isNew ? [] : undefined
    const directory = `${path}/`
    const fresh: number[] = []
    this.#fresh = fresh
    const result = this.#addTree(directory, true, found)
    this.#fresh = undefined
    if (result < 0 && !kernel.isGone(result)) this.options.onUnwatched(directory, result)
    if (found === undefined || found.length === 0) return
    const names = new Map<string, Set<RawPath>>()
    for (const event of found) {
      const told = names.get(event.watched) ?? new Set()
      names.set(event.watched, told.add(event.name))
      if (!this.options.hides(`${event.watched}${event.name}`)) events.push(event)
    }
    for (const wd of fresh) this.#told.set(wd, names.get(this.#paths.get(wd)!) ?? new Set())
  }

  #wasTold(wd: number, { mask, name }: InotifyEvent): boolean {
    // What is made again is another.
    if (mask & (IN.DELETE | IN.MOVED_FROM)) this.#told.get(wd)?.delete(name)
    return (mask & IN.CREATE) !== 0 && this.#told.get(wd)?.delete(name) === true
  }

  /** Events were lost: whatever has appeared is watched from now on. */
  #lookAgain(): void {
    if (!this.options.grows) return
    for (const path of this.#given) {
      const directory = withSlash(path)
      if (!isDirectoryBehind(directory)) continue
      const result = this.#addTree(directory, false, undefined)
      if (result < 0 && !kernel.isGone(result)) this.options.onUnwatched(directory, result)
    }
  }
}

const withSlash = (path: string) => (path.endsWith('/') ? path : `${path}/`)

const isDirectoryBehind = (directory: string) => typeof kernel.directoryIdentity(directory) !== 'number'

const isShortage = (errno: number) => errno === -kernel.ERRNO.ENAMETOOLONG || kernel.isShortage(errno)
