import { constants, readdirSync } from 'node:fs'
import { FileError } from '../errors.js'
import {
  close,
  openBeneath,
  openDirectory,
  openPath,
  readLink,
  type Stat,
  SystemError,
  statAt,
  statPath,
} from '../kernel.js'
import { join, parent, type RawPath } from '../raw-path.js'
import { entryOf, type FileEntry, isDirectory, isSymlink } from './entry.js'

/** What the receiver can take: its own buffers for a path hold MAXPATHLEN bytes, and a longer one ends the session. */
const WIRE_PATH_MAX = 4000

/** Whether a name belongs to the tree. */
type Keep = (path: RawPath, directory: boolean) => boolean

/**
 * The tree that is sent. Every look-up starts at one descriptor and follows no symlink on the way, so that nobody who
 * can write below the root can make us read outside it. The descriptor is held only between `enter` and `leave`: a
 * filesystem on which nothing is going on can be unmounted.
 */
export class SourceTree {
  #root = -1
  #users = 0

  constructor(readonly path: RawPath) {}

  /** Opens the root, or shares the open one. Throws SystemError when it is not a directory that can be opened. */
  enter(): void {
    if (this.#users === 0) this.#root = openDirectory(this.path)
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
      fd = path === '' ? this.#root : openPath(this.#root, path)
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
    let fd: number
    try {
      tooLong(dir)
      fd = openBeneath(this.#root, dir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
    } catch (error) {
      if (isGone(error)) return false
      throw fileError(dir, error)
    }
    try {
      for (const name of readdirSync(`/proc/self/fd/${fd}`, 'latin1')) {
        const path = join(dir, name)
        try {
          tooLong(path)
          const stat = statAt(fd, name)
          if (keep(path, isDirectory(stat.mode))) take(path, stat)
        } catch (error) {
          if (!isGone(error)) failed(fileError(path, error))
        }
      }
      return true
    } catch (error) {
      throw fileError(dir, error)
    } finally {
      close(fd)
    }
  }

  /** Opens a regular file for reading. Throws FileError; the caller closes. */
  open(path: RawPath): number {
    try {
      // O_NONBLOCK: a FIFO that took the file's place must not hang us.
      return openBeneath(this.#root, path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch (error) {
      throw fileError(path, error)
    }
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
