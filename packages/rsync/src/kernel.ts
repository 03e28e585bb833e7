// The one place of this package where native code is entered.
import { constants, read, writev } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load(null)
const syscall = libc.func('long syscall(long number, long a, void *b, void *c, long d)')
const sysStatx = libc.func('int statx(int dirfd, void *path, int flags, unsigned int mask, void *buffer)')
const sysOpenat = libc.func('int openat(int dirfd, void *path, int flags)')
const sysClose = libc.func('int close(int fd)')
const sysPread = libc.func('long pread(int fd, void *buffer, size_t length, int64_t offset)')
const sysReadlinkat = libc.func('long readlinkat(int dirfd, void *path, void *buffer, size_t size)')

const sysMkdirat = libc.func('int mkdirat(int dirfd, void *path, unsigned int mode)')
const sysOpenatMode = libc.func('int openat(int dirfd, void *path, int flags, ...)')
const sysRenameat2 = libc.func(
  'int renameat2(int olddir, void *oldpath, int newdir, void *newpath, unsigned int flags)',
)
const sysRenameat = libc.func('int renameat(int olddir, void *oldpath, int newdir, void *newpath)')
const sysLinkat = libc.func('int linkat(int olddir, void *oldpath, int newdir, void *newpath, int flags)')
const sysUnlinkat = libc.func('int unlinkat(int dirfd, void *path, int flags)')
const sysSymlinkat = libc.func('int symlinkat(void *target, int dirfd, void *path)')
const sysMknodat = libc.func('int mknodat(int dirfd, void *path, unsigned int mode, uint64_t dev)')
const sysFchmod = libc.func('int fchmod(int fd, unsigned int mode)')
const sysFchownat = libc.func('int fchownat(int dirfd, void *path, unsigned int uid, unsigned int gid, int flags)')
const sysUtimensat = libc.func('int utimensat(int dirfd, void *path, void *times, int flags)')
const sysPwrite = libc.func('long pwrite(int fd, void *buffer, size_t length, int64_t offset)')
const sysFtruncate = libc.func('int ftruncate(int fd, int64_t length)')
const sysFallocate = libc.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
const sysFsync = libc.func('int fsync(int fd)')
const sysGetdents64 = libc.func('long getdents64(int fd, void *buffer, size_t size)')
const sysLseek = libc.func('int64_t lseek(int fd, int64_t offset, int whence)')

const sysSocketpair = libc.func('int socketpair(int domain, int type, int protocol, void *pair)')

