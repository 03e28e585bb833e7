import { WatchError } from './errors.js'
import * as kernel from './kernel.js'
import { mend, type Notice } from './limits.js'
import { join, printable, type RawPath, ROOT } from './raw-path.js'

/** Where a tree is, and how to open what is in it. Holds no descriptor: that would keep its filesystem from being unmounted. */
export class Root {
  readonly #path: RawPath

  /** An absolute path. It may lead through symbolic links; what is below it may not. */
  constructor(path: RawPath) {
    this.#path = path
  }

  absolute(path: RawPath): RawPath {
    return path === ROOT ? this.#path : join(this.#path === '/' ? ROOT : this.#path, path)
  }

  /** A descriptor of the directory, or the negative errno. */
  openDirectory(path: RawPath): number {
    const absolute = this.absolute(path)
    if (absolute.length < kernel.PATH_MAX) return kernel.openDirectory(undefined, absolute, path === ROOT)
    return this.#openLong(path)
  }

  /** The path is longer than the kernel takes at once. */
  #openLong(path: RawPath): number {
    let at = kernel.openDirectory(undefined, this.#path, true)
    let rest: string = path
    while (at >= 0 && rest.length >= kernel.PATH_MAX) {
      const cut = rest.lastIndexOf('/', kernel.PATH_MAX - 1)
      const next = kernel.openForLookup(at, rest.slice(0, cut))
      kernel.close(at)
      at = next
      rest = rest.slice(cut + 1)
    }
    if (at < 0) return at
    const fd = kernel.openDirectory(at, rest)
    kernel.close(at)
    return fd
  }

  /** Sets the first watch by `addWatch`. Throws WatchError. */
  watch(addWatch: (fd: number) => number): { wd: number; identity: kernel.Identity; fsType: number } {
    const fd = kernel.openDirectory(undefined, this.#path, true)
    if (fd < 0) throw cannotOpenRoot(this.#path, fd)
    try {
      const wd = addWatch(fd)
      if (wd < 0) throw this.#cannotWatch(wd)
      const identity = kernel.identityOf(fd)
      if (typeof identity === 'number') throw cannotOpenRoot(this.#path, identity)
      return { wd, identity, fsType: kernel.filesystemType(fd) }
    } finally {
      kernel.close(fd)
    }
  }

  #cannotWatch(errno: number): WatchError {
    const root = printable(this.#path)
    if (errno === -kernel.ERRNO.ENOSPC) {
      const problem = "this user's limit of inotify watches is reached"
      return new WatchError('WATCH_LIMIT', `cannot watch ${root}: ${problem}. To mend it: ${mend('max_user_watches')}`)
    }
    // ENOENT is not about the directory, which is open: /proc/self/fd is missing.
    const hint = errno === -kernel.ERRNO.ENOENT ? ' (is /proc mounted?)' : ''
    return new WatchError('ROOT_UNREADABLE', `cannot watch ${root}: ${kernel.errnoName(errno)}${hint}`)
  }
}

/** What it means that the root cannot be opened, or looked at. */
export function cannotOpenRoot(path: RawPath, errno: number): WatchError {
  const root = printable(path)
  if (errno === -kernel.ERRNO.ENOENT) return new WatchError('ROOT_NOT_FOUND', `${root}: there is no such directory`)
  if (errno === -kernel.ERRNO.ENOTDIR) return new WatchError('ROOT_NOT_A_DIRECTORY', `${root} is not a directory`)
  return new WatchError('ROOT_UNREADABLE', `cannot open ${root}: ${kernel.errnoName(errno)}`)
}

/** statfs(2) types whose changes may be made elsewhere: then this kernel raises no events. */
const REMOTE = new Map([
  [0x6969, 'NFS'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x01021997, '9P'],
  [0x00c36400, 'Ceph'],
  [0x65735546, 'FUSE'],
])

/** 'NFS', when changes there may be made by others, of which this kernel is not told. */
export const remoteName = (fsType: number): string | undefined => REMOTE.get(fsType)

export function noticeRemote(rootPath: RawPath, fsType: number, notice: Notice): void {
  const name = remoteName(fsType)
  if (name === undefined) return
  notice(
    `${printable(rootPath)} is on ${name}: inotify reports only what this machine changes there, not what others do`,
  )
}
