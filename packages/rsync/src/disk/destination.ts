import { constants } from 'node:fs'
import {
  changeMode,
  changeOwner,
  changeTime,
  close,
  createFile,
  link,
  lookAt,
  makeDirectory,
  makeNode,
  openAt,
  openBeneath,
  openPath,
  type Place,
  readDirectory,
  readLink,
  removeDirectory,
  rename,
  renameToFree,
  type Stat,
  SystemError,
  statAt,
  symlink,
  unlink,
} from '../kernel.js'
import { parent, type RawPath } from '../raw-path.js'

const DIRECTORIES_MAX = 8
const O_PATH = 0o10000000

/**
 * A tree that is written. All that is done in it goes through the descriptor of its root: a path is opened beneath it,
 * no component of it may be a symlink, and then one name is acted on in the directory that was opened.
 * Every method throws SystemError when the kernel refuses.
 */
export class Destination {
  /** Directories that were used last, least recently used first. */
  readonly #open: { path: RawPath; fd: number }[] = []

  /**
   * `root` is a directory's descriptor, which is closed by `close`. `keepsLinks` (--keep-dirlinks): a symlink to a
   * directory of this tree stands for it.
   */
  constructor(
    readonly root: number,
    readonly keepsLinks = false,
  ) {}

  /** A tree within this one. The path may lead over symlinks of this tree, but not out of it. */
  static below(root: number, path: RawPath): Destination {
    return new Destination(openBeneath(root, path, O_PATH | constants.O_DIRECTORY, true))
  }

  close(): void {
    this.forgetDirectories()
    close(this.root)
  }

  /** What was a directory may be another one now, or nothing: the next use opens it anew. */
  forgetDirectories(): void {
    for (const { fd } of this.#open.splice(0)) close(fd)
  }

  /** Where `path` is. The descriptor is good until the next call of any method. */
  place(path: RawPath): Place {
    const slash = path.lastIndexOf('/')
    if (slash < 0) return { dir: this.root, name: path }
    return { dir: this.#directory(path.slice(0, slash) as RawPath), name: path.slice(slash + 1) }
  }

  #directory(path: RawPath): number {
    const open = this.#open
    for (let i = open.length - 1; i >= 0; i--) {
      const found = open[i]
      if (found.path !== path) continue
      if (i < open.length - 1) open.push(open.splice(i, 1)[0])
      return found.fd
    }
    const fd = this.#openDirectory(path, O_PATH)
    if (open.length === DIRECTORIES_MAX) close((open.shift() as { fd: number }).fd)
    open.push({ path, fd })
    return fd
  }

  /** What is at `path`, not following it, or null when nothing is. */
  stat(path: RawPath): Stat | null {
    try {
      const { dir, name } = this.place(path)
      return lookAt(dir, name)
    } catch (error) {
      if (isMissing(error)) return null
      throw error
    }
  }

  readLink(path: RawPath): string {
    const fd = openPath(this.root, path)
    try {
      return readLink(fd)
    } finally {
      close(fd)
    }
  }

  /** The names in a directory. */
  list(path: RawPath): string[] {
    const fd = this.#openDirectory(path, constants.O_RDONLY)
    try {
      return readDirectory(fd)
    } finally {
      close(fd)
    }
  }

  /** Opens a file for reading; the caller closes. */
  openForReading(path: RawPath): number {
    const { dir, name } = this.place(path)
    return openAt(dir, name, constants.O_RDONLY)
  }

  /** Opens a file for reading and writing, created where it is missing. */
  openForWriting(path: RawPath, mode: number): number {
    const { dir, name } = this.place(path)
    try {
      return openAt(dir, name, constants.O_RDWR)
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== 'ENOENT') throw error
      return createFile(dir, name, mode)
    }
  }

  /** Creates a file that must not exist. */
  create(path: RawPath, mode: number): number {
    const { dir, name } = this.place(path)
    return createFile(dir, name, mode)
  }

  makeDirectory(path: RawPath, mode: number): void {
    const { dir, name } = this.place(path)
    makeDirectory(dir, name, mode)
  }

