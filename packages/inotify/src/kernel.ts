/**
 * All calls of the kernel. Each returns what the call returned, or the negative errno, as the kernel itself does:
 * most failures here are the ordinary course of a changing tree, and the caller decides.
 */
import { constants, readlinkSync } from 'node:fs'
import koffi from 'koffi'
import type { RawPath } from './raw-path.js'

export const ERRNO = koffi.os.errno as Record<
  | 'ENOENT'
  | 'EACCES'
  | 'EPERM'
  | 'ENOTDIR'
  | 'EMFILE'
  | 'ENFILE'
  | 'ENOSPC'
  | 'ELOOP'
  | 'ESTALE'
  | 'EAGAIN'
  | 'EINVAL'
  | 'ENOSYS'
  | 'EXDEV'
  | 'ENODEV'
  | 'EOPNOTSUPP'
  | 'ENAMETOOLONG'
  | 'EINTR',
  number
>

/** 'ENOSPC' for -28 or 28: what a person can look up. */
export function errnoName(errno: number): string {
  const found = Object.entries(koffi.os.errno).find(([, value]) => value === Math.abs(errno))
  return found?.[0] ?? `errno ${Math.abs(errno)}`
}

const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const AT_STATX_DONT_SYNC = 0x4000
const O_CLOEXEC = 0o2000000
const O_PATH = 0o10000000
const FIONREAD = 0x541b

const libc = koffi.load(null)
const c = {
  inotify_init1: libc.func('int inotify_init1(int flags)') as (flags: number) => number,
  inotify_add_watch: libc.func('int inotify_add_watch(int fd, void *path, uint32_t mask)') as (
    fd: number,
    path: Buffer,
    mask: number,
  ) => number,
  inotify_rm_watch: libc.func('int inotify_rm_watch(int fd, int wd)') as (fd: number, wd: number) => number,
  openat: libc.func('int openat(int dirfd, void *path, int flags)') as (d: number, path: Buffer, f: number) => number,
  // There is no ssize_t in koffi; long is the same width everywhere on Linux.
  getdents64: libc.func('long getdents64(int fd, void *entries, size_t length)') as (
    fd: number,
    entries: Buffer,
    length: number,
  ) => number,
  lseek: libc.func('long lseek(int fd, long offset, int whence)') as (f: number, o: number, w: number) => number,
  statx: libc.func('int statx(int dirfd, void *path, int flags, unsigned int mask, void *out)') as (
    dirfd: number,
    path: Buffer,
    flags: number,
    mask: number,
    out: Buffer,
  ) => number,
  fstatfs: libc.func('int fstatfs(int fd, void *out)') as (fd: number, out: Buffer) => number,
  ioctl: libc.func('int ioctl(int fd, unsigned long request, void *out)') as (
    f: number,
    r: number,
    o: Buffer,
  ) => number,
  pipe2: libc.func('int pipe2(void *fds, int flags)') as (fds: Buffer, flags: number) => number,
  dup3: libc.func('int dup3(int from, int to, int flags)') as (from: number, to: number, flags: number) => number,
  poll: libc.func('int poll(void *fds, unsigned long count, int timeout)') as (
    f: Buffer,
    n: number,
    t: number,
  ) => number,
  read: libc.func('long read(int fd, void *out, size_t length)') as (fd: number, out: Buffer, l: number) => number,
  close: libc.func('int close(int fd)') as (fd: number) => number,
  fanotify_init: libc.func('int fanotify_init(unsigned int flags, unsigned int event_flags)') as (
    flags: number,
    eventFlags: number,
  ) => number,
  fanotify_mark: libc.func('int fanotify_mark(int fd, unsigned int flags, uint64_t mask, int dirfd, void *path)') as (
    fd: number,
    flags: number,
    mask: number,
    dirfd: number,
    path: Buffer | null,
  ) => number,
  open_by_handle_at: libc.func('int open_by_handle_at(int mount, void *handle, int flags)') as (
    mount: number,
    handle: Buffer,
    flags: number,
  ) => number,
  name_to_handle_at: libc.func(
    'int name_to_handle_at(int dirfd, void *path, void *handle, void *mount, int flags)',
  ) as (dirfd: number, path: Buffer, handle: Buffer, mount: Buffer, flags: number) => number,
  readlink: libc.func('long readlink(void *path, void *target, size_t length)') as (
    path: Buffer,
    target: Buffer,
    length: number,
  ) => number,
  strerror: libc.func('const char *strerror(int errno)') as (errno: number) => string,
  fcntl: libc.func('int fcntl(int fd, int command, int argument)') as (fd: number, c: number, a: number) => number,
  epoll_create1: libc.func('int epoll_create1(int flags)') as (flags: number) => number,
  epoll_ctl: libc.func('int epoll_ctl(int epoll, int op, int fd, void *event)') as (
    epoll: number,
    op: number,
    fd: number,
    event: Buffer,
  ) => number,
}

