import { FileError } from '../errors.js'
import { isDevice, isDirectory, isSpecial, isSymlink } from '../flist/entry.js'
import { getXattr, type Place, readAt, removeXattr, type Stat, setXattr } from '../kernel.js'
import { fromBytes, printable, type RawPath } from '../raw-path.js'
import { S_IFMT } from '../wire/constants.js'
import { XATTR } from './xattr.js'

// --fake-super: a receiver that may not chown or mknod keeps what it would have set in an attribute, `user.rsync.%stat`,
// as "MODE MAJOR,MINOR UID:GID" with the mode in octal; a sender with --fake-super believes it.

/** What only root could give a file. */
export interface FakeStat {
  mode: number
  rdevMajor: number
  rdevMinor: number
  uid: number
  gid: number
}

const TEXT = /^\s*([0-7]{1,6})\s+(\d{1,10}),(\d{1,10})\s+(-?\d{1,10}):(-?\d{1,10})/
const TARGET_MAX = 4095

export function formatFakeStat({ mode, rdevMajor, rdevMinor, uid, gid }: FakeStat): string {
  return `${mode.toString(8)} ${rdevMajor},${rdevMinor} ${uid}:${gid}`
}

/** Null when the text is none. */
export function parseFakeStat(text: string): FakeStat | null {
  const found = TEXT.exec(text)
  if (found === null) return null
  const [rdevMajor, rdevMinor, uid, gid] = found.slice(2).map((digits) => Number(digits) >>> 0)
  const mode = Number.parseInt(found[1], 8)
  return mode > 0o177777 ? null : { mode, rdevMajor, rdevMinor, uid, gid }
}

/** What was kept for the file at `at`, or null. Throws FileError when it cannot be understood, and SystemError. */
export function readFakeStat(at: Place, real: Stat, path: RawPath): FakeStat | null {
  // Those have no user attributes: what is one really was not made by --fake-super.
  if (isDevice(real.mode) || isSpecial(real.mode) || isSymlink(real.mode)) return null
  const value = getXattr(at, XATTR.STAT)
  if (value === null) return null
  const text = value.toString('latin1')
  const fake = parseFakeStat(text)
  if (fake === null) throw new FileError(path, `Corrupt ${XATTR.STAT} xattr: "${printable(text.slice(0, 64))}"`)
  return fake
}

/** xattrs.c get_stat_xattr(): what the file at `at`, which really is `real`, passes for. */
export function fakeStat(at: Place, real: Stat, path: RawPath): Stat {
  const fake = readFakeStat(at, real, path)
  return fake === null ? real : { ...real, ...fake }
}

/** Whether --fake-super makes a regular file (mode 0600) of it: a symlink's target is its content, others are empty. */
export const isFaked = (mode: number) => isSymlink(mode) || isDevice(mode) || isSpecial(mode)

/** The target of a symlink that is such a file. */
export function readFakeTarget(fd: number): RawPath {
  const target = Buffer.alloc(TARGET_MAX)
  return fromBytes(target.subarray(0, readAt(fd, target, 0)))
}

/** The mode that the file itself gets (before anything else is set): no special bits, and its owner can use it. */
export function realMode(real: number, wanted: number): number {
  return (real & S_IFMT) | (wanted & 0o777) | (isDirectory(real) ? 0o700 : 0o600)
}

/**
 * xattrs.c set_stat_xattr(): keeps `wanted` for the file at `at`, which is `real` with the mode of `realMode`, or
 * forgets what was kept when the file itself says the same. Throws SystemError.
 */
export function storeFakeStat(at: Place, real: Stat, wanted: FakeStat): void {
  const rdev = isDevice(wanted.mode) ? wanted : { rdevMajor: 0, rdevMinor: 0 }
  const text = formatFakeStat({ ...wanted, rdevMajor: rdev.rdevMajor, rdevMinor: rdev.rdevMinor })
  const kept = getXattr(at, XATTR.STAT)?.toString('latin1')
  if (wanted.mode === real.mode && wanted.uid === real.uid && wanted.gid === real.gid) {
    if (kept !== undefined) removeXattr(at, XATTR.STAT)
  } else if (kept !== text) setXattr(at, XATTR.STAT, Buffer.from(text))
}
