// What the interop tests need of the kernel that node:fs does not offer, or offers with times rounded to microseconds.
import koffi from 'koffi'

const libc = koffi.load(null)
const sysUtimensat = libc.func('int utimensat(int dirfd, void *path, void *times, int flags)')
const sysMknod = libc.func('int mknod(void *path, unsigned int mode, uint64_t dev)')
const sysSet = libc.func('int lsetxattr(void *path, void *name, void *value, size_t size, int flags)')
const sysGet = libc.func('long lgetxattr(void *path, void *name, void *value, size_t size)')
const sysList = libc.func('long llistxattr(void *path, void *list, size_t size)')
const sysMount = libc.func('int mount(void *source, void *target, void *type, unsigned long flags, void *data)')
const sysUmount = libc.func('int umount2(void *target, int flags)')

const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const MNT_DETACH = 2
const SECOND = 1_000_000_000n
const XATTR_SIZE_MAX = 65536

export const S_IFIFO = 0o010000
export const S_IFCHR = 0o020000
export const S_IFBLK = 0o060000
export const S_IFSOCK = 0o140000

/** Sets both times of `path` itself, also before 1970, without rounding. */
export function setTime(path: string, mtimeNs: bigint): void {
  const nanoseconds = ((mtimeNs % SECOND) + SECOND) % SECOND
  const seconds = (mtimeNs - nanoseconds) / SECOND
  const times = new BigInt64Array([seconds, nanoseconds, seconds, nanoseconds])
  check('utimensat', path, sysUtimensat(AT_FDCWD, cString(path), times, AT_SYMLINK_NOFOLLOW))
}

/** A FIFO, socket or device; `mode` with its type. */
export function makeNode(path: string, mode: number, major = 0, minor = 0): void {
  const device = (BigInt(major) << 8n) | BigInt(minor & 0xff) | (BigInt(minor & ~0xff) << 12n) // gnu_dev_makedev()
  check('mknod', path, sysMknod(cString(path), mode, device))
}

export function setXattr(path: string, name: string, value: Buffer): void {
  check('lsetxattr', path, sysSet(cString(path), cString(name), value, value.length, 0))
}

/** Every extended attribute of `path` itself, ACLs among them, by name. */
export function xattrs(path: string): [name: string, value: Buffer][] {
  const list = Buffer.alloc(XATTR_SIZE_MAX)
  const length = Number(sysList(cString(path), list, list.length))
  check('llistxattr', path, length)
  const names = list.toString('latin1', 0, length).split('\0').slice(0, -1)
  return names.sort().map((name) => [name, xattr(path, name)])
}

function xattr(path: string, name: string): Buffer {
  const value = Buffer.alloc(XATTR_SIZE_MAX)
  const length = Number(sysGet(cString(path), cString(name), value, value.length))
  check('lgetxattr', path, length)
  return value.subarray(0, length)
}

export function mountTmpfs(path: string): void {
  check('mount', path, sysMount(cString('interop'), cString(path), cString('tmpfs'), 0, cString('size=1m')))
}

export function unmount(path: string): void {
  check('umount', path, sysUmount(cString(path), MNT_DETACH))
}

const cString = (path: string) => Buffer.from(`${path}\0`, 'latin1')

function check(call: string, path: string, result: number): void {
  if (result < 0) throw new Error(`${call} ${path}: errno ${koffi.errno()}`)
}
