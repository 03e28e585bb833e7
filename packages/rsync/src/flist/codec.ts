import { ProtocolError } from '../errors.js'
import { fromBytes, type RawPath } from '../raw-path.js'
import { XMIT } from '../wire/constants.js'
import { type Cursor, within } from '../wire/cursor.js'
import type { Writer } from '../wire/writer.js'
import { type FileEntry, isDevice, isDirectory, isRegular, isSpecial, isSymlink } from './entry.js'

/** What of the session decides how entries look on the wire. */
export interface FlistFormat {
  protocol: number
  /** Compat flag VARINT_FLIST_FLAGS: flags travel as a varint, and the end carries the I/O error. */
  varintFlags: boolean
  /** Compat flag SAFE_FLIST: an incomplete list may say so at its end. */
  safeFlist: boolean
  /** Which attributes travel; all of them where it is not said. */
  keeps?: Keeps
  /** Bytes of the sum that each regular file carries; 0 without --checksum. */
  checksumLength?: number
  /** Incremental recursion: names of users and groups travel with the first entry that needs them. */
  ids?: IdNames
  /** -R: names may begin with a slash, which counts when they are sorted and is dropped then. */
  relative?: boolean
  /** ACLs and extended attributes follow an entry, in this order. */
  annexes?: readonly Annex[]
}

/** What the options preserve: an attribute that is not kept does not travel. */
export interface Keeps {
  users: boolean
  groups: boolean
  devices: boolean
  specials: boolean
  links: boolean
}
const KEEPS_ALL: Keeps = { users: true, groups: true, devices: true, specials: true, links: true }

/** How ids and names meet. */
export interface IdNames {
  /** Sender: the name to send with this id, '' for none; only the first time that it is asked for. */
  userName(uid: number): string
  groupName(gid: number): string
  /** Receiver: our id for what the sender calls `name` ('' when it did not say), or GID_NONE. */
  user(uid: number, name: string): number
  group(gid: number, name: string): number
}

/** What more of an entry travels behind its attributes. */
export interface Annex {
  encode(w: Writer, entry: FileEntry): void
  /** Sets what it is about in `entry`, and returns what is to be kept of it once the whole entry has arrived. */
  decode(c: Cursor, entry: FileEntry): () => void
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
const NO_ANNEX: readonly Annex[] = []

/** flist.c send_file_entry(). The receiver sorts what it gets; `compareEntries` is the order it then counts in. */
export class FlistEncoder {
  #previous = FIRST
  #rdevMajor = 0
  #start = 0
  #count = 0
  readonly #keeps: Keeps
  readonly #checksumLength: number
  readonly #annexes: readonly Annex[]
  readonly #leaders = new Map<string, { ndx: number; as: Previous }>()

  constructor(
    readonly format: FlistFormat,
    readonly w: Writer,
  ) {
    this.#keeps = format.keeps ?? KEEPS_ALL
    this.#checksumLength = format.checksumLength ?? 0
    this.#annexes = format.annexes ?? NO_ANNEX
  }

  /** A further list begins (incremental recursion), whose first entry has the index `ndx`. */
  begin(ndx: number): void {
    this.#start = ndx
    this.#count = 0
  }

