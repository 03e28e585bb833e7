import type { Stat } from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../wire/constants.js'

/** One line of a file list: what a name is, and every attribute that travels with it. */
export interface FileEntry {
  path: RawPath
  /** File type and permission bits; 0 means that the name is missing here and is to be deleted there. */
  mode: number
  /** Bytes of a regular file, length of a symlink's target, else 0. */
  size: number
  mtime: number
  mtimeNsec: number
  uid: number
  gid: number
  rdevMajor: number
  rdevMinor: number
  /** The symlink's target, latin1. */
  target: string
  /** Equal for all names of one inode; '' for what has a single name. */
  linkGroup: string
  /** How many names the inode has, here or elsewhere; does not travel. */
  nlink: number
  /** Of a directory: its whole content is in the list, so that with --delete what is not listed goes. */
  hasContent: boolean
  /** Named on the command line. */
  topDir: boolean
  /** A directory that is listed only because a path named on the command line leads through it (-R). */
  implied: boolean
  /** Of a regular file, with --checksum: the sum over its content. */
  sum: Buffer | null
  /** Access control lists (--acls), as attributes/acl.ts has them. */
  acl: unknown
  /** Extended attributes (--xattrs), as attributes/xattr.ts has them. */
  xattrs: unknown
  /** Where the sender finds it, when it sends from several places. */
  origin: unknown
  /** What the generator has done about it: see `STATE`. */
  state: number
}

/** Bits of FileEntry.state; rsync.h FLAG_* */
export const STATE = {
  /** A directory that is not there, or must be left alone, and so must be all below it. */
  MISSING_DIR: 1,
  DIR_CREATED: 2,
  /** It was asked for in the phase before and did not arrive well. */
  SENT: 4,
  HLINK_DONE: 8,
  /** A directory on another filesystem: it is listed, its content is not. */
  MOUNT_DIR: 16,
  TIME_FAILED: 32,
  /** The sender has been told of it, and so may tell of it. */
  TOLD: 64,
  /** The sender has seen it change while it was read. */
  TORN: 128,
  /** Its content has been asked for, and has not come yet. */
  ASKED: 256,
} as const

/** A group that the receiver must leave as it is: it is not among ours. */
export const GID_NONE = -1

export const isRegular = (mode: number) => (mode & S_IFMT) === S_IFREG
export const isDirectory = (mode: number) => (mode & S_IFMT) === S_IFDIR
export const isSymlink = (mode: number) => (mode & S_IFMT) === S_IFLNK
export const isDevice = (mode: number) => (mode & S_IFMT) === S_IFCHR || (mode & S_IFMT) === S_IFBLK
export const isSpecial = (mode: number) => (mode & S_IFMT) === S_IFIFO || (mode & S_IFMT) === S_IFSOCK

export function missing(path: RawPath): FileEntry {
  return {
    path,
    mode: 0,
    size: 0,
    mtime: 0,
    mtimeNsec: 0,
    uid: 0,
    gid: 0,
    rdevMajor: 0,
    rdevMinor: 0,
    target: '',
    linkGroup: '',
    nlink: 0,
    hasContent: false,
    topDir: false,
    implied: false,
    sum: null,
    acl: null,
    xattrs: null,
    origin: null,
    state: 0,
  }
}

/** What all names of one inode have in common. */
export const linkGroupOf = ({ dev, inoHigh, inoLow }: Stat) => `${dev}:${inoHigh}:${inoLow}`

/** The entry that `stat` describes. `target` is needed for symlinks only. */
export function entryOf(path: RawPath, stat: Stat, target = ''): FileEntry {
  const device = isDevice(stat.mode)
  return {
    path,
    mode: stat.mode,
    size: isRegular(stat.mode) ? stat.size : target.length,
    mtime: stat.mtime,
    mtimeNsec: stat.mtimeNsec,
    uid: stat.uid,
    gid: stat.gid,
    rdevMajor: device ? stat.rdevMajor : 0,
    rdevMinor: device ? stat.rdevMinor : 0,
    target,
    linkGroup: stat.nlink > 1 && !isDirectory(stat.mode) ? linkGroupOf(stat) : '',
    nlink: stat.nlink,
    hasContent: false,
    topDir: false,
    implied: false,
    sum: null,
    acl: null,
    xattrs: null,
    origin: null,
    state: 0,
  }
}
