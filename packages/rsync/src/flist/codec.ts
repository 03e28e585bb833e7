import { ProtocolError } from '../errors.js'
import { fromBytes, type RawPath } from '../raw-path.js'
import { XMIT } from '../wire/constants.js'
import { type Cursor, within } from '../wire/cursor.js'
import type { Writer } from '../wire/writer.js'
import { type FileEntry, isDevice, isDirectory, isSpecial, isSymlink, missing } from './entry.js'

/** What of the session decides how entries look on the wire. */
export interface FlistFormat {
  protocol: number
  /** Compat flag VARINT_FLIST_FLAGS: flags travel as a varint, and the end carries the I/O error. */
  varintFlags: boolean
  /** Compat flag SAFE_FLIST: an incomplete list may say so at its end. */
  safeFlist: boolean
}

const PATH_MAX = 4096
const NAME_MAX = 255 // of a user or group

/** What entries are compared with: only differences from the one before travel. */
interface Previous {
  path: string
  mode: number
  mtime: number
  uid: number
  gid: number
}
const FIRST: Previous = { path: '', mode: 0, mtime: 0, uid: 0, gid: 0 }

/** flist.c send_file_entry(). The receiver sorts what it gets; `compareEntries` is the order it then counts in. */
export class FlistEncoder {
  #previous = FIRST
  #count = 0
  readonly #leaders = new Map<string, { ndx: number; as: Previous }>()

  constructor(
    readonly format: FlistFormat,
    readonly w: Writer,
  ) {}

  encode(entry: FileEntry): void {
    const { w, format } = this
    const wirePath = entry.path === '' ? '.' : (entry.path as string)
    const before = this.#previous
    const first = this.#count === 0
    const ndx = this.#count++
    const leader = entry.linkGroup === '' ? undefined : this.#leaders.get(entry.linkGroup)
    const hasRdev = carriesRdev(entry.mode, format.protocol)

    let flags = 0
    if (isDirectory(entry.mode) && !entry.hasContent) flags |= XMIT.NO_CONTENT_DIR
    if (isDirectory(entry.mode) && entry.hasContent && entry.path === '') flags |= XMIT.TOP_DIR
    // Both ends start from mode 0, and that matters: Debian's 3.2.7 rejects a mode of 0 that it reads.
    if (entry.mode === before.mode) flags |= XMIT.SAME_MODE
    if (!first && entry.uid === before.uid) flags |= XMIT.SAME_UID
    if (!first && entry.gid === before.gid) flags |= XMIT.SAME_GID
    if (!first && entry.mtime === before.mtime) flags |= XMIT.SAME_TIME
    if (entry.mtimeNsec !== 0 && format.protocol >= 31) flags |= XMIT.MOD_NSEC
    if (entry.linkGroup !== '') flags |= leader === undefined ? XMIT.HLINKED | XMIT.HLINK_FIRST : XMIT.HLINKED
    const same = commonPrefix(before.path, wirePath)
    const rest = wirePath.length - same
    if (same > 0) flags |= XMIT.SAME_NAME
    if (rest > 255) flags |= XMIT.LONG_NAME

    this.#flags(flags, isDirectory(entry.mode))
    if (same > 0) w.u8(same)
    if (rest > 255) w.varint(rest)
    else w.u8(rest)
    w.latin1(wirePath.slice(same))
    if (leader === undefined) {
      this.#attributes(entry, flags, hasRdev)
      this.#previous = previousOf(entry, wirePath)
      if (entry.linkGroup !== '') this.#leaders.set(entry.linkGroup, { ndx, as: this.#previous })
    } else {
      // Of a further name of an inode only the name travels; the receiver takes the rest from the first one.
      w.varint(leader.ndx)
      this.#previous = { ...leader.as, path: wirePath }
    }
  }

  /** Ends the list. `ioError`: something could not be listed, so nothing may be deleted for its absence. */
  end(ioError: boolean): void {
    const { w, format } = this
    if (format.varintFlags) {
      w.varint(0)
      w.varint(ioError ? 1 : 0)
    } else if (ioError && format.safeFlist) {
      w.u16(XMIT.EXTENDED_FLAGS | XMIT.IO_ERROR_ENDLIST)
      w.varint(1)
    } else w.u8(0)
  }

  #flags(flags: number, directory: boolean): void {
    if (this.format.varintFlags) return this.w.varint(flags === 0 ? XMIT.EXTENDED_FLAGS : flags)
    // A zero byte would end the list, so something harmless is set.
    const some = flags === 0 && !directory ? XMIT.TOP_DIR : flags
    if (some !== 0 && (some & 0xff00) === 0) this.w.u8(some)
    else this.w.u16(some | XMIT.EXTENDED_FLAGS)
  }

  #attributes(entry: FileEntry, flags: number, hasRdev: boolean): void {
    const { w } = this
    w.varlong(entry.size, 3)
    if (!(flags & XMIT.SAME_TIME)) w.varlong(entry.mtime, 4)
    if (flags & XMIT.MOD_NSEC) w.varint(entry.mtimeNsec)
    if (!(flags & XMIT.SAME_MODE)) w.i32(entry.mode)
    if (!(flags & XMIT.SAME_UID)) w.varint(entry.uid)
    if (!(flags & XMIT.SAME_GID)) w.varint(entry.gid)
    if (hasRdev) {
      w.varint(entry.rdevMajor)
      w.varint(entry.rdevMinor)
    }
    if (isSymlink(entry.mode)) {
      w.varint(entry.target.length)
      w.latin1(entry.target)
    }
  }
}

/** flist.c recv_file_entry(). Names are checked here: relative, without `..`, not absolute. */
export class FlistDecoder {
  #previous = FIRST
  #rdevMajor = 0
  readonly #entries: FileEntry[] = []

