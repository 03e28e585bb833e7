// The one place of this package where native code is entered.
import { constants } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load(null)
const syscall = libc.func('long syscall(long number, long a, void *b, void *c, long d)')
const sysStatx = libc.func('int statx(int dirfd, void *path, int flags, unsigned int mask, void *buffer)')
const sysOpenat = libc.func('int openat(int dirfd, void *path, int flags)')
const sysClose = libc.func('int close(int fd)')
const sysPread = libc.func('long pread(int fd, void *buffer, size_t length, int64_t offset)')
const sysReadlinkat = libc.func('long readlinkat(int dirfd, void *path, void *buffer, size_t size)')

const sysSocketpair = libc.func('int socketpair(int domain, int type, int protocol, void *pair)')

const NameFirst = koffi.struct({ name: 'char *' })
const sysGetpwuid = libc.func('void *getpwuid(unsigned int uid)')
const sysGetgrgid = libc.func('void *getgrgid(unsigned int gid)')

const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const AT_EMPTY_PATH = 0x1000
const STATX_BASIC_STATS = 0x7ff
const SYS_OPENAT2 = 437 // the same number on every architecture
const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_NO_SYMLINKS = 0x04
const RESOLVE_BENEATH = 0x08
const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000
const { O_NOFOLLOW, O_DIRECTORY } = constants

/** What lstat(2) tells, with times to the nanosecond. */
export interface Stat {
  mode: number
  nlink: number
  uid: number
  gid: number
  size: number
  /** Seconds since the epoch, may be negative; `mtimeNsec` counts up from it. */
  mtime: number
  mtimeNsec: number
  /** When content, attributes or name last changed: nobody can set it. */
  ctime: number
  ctimeNsec: number
  /** The device's number, major * 2^32 + minor. */
  dev: number
  /** The inode's number in two halves of 32 bits: some filesystems use all of them. */
  inoHigh: number
  inoLow: number
  rdevMajor: number
  rdevMinor: number
}

/** A system call failed. `code` is the errno's name as node:fs would give it. */
export class SystemError extends Error {
  constructor(
    readonly call: string,
    readonly errno: number,
    readonly code: string,
  ) {
    super(`${call}: ${DESCRIPTION[code] ?? code} (${errno})`)
  }
}

const CODE = new Map(Object.entries(koffi.os.errno).map(([code, errno]) => [errno, code] as const))
const DESCRIPTION: Record<string, string> = {
  ENOENT: 'No such file or directory',
  EACCES: 'Permission denied',
  EPERM: 'Operation not permitted',
  ENOTDIR: 'Not a directory',
  ELOOP: 'Too many levels of symbolic links',
  EIO: 'Input/output error',
  EMFILE: 'Too many open files',
  ENAMETOOLONG: 'File name too long',
  ESTALE: 'Stale file handle',
}

function fail(call: string): never {
  const errno = koffi.errno()
  throw new SystemError(call, errno, CODE.get(errno) ?? `E${errno}`)
}

const pathBuffer = Buffer.alloc(0x10000)

/** NUL-terminates `path` in a buffer that the next call overwrites. */
function cString(path: string): Buffer {
  if (path.length >= pathBuffer.length) throw new SystemError('path', 36, 'ENAMETOOLONG')
  const length = pathBuffer.write(path, 'latin1')
  pathBuffer[length] = 0
  return pathBuffer
}

// Where the halves of a 64-bit field are: BigInts would cost more than the call.
const [LOW, HIGH] = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? [0, 1] : [1, 0]

const howBuffer = new BigUint64Array([0n, 0n, BigInt(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)])
const how = new Uint32Array(howBuffer.buffer) // struct open_how { u64 flags, mode, resolve }
let hasOpenat2 = true

/**
 * Opens `path` below the directory `root` and nothing else: no component may be a symlink, nor lead out of it.
 * With O_PATH | O_NOFOLLOW the last component may be a symlink, which is then what is opened.
 */
export function openBeneath(root: number, path: string, flags: number): number {
  const relative = path === '' ? '.' : path
  if (hasOpenat2) {
    how[LOW] = (flags | O_CLOEXEC) >>> 0
    const fd = Number(syscall(SYS_OPENAT2, root, cString(relative), how, how.byteLength))
    if (fd >= 0) return fd
    const errno = koffi.errno()
    if (errno !== koffi.os.errno.ENOSYS) fail('open')
    hasOpenat2 = false // before Linux 5.6
  }
  return openByComponents(root, relative, flags)
}

