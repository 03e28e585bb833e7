import { type Acls, applyAcls, readAcls, sameAcls } from '../attributes/acl.js'
import { fakeStat, realMode, storeFakeStat } from '../attributes/fake-super.js'
import {
  applyXattrs,
  describeXattrFailure,
  type Power,
  readXattrs,
  sameXattrs,
  type XattrRules,
  type Xattrs,
} from '../attributes/xattr.js'
import { changeMode } from '../chmod.js'
import { readSums } from '../delta/sums.js'
import type { Destination } from '../disk/destination.js'
import { FileError } from '../errors.js'
import { type FileEntry, GID_NONE, isDirectory, isRegular, isSymlink, STATE } from '../flist/entry.js'
import { close, type Stat, SystemError } from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import type { ChmodRule } from '../settings.js'
import type { Transfer } from '../transfer.js'
import { ITEM, S_IFMT } from '../wire/constants.js'
import type { Where } from './receiving.js'

const CHMOD_BITS = 0o7777

/** How attributes are set. */
export interface SetOptions {
  /** The time is set to the nanosecond, as a file that was just written needs. */
  exact?: boolean
  skipTime?: boolean
  /** Extended attributes are set, too; long values that did not travel are taken from here. */
  xattrsFrom?: Where | undefined
}

/** rsync.c set_file_attrs() and what decides whether a file needs it. */
export class Attributes {
  readonly xattrRules: XattrRules
  readonly #power: Power

  constructor(
    readonly transfer: Transfer,
    readonly incomingChmod: readonly ChmodRule[],
  ) {
    this.#power = powerOf(transfer)
    this.xattrRules = { power: this.#power, sender: false, all: transfer.settings.xattrs > 1 }
  }

  /** What is at `path`, or null; with --fake-super what it passes for. */
  stat(tree: Destination, path: RawPath): Stat | null {
    const stat = tree.stat(path)
    if (stat === null || !this.transfer.settings.fakeSuper) return stat
    return fakeStat(tree.place(path), stat, path)
  }

  /** generator.c quick_check_ok(): whether the content need not be sent. */
  unchanged(tree: Destination, path: RawPath, entry: FileEntry, stat: Stat, again: boolean): boolean {
    const { settings } = this.transfer
    if (stat.size !== entry.size) return false
    if (settings.checksum && !again)
      return entry.sum !== null && this.#sumOf(tree, path, stat.size)?.equals(entry.sum) === true
    if (settings.sizeOnly && !again) return true
    if (settings.ignoreTimes || again) return false
    return this.sameTime(entry, stat)
  }

  #sumOf(tree: Destination, path: RawPath, size: number): Buffer | null {
    let fd: number
    try {
      fd = tree.openForReading(path)
    } catch {
      return null
    }
    try {
      return readSums(fd, size, this.transfer.sums.list?.digest ?? this.transfer.sums.file)
    } catch {
      return null
    } finally {
      close(fd)
    }
  }

  /** util.c same_time(): within the window, or to the second, or to the nanosecond. */
  sameTime(a: Pick<FileEntry, 'mtime' | 'mtimeNsec'>, b: Pick<Stat, 'mtime' | 'mtimeNsec'>): boolean {
    const window = this.transfer.settings.modifyWindow
    if (window < 0) return a.mtime === b.mtime && a.mtimeNsec === b.mtimeNsec
    return Math.abs(a.mtime - b.mtime) <= window
  }

  /** Whether `stat` is newer than the entry (--update). */
  isNewer(stat: Stat, entry: FileEntry): boolean {
    if (this.sameTime(entry, stat)) return false
    return stat.mtime > entry.mtime || (stat.mtime === entry.mtime && stat.mtimeNsec > entry.mtimeNsec)
  }

