import { constants } from 'node:fs'
import { FileError } from '../errors.js'
import {
  close,
  openBeneath,
  openDirectory,
  openFollowing,
  type Place,
  readAt,
  readDirectory,
  readLink,
  type Stat,
  SystemError,
  statAt,
  statPath,
  unlink,
} from '../kernel.js'
import { join, parent, type RawPath } from '../raw-path.js'
import { entryOf, type FileEntry, isDirectory, isRegular, isSymlink } from './entry.js'

const O_PATH = 0o10000000

/** What the receiver can take: its own buffers for a path hold MAXPATHLEN bytes, and a longer one ends the session. */
const WIRE_PATH_MAX = 4000

/** Whether a name belongs to the tree. */
type Keep = (path: RawPath, directory: boolean) => boolean

/** Makes of a name that was found what is sent of it, or null when that is nothing. */
type Make = (path: RawPath, stat: Stat, at: Place) => FileEntry | null

/** How far symlinks are followed: not at all, as far as they stay in the tree, or wherever they lead. */
export type Follow = 'never' | 'beneath' | 'anywhere'

/**
 * The tree that is sent. Every look-up starts at one descriptor and follows no symlink on the way, so that nobody who
 * can write below the root can make us read outside it. The descriptor is held only between `enter` and `leave`: a
 * filesystem on which nothing is going on can be unmounted.
 */
export class SourceTree {
  #root = -1
  #users = 0

  /**
   * `follow`: whether directories on the way to a name may be symlinks. `openRoot` opens the root where its path is
   * not one of the machine, as that of a directory in a module is not.
   */
  constructor(
    readonly path: RawPath,
    readonly follow: Follow = 'never',
    readonly openRoot: () => number = () => openDirectory(path),
    /** What symlinks may lead to beyond this tree: where it is, below a descriptor. */
    readonly within: { root: number; path: RawPath } | null = null,
    /** A directory that the operator named, and so says where it leads: symlinks are followed on the way there. */
    readonly named = '' as RawPath,
  ) {}