  /** Makes a directory and those above it that are missing. */
  makePath(path: RawPath, mode: number): void {
    for (let slash = path.indexOf('/'); ; slash = path.indexOf('/', slash + 1)) {
      const part = (slash < 0 ? path : path.slice(0, slash)) as RawPath
      try {
        this.makeDirectory(part, mode)
      } catch (error) {
        if (!(error instanceof SystemError) || error.code !== 'EEXIST') throw error
      }
      if (slash < 0) return
    }
  }

  rename(from: RawPath, to: RawPath): void {
    this.moveTo(from, this, to)
  }

  /** Moves something to another tree, or within this one. */
  moveTo(from: RawPath, tree: Destination, to: RawPath): void {
    if (tree === this && parent(from) === parent(to)) {
      const { dir, name } = this.place(from)
      return rename(dir, name, dir, to.slice(to.lastIndexOf('/') + 1))
    }
    this.#withPlace(from, tree, to, rename)
  }

  /** As `rename`, where there is nothing at `to`. */
  renameToFree(from: RawPath, to: RawPath): void {
    this.#withPlace(from, this, to, renameToFree)
  }

  /** Gives `from`, which is in `tree`, a further name in this one. */
  link(tree: Destination, from: RawPath, to: RawPath): void {
    tree.#withPlace(from, this, to, link)
  }

  /** Calls `act` with the places of `from`, here, and of `to`, in `tree`; both directories are open then. */
  #withPlace(
    from: RawPath,
    tree: Destination,
    to: RawPath,
    act: (fromDir: number, from: string, toDir: number, to: string) => void,
  ): void {
    const source = this.#held(from)
    try {
      const target = tree.place(to)
      act(source.dir, source.name, target.dir, target.name)
    } finally {
      source.release()
    }
  }

  unlink(path: RawPath): void {
    const { dir, name } = this.place(path)
    unlink(dir, name)
  }

  removeDirectory(path: RawPath): void {
    this.forgetDirectories()
    const { dir, name } = this.place(path)
    removeDirectory(dir, name)
  }

  symlink(target: string, path: RawPath): void {
    const { dir, name } = this.place(path)
    symlink(target, dir, name)
  }

  makeNode(path: RawPath, mode: number, major: number, minor: number): void {
    const { dir, name } = this.place(path)
    makeNode(dir, name, mode, major, minor)
  }

  changeMode(path: RawPath, mode: number): void {
    const { dir, name } = this.place(path)
    changeMode(dir, name === '' ? '.' : name, mode)
  }

  changeOwner(path: RawPath, uid: number | null, gid: number | null): void {
    const { dir, name } = this.place(path)
    changeOwner(dir, name, uid, gid)
  }

  changeTime(path: RawPath, mtime: number, mtimeNsec: number): void {
    const { dir, name } = this.place(path)
    changeTime(dir, name === '' ? '.' : name, mtime, mtimeNsec)
  }

  #openDirectory(path: string, flags: number): number {
    const follow = this.keepsLinks ? 0 : constants.O_NOFOLLOW
    return openBeneath(this.root, path, flags | constants.O_DIRECTORY | follow, this.keepsLinks)
  }

  /** Stat of the directory that `path` is, or that a symlink there leads to within this tree; null for anything else. */
  directoryAt(path: RawPath): Stat | null {
    try {
      const fd = openBeneath(this.root, path, O_PATH | constants.O_DIRECTORY, true)
      try {
        return statAt(fd, '')
      } finally {
        close(fd)
      }
    } catch (error) {
      if (error instanceof SystemError) return null
      throw error
    }
  }

  /** A place whose directory stays open while another is looked up. */
  #held(path: RawPath): Place & { release(): void } {
    const slash = path.lastIndexOf('/')
    if (slash < 0) return { dir: this.root, name: path, release: () => undefined }
    const dir = this.#openDirectory(path.slice(0, slash), O_PATH)
    return { dir, name: path.slice(slash + 1), release: () => close(dir) }
  }
}

/** Nothing is there: no such name, or something above it is no directory. */
export function isMissing(error: unknown): boolean {
  return error instanceof SystemError && (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'ELOOP')
}