  /** generator.c itemize(): what differs between the entry and what is there. */
  differences(
    tree: Destination,
    path: RawPath,
    entry: FileEntry,
    stat: Stat | null,
    iflags: number,
    named: string | null,
  ): number {
    const { settings, here } = this.transfer
    let flags = iflags
    if (stat === null) {
      flags |= ITEM.IS_NEW
      if (settings.xattrs > 0 && (entry.xattrs as Xattrs).length > 0) flags |= ITEM.REPORT_XATTR
      return flags
    }
    if (isRegular(entry.mode) && entry.size !== stat.size) flags |= ITEM.REPORT_SIZE
    const keepsTime = this.#keepsTime(entry)
    if (keepsTime) {
      if (!this.sameTime(entry, stat)) flags |= ITEM.REPORT_TIME
    } else if (
      flags & (ITEM.TRANSFER | ITEM.LOCAL_CHANGE) &&
      (!(flags & ITEM.XNAME_FOLLOWS) || (named !== null && named !== ''))
    )
      flags |= ITEM.REPORT_TIME
    if (!isSymlink(entry.mode)) {
      if (settings.perms) {
        if ((entry.mode & CHMOD_BITS) !== (stat.mode & CHMOD_BITS)) flags |= ITEM.REPORT_PERMS
      } else if (settings.executability && ((entry.mode & 0o111) === 0) !== ((stat.mode & 0o111) === 0))
        flags |= ITEM.REPORT_PERMS
    }
    if (settings.owner && here.root && entry.uid !== stat.uid) flags |= ITEM.REPORT_OWNER
    if (settings.group && entry.gid !== GID_NONE && entry.gid !== stat.gid) flags |= ITEM.REPORT_GROUP
    if (settings.acls && !isSymlink(entry.mode) && !this.#sameAcls(tree, path, entry, stat)) flags |= ITEM.REPORT_ACL
    if (settings.xattrs > 0 && !sameXattrs(entry.xattrs as Xattrs, this.xattrs(tree, path))) flags |= ITEM.REPORT_XATTR
    return flags
  }

  #sameAcls(tree: Destination, path: RawPath, entry: FileEntry, stat: Stat): boolean {
    const have = readAcls(tree.place(path), stat.mode, this.#power, path)
    return sameAcls(entry.acl as Acls, have, entry.mode)
  }

  /** The extended attributes of what is at `path`; none where they cannot be read. */
  xattrs(tree: Destination, path: RawPath): Xattrs {
    try {
      return readXattrs(tree.place(path), this.xattrRules)
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      return []
    }
  }

  /** generator.c unchanged_attrs(): for files of other directories that could stand for the entry. */
  sameAttributes(tree: Destination, path: RawPath, entry: FileEntry, stat: Stat): boolean {
    const all = this.differences(tree, path, entry, stat, 0, null)
    return (all & ~(ITEM.REPORT_SIZE | (this.#keepsTime(entry) ? 0 : ITEM.REPORT_TIME))) === 0
  }

  #keepsTime(entry: FileEntry): boolean {
    const { settings } = this.transfer
    if (!settings.times) return false
    if (isDirectory(entry.mode)) return !settings.omitDirTimes
    return !(isSymlink(entry.mode) && settings.omitLinkTimes)
  }

  /** rsync.c dest_mode(): without --perms, what the file had, or what a new one gets. */
  localMode(entry: FileEntry, there: Stat | null): number {
    const { settings, here } = this.transfer
    if (settings.perms) return entry.mode
    const type = entry.mode & S_IFMT
    if (there === null) return type | (entry.mode & 0o777 & ~here.umask)
    let mode = there.mode & CHMOD_BITS
    if (settings.executability && isRegular(entry.mode)) {
      if ((entry.mode & 0o111) === 0) mode &= ~0o111
      else if ((there.mode & 0o111) === 0) mode |= (mode & 0o444) >> 2
    }
    return type | mode
  }

  /**
   * Gives `path` the attributes of the entry. `there` is what it has, null to look. Returns whether anything changed.
   * Failures are told, not thrown.
   */
  set(tree: Destination, path: RawPath, entry: FileEntry, there: Stat | null, options: SetOptions = {}): boolean {
    const { transfer } = this
    const { settings, here } = transfer
    if (there === null && settings.dryRun) return true
    const fresh = there === null || (entry.state & STATE.DIR_CREATED) !== 0
    let stat = there
    try {
      stat ??= this.stat(tree, path)
    } catch (error) {
      transfer.fileError('stat', path, error)
      return false
    }
    if (stat === null) {
      transfer.fileError('stat', path, new Error('No such file or directory (2)'))
      return false
    }
    let mode = entry.mode
    if (fresh && !settings.perms && isDirectory(mode) && stat.mode & 0o2000) mode |= 0o2000 // it was inherited
    if (!isSymlink(mode)) mode = changeMode(this.incomingChmod, mode, here.umask)
    if (settings.dryRun) return this.differences(tree, path, entry, stat, 0, null) !== 0
    try {
      return settings.fakeSuper
        ? this.#setFake(tree, path, entry, mode, stat, options)
        : this.#setReal(tree, path, entry, mode, stat, options)
    } catch (error) {
      if (!(error instanceof SystemError || error instanceof FileError)) throw error
      transfer.fileError('set attributes of', path, error)
      return true
    }
  }

  #setReal(
    tree: Destination,
    path: RawPath,
    entry: FileEntry,
    mode: number,
    before: Stat,
    options: SetOptions,
  ): boolean {
    const stat = this.#setOwner(tree, path, entry, before)
    if (stat === null) return false
    let changed = stat !== before
    this.#setXattrs(tree, path, entry, stat.mode, options)
    if (this.#setTime(tree, path, entry, stat, options)) changed = true
    const withAcls = this.#setAcls(tree, path, entry, mode, stat.mode)
    if (withAcls !== stat.mode) changed = true
    if (this.#setMode(tree, path, mode, withAcls)) changed = true
    return changed
  }

  /** The owner, the special bits and the type of a device are kept in an attribute of a plain file. */
  #setFake(tree: Destination, path: RawPath, entry: FileEntry, mode: number, stat: Stat, options: SetOptions): boolean {
    const { settings } = this.transfer
    const real = tree.stat(path)
    if (real === null) return false
    const plain = realMode(real.mode, mode)
    if ((plain & CHMOD_BITS) !== (real.mode & CHMOD_BITS)) tree.changeMode(path, plain)
    const wanted = {
      mode,
      rdevMajor: entry.rdevMajor,
      rdevMinor: entry.rdevMinor,
      uid: settings.owner ? entry.uid : stat.uid,
      gid: settings.group && entry.gid !== GID_NONE ? entry.gid : stat.gid,
    }
    storeFakeStat(tree.place(path), { ...real, mode: plain }, wanted)
    this.#setXattrs(tree, path, entry, plain, options)
    this.#setAcls(tree, path, entry, mode, plain)
    this.#setTime(tree, path, entry, stat, options)
    return true
  }

  #setXattrs(tree: Destination, path: RawPath, entry: FileEntry, mode: number, { xattrsFrom: from }: SetOptions): void {
    if (this.transfer.settings.xattrs === 0 || from === undefined || entry.xattrs === null) return
    const basis = from.tree === tree && from.path === path ? undefined : { ...from.tree.place(from.path) }
    const failures = applyXattrs(tree.place(path), entry.xattrs as Xattrs, { rules: this.xattrRules, mode, basis })
    for (const failure of failures) {
      this.transfer.failed = true
      const { log, here } = this.transfer
      log.fileError(`rsync: [${here.role}] ${describeXattrFailure(failure, this.transfer.fullName(path))}`)
    }
  }

  /** Returns the mode that the file has then. */
  #setAcls(tree: Destination, path: RawPath, entry: FileEntry, newMode: number, mode: number): number {
    if (!this.transfer.settings.acls || isSymlink(mode) || entry.acl === null) return mode
    const at = tree.place(path)
    const have = readAcls(at, mode, this.#power, path)
    return applyAcls(at, entry.acl as Acls, have, { power: this.#power, mode, newMode })
  }

  /** The stat afterwards; null when it failed. */
  #setOwner(tree: Destination, path: RawPath, entry: FileEntry, stat: Stat): Stat | null {
    const { settings, here } = this.transfer
    const uid = settings.owner && here.root && entry.uid !== stat.uid ? entry.uid : null
    const gid = settings.group && entry.gid !== GID_NONE && entry.gid !== stat.gid ? entry.gid : null
    if (uid === null && gid === null) return stat
    try {
      tree.changeOwner(path, uid, gid)
    } catch (error) {
      this.transfer.fileError(uid !== null ? 'chown' : 'chgrp', path, error)
      return null
    }
    // The kernel takes setuid and setgid bits away when the owner changes.
    const mode = isRegular(stat.mode) ? stat.mode & ~0o6000 : stat.mode
    return { ...stat, uid: uid ?? stat.uid, gid: gid ?? stat.gid, mode }
  }

  #setMode(tree: Destination, path: RawPath, mode: number, now: number): boolean {
    if (isSymlink(now) || (mode & CHMOD_BITS) === (now & CHMOD_BITS)) return false
    try {
      tree.changeMode(path, mode)
      return true
    } catch (error) {
      this.transfer.fileError('failed to set permissions on', path, error)
      return false
    }
  }

  #setTime(tree: Destination, path: RawPath, entry: FileEntry, stat: Stat, { exact, skipTime }: SetOptions): boolean {
    if (skipTime === true || !this.#keepsTime(entry)) return false
    if (this.sameTime(entry, stat) && (exact !== true || entry.mtimeNsec === stat.mtimeNsec)) return false
    try {
      tree.changeTime(path, entry.mtime, entry.mtimeNsec)
      return true
    } catch (error) {
      this.transfer.fileError('failed to set times on', path, error)
      return false
    }
  }
}

/** Whose attributes can be set: everybody's, our own, or none but by --fake-super. */
export function powerOf({ settings, here }: Transfer): Power {
  return settings.fakeSuper ? 'fake' : here.root ? 'super' : 'user'
}