/** Whether a call failed because there are no descriptors left, of this process or of the machine. */
export const isShortage = (errno: number): boolean => errno === -ERRNO.EMFILE || errno === -ERRNO.ENFILE

const GONE = new Set([ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.ELOOP, ERRNO.ESTALE])

/** Whether a call failed because a directory is not there any more, or something else has its name: an event tells of that. */
export const isGone = (errno: number): boolean => GONE.has(-errno)

/** 'No such file or directory' for 2 or -2. */
export const strerror = (errno: number): string => c.strerror(Math.abs(errno))

const orErrno = (result: number): number => (result < 0 ? -koffi.errno() : result)

/** Longest path the kernel takes in one call, with its NUL. */
export const PATH_MAX = 4096

// Native calls here are synchronous, so they can share their buffers.
const pathBuffer = Buffer.alloc(PATH_MAX)
const emptyPath = Buffer.alloc(1)

function cString(path: string): Buffer {
  pathBuffer[pathBuffer.write(path, 0, PATH_MAX - 1, 'latin1')] = 0
  return pathBuffer
}

// --- inotify

/** A non-blocking inotify instance. */
export const inotifyInit = (): number => orErrno(c.inotify_init1(O_CLOEXEC | constants.O_NONBLOCK))

/** Where our descriptors have names. Not by way of the link /proc/self: a tenth of the time that a watch takes. */
const DESCRIPTORS = `/proc/${procSelf()}/fd`

function procSelf(): string {
  try {
    return readlinkSync('/proc/self') // in a container it may be another than process.pid
  } catch {
    return 'self' // without /proc each watch fails, and says so
  }
}

/**
 * Watches the very directory that `fd` has open, wherever it is by now. Through /proc, and following that link: a path
 * could lead somewhere else by the time the kernel walks it.
 */
export const addWatch = (inotify: number, fd: number, mask: number): number =>
  orErrno(c.inotify_add_watch(inotify, cString(`${DESCRIPTORS}/${fd}`), mask))

/** Watches `name` in the very directory that `fd` has open; `mask` says whether a symbolic link is followed. */
export const addWatchIn = (inotify: number, fd: number, name: RawPath, mask: number): number =>
  orErrno(c.inotify_add_watch(inotify, cString(`${DESCRIPTORS}/${fd}/${name}`), mask))

/** Watches what is at `path`; a symbolic link is followed unless the mask says otherwise. */
export function addWatchAt(inotify: number, path: RawPath, mask: number): number {
  if (path.length >= PATH_MAX) return -koffi.os.errno.ENAMETOOLONG!
  return orErrno(c.inotify_add_watch(inotify, cString(path), mask >>> 0))
}

export const removeWatch = (inotify: number, wd: number): number => orErrno(c.inotify_rm_watch(inotify, wd))

const queuedOut = Buffer.alloc(4)

/** Bytes waiting in the kernel's queue. */
export function queuedBytes(inotify: number): number {
  const result = orErrno(c.ioctl(inotify, FIONREAD, queuedOut))
  return result < 0 ? result : queuedOut.readInt32LE(0)
}

/** A pipe as [read end, write end]. */
export function pipe(): [number, number] | number {
  const fds = Buffer.alloc(8)
  const result = orErrno(c.pipe2(fds, O_CLOEXEC | constants.O_NONBLOCK))
  return result < 0 ? result : [fds.readInt32LE(0), fds.readInt32LE(4)]
}

/** Makes `to` mean what `from` means; what `to` was before is closed. */
export const replaceDescriptor = (from: number, to: number): number => orErrno(c.dup3(from, to, O_CLOEXEC))

export const close = (fd: number): void => void c.close(fd)

/** How many bytes were read, or the negative errno. */
export const read = (fd: number, into: Buffer): number => orErrno(c.read(fd, into, into.length))

const POLLIN = 1
const POLLFD_BYTES = 8

/**
 * Waits, and blocks its thread, until one of the descriptors can be read, or has an error, or so much time has passed. Says of
 * each whether it is so.
 */