  encode(entry: FileEntry): void {
    const { w, format } = this
    const keeps = this.#keeps
    const wirePath = entry.path === '' ? '.' : (entry.path as string)
    const before = this.#previous
    const first = before === FIRST
    const ndx = this.#start + this.#count++
    const leader = entry.linkGroup === '' ? undefined : this.#leaders.get(entry.linkGroup)
    const hasRdev = carriesRdev(entry.mode, format.protocol, keeps)
    let userName = ''
    let groupName = ''

    let flags = 0
    if (isDirectory(entry.mode)) {
      if (!entry.hasContent) flags |= XMIT.NO_CONTENT_DIR
      if (entry.hasContent ? entry.topDir || entry.path === '' : entry.implied) flags |= XMIT.TOP_DIR
    }
    // Both ends start from mode 0, and that matters: Debian's 3.2.7 rejects a mode of 0 that it reads.
    if (entry.mode === before.mode) flags |= XMIT.SAME_MODE
    if (!keeps.users || (!first && entry.uid === before.uid)) flags |= XMIT.SAME_UID
    else if (format.ids !== undefined) {
      userName = format.ids.userName(entry.uid)
      if (userName !== '') flags |= XMIT.USER_NAME_FOLLOWS
    }
    if (!keeps.groups || (!first && entry.gid === before.gid)) flags |= XMIT.SAME_GID
    else if (format.ids !== undefined) {
      groupName = format.ids.groupName(entry.gid)
      if (groupName !== '') flags |= XMIT.GROUP_NAME_FOLLOWS
    }
    if (!first && entry.mtime === before.mtime) flags |= XMIT.SAME_TIME
    if (entry.mtimeNsec !== 0 && format.protocol >= 31) flags |= XMIT.MOD_NSEC
    if (hasRdev && !first && entry.rdevMajor === this.#rdevMajor) flags |= XMIT.SAME_RDEV_MAJOR
    if (entry.linkGroup !== '') flags |= leader === undefined ? XMIT.HLINKED | XMIT.HLINK_FIRST : XMIT.HLINKED
    const same = commonPrefix(before.path, wirePath)
    const rest = wirePath.length - same
    if (same > 0) flags |= XMIT.SAME_NAME
    if (rest > 255) flags |= XMIT.LONG_NAME

    this.#flags(flags, isDirectory(entry.mode))
    if (same > 0) w.u8(same)
    if (rest > 255) w.varint(rest)
    else w.u8(rest)
    w.latin1(same === 0 ? wirePath : wirePath.slice(same))
    if (leader !== undefined) w.varint(leader.ndx)
    if (leader === undefined || leader.ndx < this.#start) {
      this.#attributes(entry, flags, hasRdev, userName, groupName)
      this.#previous = previousOf(entry, wirePath)
      if (entry.linkGroup !== '' && leader === undefined)
        this.#leaders.set(entry.linkGroup, { ndx, as: this.#previous })
    } else {
      // Of a further name of an inode in the same list only the name travels.
      this.#previous = { ...leader.as, path: wirePath }
    }
    for (const annex of this.#annexes) annex.encode(w, entry)
  }

  /** Ends the list. `ioError`, bits of IOERR: something could not be listed, so nothing may be deleted for its absence. */
  end(ioError: number): void {
    const { w, format } = this
    if (format.varintFlags) {
      w.varint(0)
      w.varint(ioError)
    } else if (ioError !== 0 && format.safeFlist) {
      w.u16(XMIT.EXTENDED_FLAGS | XMIT.IO_ERROR_ENDLIST)
      w.varint(ioError)
    } else w.u8(0)
  }

  #flags(flags: number, directory: boolean): void {
    if (this.format.varintFlags) return this.w.varint(flags === 0 ? XMIT.EXTENDED_FLAGS : flags)
    // A zero byte would end the list, so something harmless is set.
    const some = flags === 0 && !directory ? XMIT.TOP_DIR : flags
    if (some !== 0 && (some & 0xff00) === 0) this.w.u8(some)
    else this.w.u16(some | XMIT.EXTENDED_FLAGS)
  }

  #attributes(entry: FileEntry, flags: number, hasRdev: boolean, userName: string, groupName: string): void {
    const { w } = this
    w.varlong(entry.size, 3)
    if (!(flags & XMIT.SAME_TIME)) w.varlong(entry.mtime, 4)
    if (flags & XMIT.MOD_NSEC) w.varint(entry.mtimeNsec)
    if (!(flags & XMIT.SAME_MODE)) w.i32(entry.mode)
    if (!(flags & XMIT.SAME_UID)) w.varint(entry.uid)
    if (flags & XMIT.USER_NAME_FOLLOWS) this.#name(userName)
    if (!(flags & XMIT.SAME_GID)) w.varint(entry.gid)
    if (flags & XMIT.GROUP_NAME_FOLLOWS) this.#name(groupName)
    if (hasRdev) {
      if (!(flags & XMIT.SAME_RDEV_MAJOR)) w.varint(entry.rdevMajor)
      w.varint(entry.rdevMinor)
      this.#rdevMajor = entry.rdevMajor
    }
    if (isSymlink(entry.mode) && this.#keeps.links) {
      w.varint(entry.target.length)
      w.latin1(entry.target)
    }
    if (this.#checksumLength > 0 && isRegular(entry.mode)) w.bytes(entry.sum ?? Buffer.alloc(this.#checksumLength))
  }

  #name(name: string): void {
    const bytes = Buffer.from(name).subarray(0, NAME_MAX)
    this.w.u8(bytes.length)
    this.w.bytes(bytes)
  }
}

/** flist.c recv_file_entry(). Names are checked here: relative, without `..`, not absolute. */
export class FlistDecoder {
  #previous = FIRST
  #rdevMajor = 0
  #start = 0
  /** Of the list that is being read: what a further name of an inode refers to. */
  #entries: FileEntry[] = []
  readonly #keeps: Keeps
  readonly #checksumLength: number
  readonly #annexes: readonly Annex[]

