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
}

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
  }
}