const NameFirst = koffi.struct({ name: 'char *' })
const sysGetpwuid = libc.func('void *getpwuid(unsigned int uid)')
const sysGetgrgid = libc.func('void *getgrgid(unsigned int gid)')
const sysGetpwnam = libc.func('void *getpwnam(void *name)')
const sysGetgrnam = libc.func('void *getgrnam(void *name)')
const PasswdFirst = koffi.struct({ name: 'char *', password: 'char *', uid: 'uint32_t', gid: 'uint32_t' })
const GroupFirst = koffi.struct({ name: 'char *', password: 'char *', gid: 'uint32_t' })

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

  /** `Permission denied (13)` */
  get reason(): string {
    return `${DESCRIPTION[this.code] ?? this.code} (${this.errno})`
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
  EEXIST: 'File exists',
  EISDIR: 'Is a directory',
  ENOTEMPTY: 'Directory not empty',
  ENOSPC: 'No space left on device',
  EDQUOT: 'Disk quota exceeded',
  EROFS: 'Read-only file system',
  EXDEV: 'Invalid cross-device link',
  EBUSY: 'Device or resource busy',
  EINVAL: 'Invalid argument',
  EFBIG: 'File too large',
  EMLINK: 'Too many links',
  ENOTSUP: 'Operation not supported',
  EOPNOTSUPP: 'Operation not supported',
  E2BIG: 'Argument list too long',
  ERANGE: 'Numerical result out of range',
  ENODATA: 'No data available',
  ENXIO: 'No such device or address',
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

// struct open_how { u64 flags, mode, resolve }
const how = new Uint32Array(new BigUint64Array(3).buffer)
const RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
let hasOpenat2 = true

/**
 * Opens `path` below the directory `root` and nothing else: no component may be a symlink, nor lead out of it.
 * With O_PATH | O_NOFOLLOW the last component may be a symlink, which is then what is opened. With `symlinks` they are
 * followed as far as they stay below the root.
 */
export function openBeneath(root: number, path: string, flags: number, symlinks = false): number {
  const relative = path === '' ? '.' : path
  if (hasOpenat2) {
    how[LOW] = (flags | O_CLOEXEC) >>> 0
    how[4 + LOW] = symlinks ? RESOLVE : RESOLVE | RESOLVE_NO_SYMLINKS
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

/** openat(2), following symlinks wherever they lead: for what the operator himself has named. */
export function openFollowing(root: number, path: string, flags = O_PATH): number {
  const fd = sysOpenat(root, cString(path === '' ? '.' : path), flags | O_CLOEXEC) as number
  if (fd < 0) fail('open')
  return fd
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

/** As `readAt`, in a thread of libuv: `into` must be left alone, and `fd` open, until it is done. */
export const readInThread = (fd: number, into: Buffer, offset: number): Promise<number> =>
  new Promise((resolve, reject) => {
    read(fd, into, 0, into.length, offset, (error, length) =>
      error === null ? resolve(length) : reject(threadError('read', error)),
    )
  })

/** pwritev(2) in a thread of libuv: returns how many bytes it has written, which may be fewer than `pieces` have. */
export const writeInThread = (fd: number, pieces: Buffer[], offset: number): Promise<number> =>
  new Promise((resolve, reject) => {
    writev(fd, pieces, offset, (error, length) =>
      error === null ? resolve(length) : reject(threadError('write', error)),
    )
  })

const threadError = (call: string, { errno = 0, code = 'EIO' }: NodeJS.ErrnoException) =>
  new SystemError(call, -errno, code)

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

const sysFcntlNumber = libc.func('int fcntl(int fd, int command, int argument)')
const F_DUPFD_CLOEXEC = 1030

/** One more descriptor of the same file or socket, which no child inherits. */
export function duplicate(fd: number): number {
  const copy = sysFcntlNumber(fd, F_DUPFD_CLOEXEC, 3)
  if (copy < 0) fail('fcntl')
  return copy
}

const secondPathBuffer = Buffer.alloc(0x2000)

/** As `cString`, for the second path of a call. */
function cString2(path: string): Buffer {
  if (path.length >= secondPathBuffer.length) throw new SystemError('path', 36, 'ENAMETOOLONG')
  const length = secondPathBuffer.write(path, 'latin1')
  secondPathBuffer[length] = 0
  return secondPathBuffer
}

// All that follow take a directory's descriptor and one name in it; none follows a symlink.

/** mkdirat(2) */
export function makeDirectory(dir: number, name: string, mode: number): void {
  if (sysMkdirat(dir, cString(name), mode) !== 0) fail('mkdir')
}

/** Creates a regular file that must not exist yet, for reading and writing. */
export function createFile(dir: number, name: string, mode: number): number {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | O_NOFOLLOW | O_CLOEXEC
  const fd = sysOpenatMode(dir, cString(name), flags, 'unsigned int', mode) as number
  if (fd < 0) fail('open')
  return fd
}

/** Opens what is there. O_NONBLOCK: a FIFO that took a file's place must not hang us. */
export function openAt(dir: number, name: string, flags: number): number {
  const fd = sysOpenat(dir, cString(name), flags | O_NOFOLLOW | O_CLOEXEC | constants.O_NONBLOCK) as number
  if (fd < 0) fail('open')
  return fd
}

export function rename(fromDir: number, from: string, toDir: number, to: string): void {
  if (sysRenameat(fromDir, cString(from), toDir, cString2(to)) !== 0) fail('rename')
}

const RENAME_NOREPLACE = 1

/** Fails with EEXIST when there is something at `to`, and with EINVAL where the filesystem cannot tell. */
export function renameToFree(fromDir: number, from: string, toDir: number, to: string): void {
  if (sysRenameat2(fromDir, cString(from), toDir, cString2(to), RENAME_NOREPLACE) !== 0) fail('rename')
}

export function link(fromDir: number, from: string, toDir: number, to: string): void {
  if (sysLinkat(fromDir, cString(from), toDir, cString2(to), 0) !== 0) fail('link')
}

export function unlink(dir: number, name: string): void {
  if (sysUnlinkat(dir, cString(name), 0) !== 0) fail('unlink')
}

export function removeDirectory(dir: number, name: string): void {
  if (sysUnlinkat(dir, cString(name), 0x200) !== 0) fail('rmdir') // AT_REMOVEDIR
}

/** `target` is what the link will hold. */
export function symlink(target: string, dir: number, name: string): void {
  if (sysSymlinkat(cString2(target), dir, cString(name)) !== 0) fail('symlink')
}

/** mknodat(2): a device, FIFO or socket, with its type in `mode`. */
export function makeNode(dir: number, name: string, mode: number, major: number, minor: number): void {
  const low = BigInt(((major & 0xfff) << 8) | (minor & 0xff))
  const dev = low | (BigInt(minor >>> 8) << 20n) | (BigInt(major >>> 12) << 44n) // gnu_dev_makedev()
  if (sysMknodat(dir, cString(name), mode, dev) !== 0) fail('mknod')
}

const SYS_FCHMODAT2 = 452 // the same number on every architecture
let hasFchmodat2 = true

/** chmod of something that is no symlink. */
export function changeMode(dir: number, name: string, mode: number): void {
  if (hasFchmodat2) {
    if (Number(sysFchmodat2(SYS_FCHMODAT2, dir, cString(name), mode & 0o7777, AT_SYMLINK_NOFOLLOW)) === 0) return
    if (koffi.errno() !== koffi.os.errno.ENOSYS) fail('chmod')
    hasFchmodat2 = false // before Linux 6.6
  }
  const fd = openAt(dir, name, constants.O_RDONLY)
  try {
    changeModeOf(fd, mode)
  } finally {
    close(fd)
  }
}
const sysFchmodat2 = libc.func('long syscall(long number, long dir, void *path, long mode, long flags)')

/** fchmod(2) */
export function changeModeOf(fd: number, mode: number): void {
  if (sysFchmod(fd, mode & 0o7777) !== 0) fail('chmod')
}

const KEEP_ID = 0xffffffff

/** Gives it to `uid` and `gid`; null leaves that one as it is. With name '' the descriptor itself. */
export function changeOwner(dir: number, name: string, uid: number | null, gid: number | null): void {
  const flags = AT_SYMLINK_NOFOLLOW | (name === '' ? AT_EMPTY_PATH : 0)
  if (sysFchownat(dir, cString(name), uid ?? KEEP_ID, gid ?? KEEP_ID, flags) !== 0) fail('chown')
}

const timesBuffer = new BigInt64Array(4)
const UTIME_OMIT = 0x3ffffffen

/** Sets the time of the last change; that of the last access stays. With name '' of the descriptor itself. */
export function changeTime(dir: number, name: string, mtime: number, mtimeNsec: number): void {
  timesBuffer[0] = 0n
  timesBuffer[1] = UTIME_OMIT
  timesBuffer[2] = BigInt(mtime)
  timesBuffer[3] = BigInt(mtimeNsec)
  // A null path means the descriptor itself, in every kernel.
  const path = name === '' ? null : cString(name)
  if (sysUtimensat(dir, path, timesBuffer, name === '' ? 0 : AT_SYMLINK_NOFOLLOW) !== 0) fail('utimensat')
}

/** Writes all of `bytes` at `offset`. */
export function writeAt(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    const written = Number(sysPwrite(fd, done === 0 ? bytes : bytes.subarray(done), bytes.length - done, offset + done))
    if (written < 0) fail('write')
    done += written
  }
}

export function truncate(fd: number, length: number): void {
  if (sysFtruncate(fd, length) !== 0) fail('ftruncate')
}

/** Takes the room that `length` bytes need. */
export function preallocate(fd: number, length: number): void {
  if (sysFallocate(fd, 0, 0, length) !== 0) fail('fallocate')
}

/** Gives the room of these bytes back; they read as zeros then. */
export function punchHole(fd: number, offset: number, length: number): void {
  if (sysFallocate(fd, 0x01 | 0x02, offset, length) !== 0) fail('fallocate') // KEEP_SIZE | PUNCH_HOLE
}

export function syncFile(fd: number): void {
  if (sysFsync(fd) !== 0) fail('fsync')
}

const direntBuffer = Buffer.allocUnsafeSlow(1 << 16)

const sysChroot = libc.func('int chroot(void *path)')
const sysChdir = libc.func('int chdir(void *path)')

/** chroot(2), and into it. */
export function changeRoot(path: string): void {
  if (sysChroot(cString(path)) !== 0) fail('chroot')
  if (sysChdir(cString('/')) !== 0) fail('chdir')
}

/** The names in an open directory, latin1, without `.` and `..`, as getdents64(2) gives them: also where /proc is not. */
export function readDirectory(fd: number): string[] {
  const names: string[] = []
  sysLseek(fd, 0, 0)
  for (;;) {
    const length = Number(sysGetdents64(fd, direntBuffer, direntBuffer.length))
    if (length < 0) fail('readdir')
    if (length === 0) return names
    // struct linux_dirent64 { u64 d_ino; s64 d_off; u16 d_reclen; u8 d_type; char d_name[] }
    for (let at = 0; at < length; ) {
      const next = at + direntBuffer.readUInt16LE(at + 16)
      const start = at + 19
      const name = direntBuffer.toString('latin1', start, direntBuffer.indexOf(0, start))
      if (name !== '.' && name !== '..') names.push(name)
      at = next
    }
  }
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

/** As `statAt`, but null when nothing is there: most new files are asked about, and throwing takes longer than the call. */
export function lookAt(dir: number, name: string): Stat | null {
  const flags = AT_SYMLINK_NOFOLLOW | (name === '' ? AT_EMPTY_PATH : 0)
  if (sysStatx(dir, cString(name), flags, STATX_BASIC_STATS, statx32) === 0) return decodeStatx()
  return koffi.errno() === koffi.os.errno.ENOENT ? null : fail('stat')
}

/** stat(2) of an absolute path, following symlinks. */
export function statPath(path: string): Stat {
  if (sysStatx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS, statx32) !== 0) fail('stat')
  return decodeStatx()
}

/** The target of the symlink `name` in the directory `dir`, as latin1. */
export function readLinkAt(dir: number, name: string): string {
  const target = Buffer.allocUnsafe(4096)
  const length = Number(sysReadlinkat(dir, cString(name), target, target.length))
  if (length < 0) fail('readlink')
  return target.toString('latin1', 0, length)
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

/** The ids of a user's name, or null where the system has no such user. */
export function userIds(name: string): { uid: number; gid: number } | null {
  const record: unknown = sysGetpwnam(cString(name))
  if (record === null) return null
  const { uid, gid } = koffi.decode(record, PasswdFirst) as { uid: number; gid: number }
  return { uid, gid }
}

/** The id of a group's name, or null where the system has no such group. */
export function groupId(name: string): number | null {
  const record: unknown = sysGetgrnam(cString(name))
  return record === null ? null : (koffi.decode(record, GroupFirst) as { gid: number }).gid
}

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
// ---- extended attributes ----

/** Where something is: one name in an open directory, '' for the directory itself; `fd` where it is open (no O_PATH). */
export interface Place {
  dir: number
  name: string
  fd?: number
}

/** XATTR_SIZE_MAX, XATTR_LIST_MAX: no value and no list of names is longer. */
export const XATTR_SIZE_MAX = 1 << 16

const xattrMemory = koffi.alloc('uint8', XATTR_SIZE_MAX) // its address goes into struct xattr_args
const xattrBytes = Buffer.from(koffi.view(xattrMemory, XATTR_SIZE_MAX))
const xattrArgs = new BigUint64Array([BigInt(koffi.address(xattrMemory)), 0n]) // { u64 value; u32 size; u32 flags }
const xattrArgs32 = new Uint32Array(xattrArgs.buffer)

const sysFgetxattr = libc.func('long fgetxattr(int fd, void *name, void *value, size_t size)')
const sysFsetxattr = libc.func('int fsetxattr(int fd, void *name, void *value, size_t size, int flags)')
const sysFlistxattr = libc.func('long flistxattr(int fd, void *list, size_t size)')
const sysFremovexattr = libc.func('int fremovexattr(int fd, void *name)')
const sysLgetxattr = libc.func('long lgetxattr(void *path, void *name, void *value, size_t size)')
const sysLsetxattr = libc.func('int lsetxattr(void *path, void *name, void *value, size_t size, int flags)')
const sysLlistxattr = libc.func('long llistxattr(void *path, void *list, size_t size)')
const sysLremovexattr = libc.func('int lremovexattr(void *path, void *name)')
const sysXattrat = libc.func(
  'long syscall(long number, long dir, void *path, long flags, void *a, void *b, size_t size)',
)
const sysFchdir = libc.func('int fchdir(int fd)')
const SYS_SETXATTRAT = 463 // the same numbers on every architecture
const SYS_GETXATTRAT = 464
const SYS_LISTXATTRAT = 465
const SYS_REMOVEXATTRAT = 466

/** The four calls on a name in a directory. Values pass through `xattrBytes`; a result below 0 is a failure. */
interface XattrCalls {
  get(dir: number, name: string, xattr: string): number
  set(dir: number, name: string, xattr: string, size: number): number
  list(dir: number, name: string): number
  remove(dir: number, name: string, xattr: string): number
}

/** Linux 6.13 and newer. */
const xattrat: XattrCalls = {
  get: (dir, name, xattr) => withArgs(SYS_GETXATTRAT, dir, name, xattr, XATTR_SIZE_MAX),
  set: (dir, name, xattr, size) => withArgs(SYS_SETXATTRAT, dir, name, xattr, size),
  list: (dir, name) =>
    Number(sysXattrat(SYS_LISTXATTRAT, dir, cString(name), AT_SYMLINK_NOFOLLOW, xattrMemory, XATTR_SIZE_MAX, 0)),
  remove: (dir, name, xattr) =>
    Number(sysXattrat(SYS_REMOVEXATTRAT, dir, cString(name), AT_SYMLINK_NOFOLLOW, cString2(xattr), null, 0)),
}

function withArgs(number: number, dir: number, name: string, xattr: string, size: number): number {
  xattrArgs32[2] = size
  const args = [AT_SYMLINK_NOFOLLOW, cString2(xattr), xattrArgs, xattrArgs.byteLength] as const
  return Number(sysXattrat(number, dir, cString(name), ...args))
}

/** Any Linux: the only call that takes a single name is one relative to the working directory. */
const xattrInDirectory: XattrCalls = {
  get: (dir, name, xattr) =>
    inDirectory(dir, () => Number(sysLgetxattr(cString(name), cString2(xattr), xattrMemory, XATTR_SIZE_MAX))),
  set: (dir, name, xattr, size) =>
    inDirectory(dir, () => Number(sysLsetxattr(cString(name), cString2(xattr), xattrMemory, size, 0))),
  list: (dir, name) => inDirectory(dir, () => Number(sysLlistxattr(cString(name), xattrMemory, XATTR_SIZE_MAX))),
  remove: (dir, name, xattr) => inDirectory(dir, () => Number(sysLremovexattr(cString(name), cString2(xattr)))),
}

/** The whole process is in `dir` for the length of one call: nothing else may rely on relative paths. */
function inDirectory(dir: number, call: () => number): number {
  const before = sysOpenat(AT_FDCWD, cString('.'), O_PATH | O_DIRECTORY | O_CLOEXEC) as number
  if (before < 0) fail('open')
  try {
    if (sysFchdir(dir) !== 0) fail('chdir')
    const result = call()
    const errno = koffi.errno()
    if (sysFchdir(before) !== 0) fail('chdir')
    koffi.errno(errno)
    return result
  } finally {
    sysClose(before)
  }
}

let namedXattr = xattrat

/** Behaves as on a kernel before 6.13, for tests. */
export function forgetXattrat(): void {
  namedXattr = xattrInDirectory
}

function onName(call: (calls: XattrCalls) => number): number {
  const result = call(namedXattr)
  if (result >= 0 || namedXattr === xattrInDirectory || koffi.errno() !== koffi.os.errno.ENOSYS) return result
  namedXattr = xattrInDirectory
  return call(namedXattr)
}

/** '.' is the directory itself: descriptors that were opened with O_PATH take no other calls. */
const leaf = (name: string) => (name === '' ? '.' : name)

/** The value of one attribute; null where there is none, or the filesystem has no attributes. */
export function getXattr({ dir, name, fd }: Place, xattr: string): Buffer | null {
  const length =
    fd === undefined
      ? onName((calls) => calls.get(dir, leaf(name), xattr))
      : Number(sysFgetxattr(fd, cString2(xattr), xattrMemory, XATTR_SIZE_MAX))
  if (length >= 0) return Buffer.from(xattrBytes.subarray(0, length))
  if (isAbsent(koffi.errno())) return null
  fail('getxattr')
}

/** Sets one attribute, whether or not it is there. */
export function setXattr({ dir, name, fd }: Place, xattr: string, value: Buffer): void {
  if (value.length > XATTR_SIZE_MAX) throw new SystemError('setxattr', koffi.os.errno.E2BIG, 'E2BIG')
  value.copy(xattrBytes)
  const result =
    fd === undefined
      ? onName((calls) => calls.set(dir, leaf(name), xattr, value.length))
      : (sysFsetxattr(fd, cString2(xattr), xattrMemory, value.length, 0) as number)
  if (result < 0) fail('setxattr')
}

/** The names of all attributes that we may see, latin1; none where the filesystem has no attributes. */
export function listXattrs({ dir, name, fd }: Place): string[] {
  const length =
    fd === undefined
      ? onName((calls) => calls.list(dir, leaf(name)))
      : Number(sysFlistxattr(fd, xattrMemory, XATTR_SIZE_MAX))
  if (length === 0) return []
  if (length > 0) return xattrBytes.toString('latin1', 0, length - 1).split('\0')
  if (koffi.errno() === koffi.os.errno.ENOTSUP) return []
  fail('listxattr')
}

/** Removes one attribute; it is no error that there is none. */
export function removeXattr({ dir, name, fd }: Place, xattr: string): void {
  const result =
    fd === undefined
      ? onName((calls) => calls.remove(dir, leaf(name), xattr))
      : (sysFremovexattr(fd, cString2(xattr)) as number)
  if (result < 0 && !isAbsent(koffi.errno())) fail('removexattr')
}

const isAbsent = (errno: number) => errno === koffi.os.errno.ENODATA || errno === koffi.os.errno.ENOTSUP

// ---- what a daemon needs ----

const sysStrerror = libc.func('const char *strerror(int errno)')
const sysFcntl = libc.func('int fcntl(int fd, int command, void *lock)')
const sysGetgrouplist = libc.func('int getgrouplist(void *user, unsigned int gid, void *groups, void *count)')
const sysInnetgr = libc.func('int innetgr(void *netgroup, void *host, void *user, void *domain)')

/** What the system calls an errno. */
export const strerror = (errno: number): string => sysStrerror(errno) as string

const F_OFD_SETLK = 37
const F_WRLCK = 1

/**
 * Takes a write lock on a range of `fd`, or says false where someone else has it. The lock is the open file's, not the
 * process's: locks of processes that use F_SETLK keep it out and are kept out by it, two opens in one process too, and
 * it is gone with the descriptor.
 */
export function lockRange(fd: number, offset: number, length: number): boolean {
  const lock = new BigInt64Array([0n, BigInt(offset), BigInt(length), 0n]) // struct flock: type, start, length, pid
  new Int16Array(lock.buffer)[0] = F_WRLCK // and whence behind it, SEEK_SET
  if (sysFcntl(fd, F_OFD_SETLK, lock) === 0) return true
  const errno = koffi.errno()
  return errno === koffi.os.errno.EAGAIN || errno === koffi.os.errno.EACCES ? false : fail('lock')
}

const GROUPS_MAX = 65536 // NGROUPS_MAX

/** All groups of a user, whose main one is `gid`. */
export function groupsOf(user: string, gid: number): number[] {
  const groups = new Uint32Array(GROUPS_MAX)
  const count = new Int32Array([GROUPS_MAX])
  if ((sysGetgrouplist(cString(user), gid, groups, count) as number) < 0) return [gid]
  return [...groups.subarray(0, count[0])]
}

/** Whether a host is in a netgroup (netgroup(5)). */
export const inNetgroup = (netgroup: string, host: string): boolean =>
  sysInnetgr(Buffer.from(`${netgroup}\0`, 'latin1'), Buffer.from(`${host}\0`, 'latin1'), null, null) === 1