  constructor(readonly format: FlistFormat) {
    this.#keeps = format.keeps ?? KEEPS_ALL
    this.#checksumLength = format.checksumLength ?? 0
    this.#annexes = format.annexes ?? NO_ANNEX
  }

  /** A further list begins (incremental recursion), whose first entry has the index `ndx`. */
  begin(ndx: number): void {
    this.#start = ndx
    this.#entries = []
  }

  /** The next entry, or the end of the list. Changes nothing when the bytes have not all arrived. */
  decode(c: Cursor): FileEntry | { end: true; ioError: number } {
    const { format } = this
    let flags = format.varintFlags ? c.varint() : c.u8()
    if (flags === 0) return { end: true, ioError: format.varintFlags ? c.varint() : 0 }
    if (!format.varintFlags && flags & XMIT.EXTENDED_FLAGS) {
      flags |= c.u8() << 8
      if (flags === (XMIT.EXTENDED_FLAGS | XMIT.IO_ERROR_ENDLIST)) return { end: true, ioError: c.varint() }
    }
    const wirePath = this.#path(c, flags)
    const path = (wirePath === '.' ? '' : wirePath) as RawPath
    const ndx = this.#start + this.#entries.length
    let linkGroup = flags & XMIT.HLINKED ? `#${ndx}` : ''
    if (flags & XMIT.HLINKED && !(flags & XMIT.HLINK_FIRST)) {
      const leader = c.varint()
      within('hard link leader', leader, 0, ndx - 1)
      linkGroup = `#${leader}`
      const of = this.#entries[leader - this.#start]
      if (of !== undefined) return this.#annex(c, { ...of, path }, wirePath)
      if (leader >= this.#start) throw new ProtocolError('hard link leader', `${leader} is no entry of this list`)
    }
    const before = this.#previous
    const size = c.varlong(3)
    within('file size', size, 0, Number.MAX_SAFE_INTEGER)
    const mtime = flags & XMIT.SAME_TIME ? before.mtime : c.varlong(4)
    const mtimeNsec = flags & XMIT.MOD_NSEC ? c.varint() : 0
    within('nanoseconds', mtimeNsec, 0, 999_999_999)
    const mode = flags & XMIT.SAME_MODE ? before.mode : c.i32()
    within('mode', mode, 0, 0o177777)
    const uid = flags & XMIT.SAME_UID ? before.uid : this.#user(c, flags)
    const gid = flags & XMIT.SAME_GID ? before.gid : this.#group(c, flags)
    const hasRdev = carriesRdev(mode, format.protocol, this.#keeps)
    const rdevMajor = !hasRdev ? 0 : flags & XMIT.SAME_RDEV_MAJOR ? this.#rdevMajor : c.varint() >>> 0
    const rdevMinor = hasRdev ? c.varint() >>> 0 : 0
    const target = isSymlink(mode) && this.#keeps.links ? this.#target(c) : ''
    const sum = this.#checksumLength > 0 && isRegular(mode) ? Buffer.from(c.bytes(this.#checksumLength)) : null
    const directory = isDirectory(mode)
    const hasContent = directory && !(flags & XMIT.NO_CONTENT_DIR)
    const entry: FileEntry = {
      path,
      mode,
      size,
      mtime,
      mtimeNsec,
      uid,
      gid,
      rdevMajor,
      rdevMinor,
      target,
      linkGroup,
      nlink: 0,
      hasContent,
      topDir: hasContent && (flags & XMIT.TOP_DIR) !== 0,
      implied: directory && !hasContent && (flags & XMIT.TOP_DIR) !== 0,
      sum,
      acl: null,
      xattrs: null,
      origin: null,
      state: 0,
    }
    return this.#annex(c, entry, wirePath, hasRdev)
  }

  /** Reads what follows the attributes; only then is the entry complete, and may anything be remembered of it. */
  #annex(c: Cursor, entry: FileEntry, wirePath: string, hasRdev = false): FileEntry {
    if (this.#annexes.length > 0) {
      const kept = this.#annexes.map((annex) => annex.decode(c, entry))
      for (const keep of kept) keep()
    }
    this.#previous = previousOf(entry, wirePath)
    if (hasRdev) this.#rdevMajor = entry.rdevMajor
    this.#entries.push(entry)
    return entry
  }

  #user(c: Cursor, flags: number): number {
    const uid = c.varint() >>> 0
    const name = flags & XMIT.USER_NAME_FOLLOWS ? c.bytes(c.u8()).toString() : ''
    return this.format.ids === undefined ? uid : this.format.ids.user(uid, name)
  }