export function waitForAny(fds: readonly number[], timeoutMs: number): boolean[] {
  const polled = Buffer.alloc(fds.length * POLLFD_BYTES)
  fds.forEach((fd, i) => {
    polled.writeInt32LE(fd, i * POLLFD_BYTES)
    polled.writeInt16LE(POLLIN, i * POLLFD_BYTES + 4)
  })
  while (orErrno(c.poll(polled, fds.length, timeoutMs)) === -ERRNO.EINTR);
  return fds.map((_, i) => polled.readInt16LE(i * POLLFD_BYTES + 6) !== 0)
}

// --- fanotify

/** A non-blocking fanotify group. */
export const fanotifyInit = (flags: number): number => orErrno(c.fanotify_init(flags, O_CLOEXEC))

/** Marks what `fd` has open. `mask` may have more than 32 bits. */
export const fanotifyMark = (group: number, flags: number, mask: number, fd: number): number =>
  orErrno(c.fanotify_mark(group, flags, mask, fd, null))

/** struct file_handle: u32 handle_bytes, s32 handle_type, the handle. MAX_HANDLE_SZ is 128. */
const HANDLE_HEADER = 8
const handleBuffer = Buffer.alloc(HANDLE_HEADER + 128)
const mountIdOut = Buffer.alloc(8)

/**
 * Opens, for lookups only, what a handle means on the filesystem that `mount` has open. `handle` is a struct file_handle,
 * one character per byte. -ESTALE when that is no more.
 */
export function openByHandle(mount: number, handle: string, flags = O_PATH): number {
  handleBuffer.write(handle, 0, 'latin1')
  return orErrno(c.open_by_handle_at(mount, handleBuffer, flags | O_CLOEXEC))
}

/** As openByHandle, of a directory; a mark can only be set on what is really open. */
export const openDirectoryByHandle = (mount: number, handle: string): number =>
  openByHandle(mount, handle, constants.O_RDONLY | constants.O_DIRECTORY)

/** The struct file_handle of what `fd` has open, one character per byte; or the negative errno. */
export function handleOf(fd: number): string | number {
  handleBuffer.writeUInt32LE(handleBuffer.length - HANDLE_HEADER, 0)
  const result = orErrno(c.name_to_handle_at(fd, emptyPath, handleBuffer, mountIdOut, AT_EMPTY_PATH))
  return result < 0 ? result : handleBuffer.toString('latin1', 0, HANDLE_HEADER + handleBuffer.readUInt32LE(0))
}

const linkBuffer = Buffer.alloc(PATH_MAX)

/** The absolute path of what `fd` has open, as its mount shows it now; or the negative errno. */
export function pathOf(fd: number): RawPath | number {
  const length = orErrno(c.readlink(cString(`${DESCRIPTORS}/${fd}`), linkBuffer, linkBuffer.length))
  return length < 0 ? length : (linkBuffer.toString('latin1', 0, length) as RawPath)
}

const EPOLL_CTL_ADD = 1
const EPOLLPRI = 0x2
const EPOLLERR = 0x8

/** An epoll instance that is readable when `fd` has something exceptional to tell. */
export function pollExceptional(fd: number): number {
  const epoll = orErrno(c.epoll_create1(O_CLOEXEC))
  if (epoll < 0) return epoll
  const event = Buffer.alloc(16)
  event.writeUInt32LE(EPOLLPRI | EPOLLERR)
  const result = orErrno(c.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, event))
  if (result >= 0) return epoll
  close(epoll)
  return result
}

// --- directories

const OPEN_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK | O_CLOEXEC

/** Opens a directory for listing; a symbolic link as the last component only with `follow`. */
export function openDirectory(at: number | undefined, path: string, follow = false): number {
  if (path.length >= PATH_MAX) return -koffi.os.errno.ENAMETOOLONG!
  return orErrno(c.openat(at ?? AT_FDCWD, cString(path), OPEN_DIRECTORY | (follow ? 0 : constants.O_NOFOLLOW)))
}

/** Opens a directory, symbolic links followed, for the time of `work`. Returns what that does, or the negative errno. */
export function withDirectory<T>(path: string, work: (fd: number) => T): T | number {
  const fd = openDirectory(undefined, path, true)
  if (fd < 0) return fd
  try {
    return work(fd)
  } finally {
    close(fd)
  }
}