  constructor(readonly format: FlistFormat) {}

  /** The next entry, or the end of the list. Changes nothing when the bytes have not all arrived. */
  decode(c: Cursor): FileEntry | { end: true; ioError: boolean } {
    const { format } = this
    let flags = format.varintFlags ? c.varint() : c.u8()
    if (flags === 0) return { end: true, ioError: format.varintFlags && c.varint() !== 0 }
    if (!format.varintFlags && flags & XMIT.EXTENDED_FLAGS) {
      flags |= c.u8() << 8
      if (flags === (XMIT.EXTENDED_FLAGS | XMIT.IO_ERROR_ENDLIST)) return { end: true, ioError: c.varint() !== 0 }
    }
    const wirePath = this.#path(c, flags)
    const path = (wirePath === '.' ? '' : wirePath) as RawPath
    const ndx = this.#entries.length
    if (flags & XMIT.HLINKED && !(flags & XMIT.HLINK_FIRST)) {
      const leader = c.varint()
      within('hard link leader', leader, 0, ndx - 1)
      this.#previous = previousOf(this.#entries[leader], wirePath)
      return this.#keep({ ...this.#entries[leader], path })
    }
    const before = this.#previous
    const size = c.varlong(3)
    within('file size', size, 0, Number.MAX_SAFE_INTEGER)
    const mtime = flags & XMIT.SAME_TIME ? before.mtime : c.varlong(4)
    const mtimeNsec = flags & XMIT.MOD_NSEC ? c.varint() : 0
    within('nanoseconds', mtimeNsec, 0, 999_999_999)
    const mode = flags & XMIT.SAME_MODE ? before.mode : c.i32()
    const uid = flags & XMIT.SAME_UID ? before.uid : c.varint() >>> 0
    if (flags & XMIT.USER_NAME_FOLLOWS) c.bytes(c.u8())
    const gid = flags & XMIT.SAME_GID ? before.gid : c.varint() >>> 0
    if (flags & XMIT.GROUP_NAME_FOLLOWS) c.bytes(c.u8())
    const hasRdev = carriesRdev(mode, format.protocol)
    const rdevMajor = !hasRdev ? 0 : flags & XMIT.SAME_RDEV_MAJOR ? this.#rdevMajor : c.varint() >>> 0
    const rdevMinor = hasRdev ? c.varint() >>> 0 : 0
    const target = isSymlink(mode) ? this.#target(c) : ''
    const entry: FileEntry = {
      ...missing(path),
      mode,
      size,
      mtime,
      mtimeNsec,
      uid,
      gid,
      rdevMajor,
      rdevMinor,
      target,
      linkGroup: flags & XMIT.HLINKED ? `#${ndx}` : '',
      nlink: 0,
      hasContent: isDirectory(mode) && !(flags & XMIT.NO_CONTENT_DIR),
    }
    this.#previous = previousOf(entry, wirePath)
    if (hasRdev) this.#rdevMajor = rdevMajor
    return this.#keep(entry)
  }

  #keep(entry: FileEntry): FileEntry {
    this.#entries.push(entry)
    return entry
  }

  #path(c: Cursor, flags: number): string {
    const same = flags & XMIT.SAME_NAME ? c.u8() : 0
    const rest = flags & XMIT.LONG_NAME ? c.varint() : c.u8()
    within('shared name length', same, 0, this.#previous.path.length)
    within('name length', same + rest, 1, PATH_MAX - 1)
    const path = this.#previous.path.slice(0, same) + fromBytes(c.bytes(rest))
    const bad =
      path.includes('\0') ||
      path.split('/').some((name) => name === '' || name === '..' || (name === '.' && path !== '.'))
    if (bad) throw new ProtocolError('file list', `the name ${JSON.stringify(path)} leaves the destination`)
    return path
  }

  #target(c: Cursor): string {
    const length = c.varint()
    within('symlink length', length, 0, PATH_MAX)
    return fromBytes(c.bytes(length))
  }
}

/** uidlist.c send_id_lists(): one list, ended by id 0 (whose own name follows with compat flag ID0_NAMES). */
export function encodeIdList(w: Writer, names: Map<number, string>, zeroName: string | null): void {
  for (const [id, name] of names) {
    if (id === 0) continue
    const bytes = Buffer.from(name).subarray(0, NAME_MAX)
    w.varint(id)
    w.u8(bytes.length)
    w.bytes(bytes)
  }
  w.varint(0)
  if (zeroName === null) return
  const bytes = Buffer.from(zeroName).subarray(0, NAME_MAX)
  w.u8(bytes.length)
  w.bytes(bytes)
}

const IDS_MAX = 1 << 20
export function decodeIdList(c: Cursor, withZeroName: boolean): Map<number, string> {
  const names = new Map<number, string>()
  for (let id = c.varint() >>> 0; id !== 0; id = c.varint() >>> 0) {
    names.set(id, c.bytes(c.u8()).toString())
    within('id list', names.size, 0, IDS_MAX)
  }
  if (withZeroName) names.set(0, c.bytes(c.u8()).toString())
  return names
}

/** Protocol 30 sends a device number for FIFOs and sockets too (always 0), 31 and later only for devices. */
function carriesRdev(mode: number, protocol: number): boolean {
  return isDevice(mode) || (isSpecial(mode) && protocol < 31)
}

function previousOf({ mode, mtime, uid, gid }: FileEntry, path: string): Previous {
  return { path, mode, mtime, uid, gid }
}

function commonPrefix(a: string, b: string): number {
  const max = Math.min(a.length, b.length, 255)
  let length = 0
  while (length < max && a.charCodeAt(length) === b.charCodeAt(length)) length++
  return length
}