/** The same without openat2: each directory is opened on its own, so that none can be a symlink. */
export function openByComponents(root: number, path: string, flags: number): number {
  let dir = root
  try {
    const names = path.split('/')
    if (names.includes('..')) throw new SystemError('open', koffi.os.errno.EXDEV, 'EXDEV')
    for (const name of names.slice(0, -1)) {
      const next = sysOpenat(dir, cString(name), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) as number
      if (next < 0) fail('open')
      if (dir !== root) sysClose(dir)
      dir = next
    }
    const fd = sysOpenat(dir, cString(names[names.length - 1]), flags | O_NOFOLLOW | O_CLOEXEC) as number
    if (fd < 0) fail('open')
    return fd
  } finally {
    if (dir !== root) sysClose(dir)
  }
}

export function openDirectory(path: string): number {
  const fd = sysOpenat(AT_FDCWD, cString(path), constants.O_RDONLY | O_DIRECTORY | O_CLOEXEC) as number
  if (fd < 0) fail('open')
  return fd
}

/** A descriptor that only names a file, directory, symlink or device; opening it never blocks. */
export const openPath = (root: number, path: string): number => openBeneath(root, path, O_PATH | O_NOFOLLOW)

/** pread(2): up to `into.length` bytes from `offset`; returns how many, 0 at the end of the file. */
export function readAt(fd: number, into: Uint8Array, offset: number): number {
  const length = Number(sysPread(fd, into, into.length, offset))
  if (length < 0) fail('read')
  return length
}

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_CLOEXEC = 0o2000000

/** Two sockets that are connected to each other. */
export function socketPair(): [number, number] {
  const pair = new Int32Array(2)
  if (sysSocketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0) fail('socketpair')
  return [pair[0], pair[1]]
}

export function close(fd: number): void {
  sysClose(fd)
}

const statxBuffer = new ArrayBuffer(256)
const statx16 = new Uint16Array(statxBuffer)
const statx32 = new Uint32Array(statxBuffer)
const statxSigned32 = new Int32Array(statxBuffer)

/** statx(2) of `name` in the directory `dir`, not following it; with name '' of the descriptor itself. */
export function statAt(dir: number, name: string): Stat {
  const flags = AT_SYMLINK_NOFOLLOW | (name === '' ? AT_EMPTY_PATH : 0)
  if (sysStatx(dir, cString(name), flags, STATX_BASIC_STATS, statx32) !== 0) fail('stat')
  return decodeStatx()
}

/** stat(2) of an absolute path, following symlinks. */
export function statPath(path: string): Stat {
  if (sysStatx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS, statx32) !== 0) fail('stat')
  return decodeStatx()
}

/** The target of the symlink that `fd` (opened with O_PATH) names, as latin1. */
export function readLink(fd: number): string {
  const target = Buffer.allocUnsafe(4096)
  const length = Number(sysReadlinkat(fd, cString(''), target, target.length))
  if (length < 0) fail('readlink')
  return target.toString('latin1', 0, length)
}

/** The name of a user or group, or null where the system has none for that id. */
export const userName = (uid: number): string | null => nameOf(sysGetpwuid(uid))
export const groupName = (gid: number): string | null => nameOf(sysGetgrgid(gid))

/** struct passwd and struct group both start with the pointer to the name. */
function nameOf(record: unknown): string | null {
  return record === null ? null : (koffi.decode(record, NameFirst) as { name: string | null }).name
}

/** linux/stat.h struct statx: offsets in bytes, divided by the width of the field. */
function decodeStatx(): Stat {
  return {
    nlink: statx32[0x10 / 4],
    uid: statx32[0x14 / 4],
    gid: statx32[0x18 / 4],
    mode: statx16[0x1c / 2],
    inoHigh: statx32[0x20 / 4 + HIGH],
    inoLow: statx32[0x20 / 4 + LOW],
    size: statx32[0x28 / 4 + HIGH] * 2 ** 32 + statx32[0x28 / 4 + LOW],
    ctime: statxSigned32[0x60 / 4 + HIGH] * 2 ** 32 + statx32[0x60 / 4 + LOW],
    ctimeNsec: statx32[0x68 / 4],
    mtime: statxSigned32[0x70 / 4 + HIGH] * 2 ** 32 + statx32[0x70 / 4 + LOW],
    mtimeNsec: statx32[0x78 / 4],
    rdevMajor: statx32[0x80 / 4],
    rdevMinor: statx32[0x84 / 4],
    dev: statx32[0x88 / 4] * 2 ** 32 + statx32[0x8c / 4],
  }
}