  #group(c: Cursor, flags: number): number {
    const gid = c.varint() >>> 0
    const name = flags & XMIT.GROUP_NAME_FOLLOWS ? c.bytes(c.u8()).toString() : ''
    return this.format.ids === undefined ? gid : this.format.ids.group(gid, name)
  }

  #path(c: Cursor, flags: number): string {
    const same = flags & XMIT.SAME_NAME ? c.u8() : 0
    const rest = flags & XMIT.LONG_NAME ? c.varint() : c.u8()
    within('shared name length', same, 0, this.#previous.path.length)
    within('name length', same + rest, 1, PATH_MAX - 1)
    const path = this.#previous.path.slice(0, same) + fromBytes(c.bytes(rest))
    if (!isSound(this.format.relative === true ? path.replace(/^\/+/, '') : path))
      throw new ProtocolError('file list', `the name ${JSON.stringify(path)} leaves the destination`)
    return path
  }

  #target(c: Cursor): string {
    const length = c.varint()
    within('symlink length', length, 0, PATH_MAX)
    const target = fromBytes(c.bytes(length))
    if (target.includes('\0')) throw new ProtocolError('file list', 'a symlink with a NUL in its target')
    return target
  }
}

/** Whether a name stays below where it is put: no `..`, nothing empty, `.` only by itself. */
function isSound(path: string): boolean {
  if (path === '.') return true
  if (path.length === 0 || path.includes('\0')) return false
  // Most names need no taking apart.
  if (path.charCodeAt(0) !== 0x2e && !path.includes('/.') && !path.includes('//'))
    return path.charCodeAt(0) !== 0x2f && path.charCodeAt(path.length - 1) !== 0x2f
  return path.split('/').every((name) => name !== '' && name !== '..' && name !== '.')
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

const IDS_MAX = 1 << 16

/** uidlist.c recv_id_list(), name by name. */
export async function receiveIds(
  channel: { receive<T extends {}>(what: string, decode: (c: Cursor) => T): Promise<T> },
  withZeroName: boolean,
  take: (id: number, name: string) => void,
): Promise<void> {
  const next = (c: Cursor) => {
    const id = c.varint() >>> 0
    return { id, name: id === 0 ? '' : c.bytes(c.u8()).toString() }
  }
  for (let count = 0; ; count++) {
    within('id list', count, 0, IDS_MAX)
    const { id, name } = await channel.receive('id list', next)
    if (id === 0) break
    take(id, name)
  }
  if (!withZeroName) return
  const { name } = await channel.receive('id list', (c) => ({ name: c.bytes(c.u8()).toString() }))
  take(0, name)
}

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
function carriesRdev(mode: number, protocol: number, keeps: Keeps): boolean {
  return (keeps.devices && isDevice(mode)) || (keeps.specials && isSpecial(mode) && protocol < 31)
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