/** Opens a directory only to resolve further names from it. */
export const openForLookup = (at: number, path: string): number =>
  orErrno(c.openat(at, cString(path), constants.O_DIRECTORY | constants.O_NOFOLLOW | O_PATH | O_CLOEXEC))

/** The directory above the one that `fd` has open. */
export const openParent = (fd: number): number =>
  orErrno(c.openat(fd, cString('..'), constants.O_RDONLY | constants.O_DIRECTORY | O_CLOEXEC))

const SEEK_SET = 0
const DT_UNKNOWN = 0
const DT_DIR = 4

const entries = Buffer.alloc(64 * 1024)

/**
 * What is listed from here on has all that is there now. A directory of btrfs lists what it had when it was opened, and as
 * POSIX has it, any may.
 */
export const rewindDirectory = (fd: number): void => void c.lseek(fd, 0, SEEK_SET)

/**
 * The next part of the listing of `fd`: the names that are, or on filesystems that do not tell may be, directories are
 * added to `names`. Returns 0 at the end, something positive while there is more.
 */
export function readSubdirectories(fd: number, names: RawPath[]): number {
  const length = orErrno(c.getdents64(fd, entries, entries.length))
  // struct linux_dirent64: u64 ino, s64 off, u16 reclen, u8 type, name NUL
  for (let at = 0; at < length; at += entries.readUInt16LE(at + 16)) {
    const type = entries[at + 18]
    if (type !== DT_DIR && type !== DT_UNKNOWN) continue
    const start = at + 19
    const name = entries.toString('latin1', start, entries.indexOf(0, start)) as RawPath
    if (name !== '.' && name !== '..') names.push(name)
  }
  return length
}

/** Lists all of `fd` but '.' and '..', in the order of the directory, until `take` returns true. It must not list itself. Returns 0, or the negative errno. */
export function list(fd: number, take: (name: RawPath, ino: bigint, mayBeDirectory: boolean) => boolean): number {
  for (;;) {
    const length = orErrno(c.getdents64(fd, entries, entries.length))
    if (length <= 0) return length
    for (let at = 0; at < length; at += entries.readUInt16LE(at + 16)) {
      const start = at + 19
      const name = entries.toString('latin1', start, entries.indexOf(0, start)) as RawPath
      if (name === '.' || name === '..') continue
      const type = entries[at + 18]
      if (take(name, entries.readBigUInt64LE(at), type === DT_DIR || type === DT_UNKNOWN)) return 0
    }
  }
}

/** All names of the directory that `fd` has open, in its order. */
export function readNames(fd: number): RawPath[] {
  const names: RawPath[] = []
  list(fd, (name) => names.push(name) === 0)
  return names
}

/** The name of the entry of `fd`, a directory, that has this inode; undefined when there is none. */
export function nameOfInode(fd: number, ino: bigint): RawPath | undefined {
  let found: RawPath | undefined
  list(fd, (name, its) => {
    if (its === ino) found = name
    return its === ino
  })
  return found
}

// --- what is it?

const STATX_TYPE = 0x1
const STATX_NLINK = 0x4
const STATX_INO = 0x100
const S_IFMT = 0o170000
const statxOut = Buffer.alloc(256)

export interface Identity {
  dev: string
  ino: bigint
}

/** Device and inode of what `fd` has open. */
export function identityOf(fd: number): Identity | number {
  const result = orErrno(c.statx(fd, emptyPath, AT_EMPTY_PATH, STATX_INO, statxOut))
  if (result < 0) return result
  return { dev: statxDevice(), ino: statxOut.readBigUInt64LE(32) }
}

/** Whether what `fd` has open has no name any more. */
export function isDeleted(fd: number): boolean {
  return c.statx(fd, emptyPath, AT_EMPTY_PATH, STATX_NLINK, statxOut) < 0 || statxOut.readUInt32LE(16) === 0
}

/** Makes the kernel know that `name` is in `fd`, a directory. */
export const lookUp = (fd: number, name: RawPath): void =>
  void c.statx(fd, cString(name), AT_SYMLINK_NOFOLLOW, STATX_TYPE, statxOut)

/** Whether the path leads to a directory; a symbolic link is none. */
export const isDirectory = (path: string): boolean => typeAt(path) === constants.S_IFDIR

/** Whether the path leads to a regular file; a symbolic link is none. */
export const isFile = (path: string): boolean => typeAt(path) === constants.S_IFREG

function typeAt(path: string): number {
  if (path.length >= PATH_MAX) return 0
  if (c.statx(AT_FDCWD, cString(path), AT_SYMLINK_NOFOLLOW, STATX_TYPE, statxOut) < 0) return 0
  return statxOut.readUInt16LE(28) & S_IFMT
}