  /** Whether no symlink is on the way to a directory. */
  leadsTo(path: RawPath): boolean {
    this.enter()
    try {
      close(openBeneath(this.#root, path, O_PATH | constants.O_DIRECTORY, false))
      return true
    } catch (error) {
      if (error instanceof SystemError) return false
      throw error
    } finally {
      this.leave()
    }
  }

  /** Opens the root, or shares the open one. Throws SystemError when it is not a directory that can be opened. */
  enter(): void {
    if (this.#users === 0) this.#root = this.openRoot()
    this.#users++
  }

  leave(): void {
    if (--this.#users > 0) return
    close(this.#root)
    this.#root = -1 // the number may soon be another file's
  }

  /** Stat of the directory that was entered. */
  rootStat(): Stat {
    return statAt(this.#root, '')
  }

  /** Stat of what the root's path leads to now, which may be another. */
  pathStat(): Stat {
    return statPath(this.path)
  }

  /** What `path` is now, or null when it is not there. Throws FileError when it cannot be looked at. */
  look(path: RawPath): FileEntry | null {
    tooLong(path)
    let fd: number
    try {
      fd = path === '' ? this.#root : this.#open(path, O_PATH | constants.O_NOFOLLOW)
    } catch (error) {
      if (isGone(error)) return null
      throw fileError(path, error)
    }
    try {
      const stat = statAt(fd, '')
      return entryOf(path, stat, isSymlink(stat.mode) ? readLink(fd) : '')
    } catch (error) {
      throw fileError(path, error)
    } finally {
      if (fd !== this.#root) close(fd)
    }
  }

  /**
   * Looks at every name in the directory `dir`, in the order of the file list: files, then directories.
   * Null when it is not there (any more). One name that fails goes to `failed`.
   */
  list(dir: RawPath, keep: Keep, failed: (error: FileError) => void): FileEntry[] | null {
    const files: FileEntry[] = []
    const directories: FileEntry[] = []
    const found = this.#each(dir, keep, failed, (path, stat) => {
      const entry = isSymlink(stat.mode) ? this.look(path) : entryOf(path, stat)
      if (entry !== null) (isDirectory(entry.mode) ? directories : files).push(entry)
    })
    if (!found) return null
    files.sort((a, b) => (a.path < b.path ? -1 : 1))
    directories.sort((a, b) => (`${a.path}/` < `${b.path}/` ? -1 : 1))
    return files.concat(directories)
  }

  /**
   * What `make` makes of every name in the directory `dir`, by their paths; null is left out. They are looked at in the
   * kernel's order, in which they are close to each other there. One name that fails goes to `failed`. Returns null when
   * the directory is not there (any more). Throws FileError.
   */
  entries(dir: RawPath, make: Make, failed: (error: FileError) => void): FileEntry[] | null {
    const fd = this.#openDirectory(dir)
    if (fd === null) return null
    const entries: FileEntry[] = []
    try {
      for (const name of namesIn(dir, fd)) {
        const entry = attempt(dir, fd, name, make, failed)
        if (entry !== null) entries.push(entry)
      }
    } finally {
      close(fd)
    }
    return entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  /** Where `path` is; the descriptor is to be closed unless it is the root's. Throws SystemError. */
  place(path: RawPath): Place & { release(): void } {
    const slash = path.lastIndexOf('/')
    if (slash < 0) return { dir: this.#root, name: path, release: () => undefined }
    const dir = this.#open(path.slice(0, slash) as RawPath, O_PATH | constants.O_DIRECTORY)
    return { dir, name: path.slice(slash + 1), release: () => close(dir) }
  }

  /** stat(2), following symlinks as far as the tree allows. Throws SystemError. */
  statFollowing(path: RawPath): Stat {
    const fd = this.#openFollowing(path, O_PATH)
    try {
      return statAt(fd, '')
    } finally {
      close(fd)
    }
  }

  #openFollowing(path: RawPath, flags: number): number {
    if (this.follow === 'anywhere' || (this.named !== '' && this.within === null))
      return openFollowing(this.#root, path, flags)
    if (this.within === null) return openBeneath(this.#root, path, flags, true)
    return openBeneath(this.within.root, join(this.within.path, path), flags, true)
  }

  /** Opens what a symlink leads to, for reading. Throws FileError. */
  openFollowing(path: RawPath): number {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK
    try {
      return this.#openFollowing(path, flags)
    } catch (error) {
      throw fileError(path, error)
    }
  }

  /** The content of a file of at most `max` bytes; null where there is none, or it is no such file. */
  readSmall(path: RawPath, max: number): Buffer | null {
    this.enter()
    try {
      const fd = this.open(path)
      try {
        const { mode, size } = statAt(fd, '')
        if (!isRegular(mode) || size > max) return null
        const bytes = Buffer.alloc(size)
        return bytes.subarray(0, readAt(fd, bytes, 0))
      } finally {
        close(fd)
      }
    } catch (error) {
      if (error instanceof FileError || error instanceof SystemError) return null
      throw error
    } finally {
      this.leave()
    }
  }

  /** Removes a file that has arrived elsewhere (--remove-source-files). Throws SystemError. */
  remove(path: RawPath): void {
    const at = this.place(path)
    try {
      unlink(at.dir, at.name)
    } finally {
      at.release()
    }
  }

  #open(path: RawPath, flags: number): number {
    if (this.follow === 'anywhere') return openFollowing(this.#root, path, flags)
    const { named } = this
    if (named === '') return openBeneath(this.#root, path, flags, this.follow === 'beneath')
    if (path === named || named.startsWith(`${path}/`)) return this.#openNamed(path, flags)
    const base = this.#openNamed(named, O_PATH | constants.O_DIRECTORY)
    try {
      return openBeneath(base, path.slice(named.length + 1), flags, this.follow === 'beneath')
    } finally {
      close(base)
    }
  }

  #openNamed(path: RawPath, flags: number): number {
    if (this.within === null) return openFollowing(this.#root, path, flags & ~constants.O_NOFOLLOW)
    return openBeneath(this.within.root, join(this.within.path, path), flags & ~constants.O_NOFOLLOW, true)
  }

  /** What lstat tells of every name in the directory `dir`, by path. Null when it is not there (any more). */
  stats(dir: RawPath, keep: Keep, failed: (error: FileError) => void): Map<RawPath, Stat> | null {
    const stats = new Map<RawPath, Stat>()
    return this.#each(dir, keep, failed, (path, stat) => void stats.set(path, stat)) ? stats : null
  }

  /** False when there is no such directory. */
  #each(
    dir: RawPath,
    keep: Keep,
    failed: (error: FileError) => void,
    take: (path: RawPath, stat: Stat) => void,
  ): boolean {
    const fd = this.#openDirectory(dir)
    if (fd === null) return false
    const look = (path: RawPath, stat: Stat) => {
      if (keep(path, isDirectory(stat.mode))) take(path, stat)
      return null
    }
    try {
      for (const name of namesIn(dir, fd)) attempt(dir, fd, name, look, failed)
      return true
    } finally {
      close(fd)
    }
  }

  /** Null when there is no such directory. Throws FileError. */
  #openDirectory(dir: RawPath): number | null {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | (this.follow === 'never' ? constants.O_NOFOLLOW : 0)
    try {
      tooLong(dir)
      return this.#open(dir, flags)
    } catch (error) {
      if (isGone(error)) return null
      throw fileError(dir, error)
    }
  }

  /** Opens a regular file for reading. Throws FileError; the caller closes. */
  open(path: RawPath): number {
    try {
      // O_NONBLOCK: a FIFO that took the file's place must not hang us.
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
      return this.#open(path, flags)
    } catch (error) {
      throw fileError(path, error)
    }
  }
}

function namesIn(dir: RawPath, fd: number): string[] {
  try {
    return readDirectory(fd)
  } catch (error) {
    throw fileError(dir, error)
  }
}

/** What `make` makes of a name, or null; a name that has gone is none. */
function attempt(dir: RawPath, fd: number, name: string, make: Make, failed: (error: FileError) => void) {
  const path = join(dir, name)
  try {
    tooLong(path)
    return make(path, statAt(fd, name), { dir: fd, name })
  } catch (error) {
    if (!isGone(error)) failed(fileError(path, error))
    return null
  }
}

/** Every directory above `path`, outermost first, without the root. */
export function ancestors(path: RawPath): RawPath[] {
  const above: RawPath[] = []
  for (let dir = parent(path); dir !== ''; dir = parent(dir)) above.push(dir)
  return above.reverse()
}

function tooLong(path: RawPath): void {
  if (path.length > WIRE_PATH_MAX)
    throw new FileError(path, `the path is ${path.length} bytes long; rsync takes ${WIRE_PATH_MAX}`)
}

/** The name is not there: never was, was removed, or a directory above it is now something else. */
export function isGone(error: unknown): boolean {
  return error instanceof SystemError && (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'ELOOP')
}

function fileError(path: RawPath, error: unknown): FileError {
  if (error instanceof FileError) return error
  return new FileError(path, error instanceof Error ? error.message : String(error), isGone(error), { cause: error })
}