const statxDevice = (): string => `${statxOut.readUInt32LE(136)}:${statxOut.readUInt32LE(140)}`

/** Device and inode of what `path` leads to now, symbolic links followed. -ENOTDIR when it is not a directory. */
export function directoryIdentity(path: string): Identity | number {
  const result = orErrno(c.statx(AT_FDCWD, cString(path), 0, STATX_TYPE | STATX_INO, statxOut))
  if (result < 0) return result
  if ((statxOut.readUInt16LE(28) & S_IFMT) !== constants.S_IFDIR) return -ERRNO.ENOTDIR
  return { dev: statxDevice(), ino: statxOut.readBigUInt64LE(32) }
}

/**
 * Whether a name that was just created may belong to a file that is open for writing: regular, and not one more name of
 * an existing file. Only such a file announces its completion by IN_CLOSE_WRITE; or what is gone again, its departure.
 */
export function mayBeBeingWritten(path: string): boolean {
  if (path.length >= PATH_MAX) return false
  const flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC
  const result = orErrno(c.statx(AT_FDCWD, cString(path), flags, STATX_TYPE | STATX_NLINK, statxOut))
  if (result < 0) return result === -ERRNO.ENOENT
  return (statxOut.readUInt16LE(28) & S_IFMT) === constants.S_IFREG && statxOut.readUInt32LE(16) === 1
}

const statfsOut = Buffer.alloc(256)

/** statfs(2) f_type of what `fd` has open. */
export function filesystemType(fd: number): number {
  const result = orErrno(c.fstatfs(fd, statfsOut))
  return result < 0 ? result : statfsOut.readUInt32LE(0)
}

/** statfs(2) f_fsid of what `fd` has open, one character per byte; or the negative errno. */
export function filesystemId(fd: number): string | number {
  const result = orErrno(c.fstatfs(fd, statfsOut))
  return result < 0 ? result : statfsOut.toString('latin1', 56, 64)
}

const COUNTS_SUBDIRECTORIES = new Set([0xef53 /* ext2-4 */, 0x58465342 /* xfs */, 0x01021994 /* tmpfs */])

/** The filesystem of what `fd` has open, if there nlink of a directory is 2 plus the number of its subdirectories. */
export function countingDevice(fd: number): number | undefined {
  if (!COUNTS_SUBDIRECTORIES.has(filesystemType(fd))) return undefined
  return c.statx(fd, emptyPath, AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, statxOut) < 0
    ? undefined
    : statxDeviceNumber()
}

/**
 * Whether the directory `name` in `fd`, or that which `fd` has open, surely has no subdirectories. Call it after addWatch: a
 * later one then announces itself. Saves the listing of most directories, and with cold caches most of the time.
 */
export function hasNoSubdirectories(fd: number, device = countingDevice(fd), name = ''): boolean {
  if (device === undefined) return false
  const flags = AT_STATX_DONT_SYNC | (name === '' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW)
  if (c.statx(fd, cString(name), flags, STATX_TYPE | STATX_NLINK, statxOut) < 0) return false
  const isDirectory = (statxOut.readUInt16LE(28) & S_IFMT) === constants.S_IFDIR
  return isDirectory && statxOut.readUInt32LE(16) === 2 && statxDeviceNumber() === device
}

const statxDeviceNumber = (): number => statxOut.readUInt32LE(136) * 2 ** 32 + statxOut.readUInt32LE(140)

const F_SETSIG = 10
const SIGURG = 23
const F_SETLEASE = 1024
const [F_RDLCK, F_UNLCK] = [0, 2]

/** Whether somebody has this regular file open for writing; false also when that cannot be known: it is not ours. */
export function isBeingWritten(path: RawPath): boolean {
  if (path.length >= PATH_MAX) return false
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | O_CLOEXEC
  const fd = c.openat(AT_FDCWD, cString(path), flags)
  if (fd < 0) return false
  // Whoever opens it meanwhile has a signal sent to us; SIGIO would end us, this one is ignored.
  c.fcntl(fd, F_SETSIG, SIGURG)
  const leased = orErrno(c.fcntl(fd, F_SETLEASE, F_RDLCK))
  if (leased >= 0) c.fcntl(fd, F_SETLEASE, F_UNLCK)
  close(fd)
  return leased === -ERRNO.EAGAIN
}
