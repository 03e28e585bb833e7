import { createHash } from 'node:crypto'
import { ProtocolError } from '../errors.js'
import type { Annex } from '../flist/codec.js'
import { type FileEntry, isSymlink } from '../flist/entry.js'
import {
  changeMode,
  changeModeOf,
  getXattr,
  listXattrs,
  type Place,
  removeXattr,
  SystemError,
  setXattr,
  XATTR_SIZE_MAX,
} from '../kernel.js'
import { fromBytes } from '../raw-path.js'
import { CF, ITEM } from '../wire/constants.js'
import { type Cursor, within } from '../wire/cursor.js'
import type { Writer } from '../wire/writer.js'

/** What rsync calls am_root: we are root (or --super says so), are not, or play root with attributes (--fake-super). */
export type Power = 'super' | 'user' | 'fake'

/** Which attributes are ours to read and to write. */
export interface XattrRules {
  power: Power
  sender: boolean
  /** -X was given twice: the attributes of --fake-super travel like any other. */
  all: boolean
}

export interface Xattr {
  /** As it is called here, latin1. */
  readonly name: string
  /** Of the value, bytes, as the sender saw it. */
  readonly length: number
  /** MD5 of a value longer than FULL_MAX, null of a shorter one. */
  readonly sum: Buffer | null
  /** Null for a long value that has not arrived; senders never keep those. */
  value: Buffer | null
  /** Its place in the list as it travelled, from 1: what requests call it. */
  readonly num: number
  /** Receiver: the value has been asked for, once is enough. Sender: it is to go with the next answer. */
  asked: boolean
}

/** The attributes of an entry, ordered by name. Entries with equal ones share a list, and so what has arrived of it. */
export type Xattrs = readonly Xattr[]

/** xattrs.c MAX_FULL_DATUM: longer values travel as a sum, and only to who asks. */
export const FULL_MAX = 32
const SUM_LENGTH = 16 // always MD5, whatever sums the session has agreed on, and not seeded
const COUNT_MAX = 1 << 16 // MAX_WIRE_XATTR_COUNT
const NAME_MAX = 1024 // Linux allows 255; it must bear our prefix, too, or will fail for its file alone
const LENGTH_MAX = 0x7fffffff // what is only announced costs nothing
const LIST_BYTES_MAX = 1 << 20 // names and short values: Linux lists at most 64 KiB of names
const VALUE_MAX = 1 << 20 // one that we asked for may have grown since
const SESSION_BYTES_MAX = 1 << 28 // all that is kept of what a peer sent

const RSYNC = 'user.rsync.'
export const XATTR = { STAT: `${RSYNC}%stat`, ACCESS_ACL: `${RSYNC}%aacl`, DEFAULT_ACL: `${RSYNC}%dacl` } as const
const OWN = new Set<string>(Object.values(XATTR))
const NONE: Xattrs = []

/** xattrs.c send_xattr() and receive_xattr(): what follows an entry, and what was already sent and is only named. */
export class XattrCodec implements Annex {
  readonly #sent = new Map<string, { index: number; list: Xattrs }>()
  readonly #received: Xattrs[] = []
  #kept = 0

  constructor(readonly rules: XattrRules) {}

  /** Afterwards `entry.xattrs` is the shared list, which requests for its values refer to. */
  encode(w: Writer, entry: FileEntry): void {
    const list = (entry.xattrs as Xattrs | null) ?? NONE
    const key = keyOf(list)
    const known = this.#sent.get(key)
    w.varint(known === undefined ? 0 : known.index + 1)
    entry.xattrs = known?.list ?? list
    if (known !== undefined) return
    this.#sent.set(key, { index: this.#sent.size, list })
    w.varint(list.length)
    for (const item of list) {
      const name = `${wireName(item.name, this.rules)}\0`
      w.varint(name.length)
      w.varint(item.length)
      w.latin1(name)
      w.bytes(item.sum ?? (item.value as Buffer))
    }
  }

  decode(c: Cursor, entry: FileEntry): () => void {
    const index = c.varint()
    within('extended attribute list', index, 0, this.#received.length)
    if (index > 0) {
      entry.xattrs = this.#received[index - 1]
      return () => undefined
    }
    const start = c.pos
    const list = decodeList(c, this.rules)
    entry.xattrs = list
    const bytes = c.pos - start
    return () => {
      this.#received.push(list)
      this.#keep(bytes)
    }
  }

  /** The receiving end of an answer: sets the values of `list` that it brings. */
  async receiveValues(from: Receives, list: Xattrs): Promise<void> {
    for (let num = 0; ; ) {
      const before = num
      const answer = await from.receive('extended attribute value', (c) => decodeXattrValue(c, list, before))
      if (answer === 'end') return
      num = answer.item.num
      answer.item.value = answer.value
      this.#keep(answer.value.length)
    }
  }

  #keep(bytes: number): void {
    this.#kept += bytes
    within('extended attributes of the session, in bytes,', this.#kept, 0, SESSION_BYTES_MAX)
  }
}

/** What a `Channel` does. */
export interface Receives {
  receive<T extends {}>(what: string, decode: (c: Cursor) => T): Promise<T>
}

/** Equal for lists that can stand for each other. */
function keyOf(list: Xattrs): string {
  return list.map(({ name, length, sum, value }) => `${name}\0${length}\0${latin1(sum ?? value)}`).join('')
}
const latin1 = (bytes: Buffer | null) => bytes?.toString('latin1') ?? ''

function decodeList(c: Cursor, rules: XattrRules): Xattrs {
  const count = c.varint()
  within('number of extended attributes', count, 0, COUNT_MAX)
  const list: Xattr[] = []
  const start = c.pos
  for (let num = 1; num <= count; num++) {
    const item = decodeItem(c, num)
    within('extended attribute list', c.pos - start, 0, LIST_BYTES_MAX)
    const name = localName(item.name, rules)
    if (name !== null) list.push({ ...item, name })
  }
  return list.sort(byName)
}

function decodeItem(c: Cursor, num: number): Xattr {
  const nameLength = c.varint()
  within('length of an attribute name', nameLength, 1, NAME_MAX)
  const length = c.varint()
  within('length of an attribute value', length, 0, LENGTH_MAX)
  const name = fromBytes(c.bytes(nameLength))
  if (name.indexOf('\0') !== nameLength - 1) throw new ProtocolError('attribute name', 'not one string')
  const bytes = Buffer.from(c.bytes(length > FULL_MAX ? SUM_LENGTH : length))
  const long = length > FULL_MAX
  const held = long ? { sum: bytes, value: null } : { sum: null, value: bytes }
  return { name: name.slice(0, -1), length, ...held, num, asked: false }
}

/** --fake-super hides other namespaces in its own; on the wire they have their true names. */
function wireName(name: string, { power }: XattrRules): string {
  return power === 'fake' && name.startsWith(RSYNC) && name[RSYNC.length] !== '%' ? name.slice(RSYNC.length) : name
}

/** What to call here what a sender calls `name`; null for what is not for us. */
function localName(name: string, { power, all }: XattrRules): string | null {
  const foreign = power !== 'super' && !name.startsWith('user.')
  if (foreign && power === 'user') return null
  const local = foreign ? RSYNC + name : name
  return !all && local.startsWith(`${RSYNC}%`) ? null : local
}

const byName = (a: Xattr, b: Xattr) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)

/** The attributes of what is at `at`. Throws SystemError. */
export function readXattrs(at: Place, rules: XattrRules): Xattrs {
  const names = listXattrs(at)
  if (names.length === 0) return NONE
  const list: Xattr[] = []
  for (const name of names.filter((name) => isRead(name, rules)).sort()) {
    const value = getXattr(at, name)
    if (value !== null) list.push(xattr(name, value, list.length + 1)) // or it has gone meanwhile
  }
  return list
}

/** xattrs.c rsync_xal_get() */
function isRead(name: string, { power, sender, all }: XattrRules): boolean {
  if (sender || power === 'super' ? name.startsWith('system.') : !name.startsWith('user.')) return false
  if (!name.startsWith(`${RSYNC}%`)) return true
  return !(sender && !all) && !(power === 'fake' && OWN.has(name))
}

function xattr(name: string, value: Buffer, num: number): Xattr {
  const long = value.length > FULL_MAX
  const held = long ? { sum: md5(value), value: null } : { sum: null, value }
  return { name, length: value.length, ...held, num, asked: false }
}

const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest()

/** xattrs.c xattr_diff(): whether a destination that has `have` has what was sent. */
export function sameXattrs(wanted: Xattrs, have: Xattrs): boolean {
  return wanted.length === have.length && wanted.every((item, i) => sameXattr(item, have[i]))
}

function sameXattr(a: Xattr, b: Xattr): boolean {
  if (a.name !== b.name || a.length !== b.length) return false
  return (a.sum ?? (a.value as Buffer)).equals(b.sum ?? (b.value as Buffer))
}

/** The long values that must be asked for: what the destination has not, unless they have been asked for before. */
export function askForXattrs(wanted: Xattrs, have: Xattrs): Xattr[] {
  const present = new Map(have.map((item) => [item.name, item]))
  const missing = wanted.filter((item) => {
    if (item.sum === null || item.asked || item.value !== null) return false
    if (item.length > XATTR_SIZE_MAX) return false // no Linux could keep it: setting it will fail
    const other = present.get(item.name)
    return other === undefined || !sameXattr(item, other)
  })
  for (const item of missing) item.asked = true
  return missing
}

/**
 * Whether a request of the generator, or the sender's answer, that has these item flags goes on with the values of
 * attributes. A hard link to a file that is already there needs none.
 */
export function carriesXattrs(iflags: number, protocol: number, compatFlags: number): boolean {
  if (!(iflags & ITEM.REPORT_XATTR)) return false
  const linked = ITEM.XNAME_FOLLOWS | ITEM.LOCAL_CHANGE
  return protocol < 31 || (compatFlags & CF.AVOID_XATTR_OPTIM) !== 0 || (iflags & linked) !== linked
}

/** xattrs.c send_xattr_request() of the generator: what it asks for, each relative to the one before. */
export function encodeXattrRequest(w: Writer, items: readonly Xattr[]): void {
  let before = 0
  for (const { num } of items) {
    w.varint(num - before)
    before = num
  }
  w.varint(0)
}

/** What the generator asks for; the sender marks it with `asked` when the request has been read. */
export function decodeXattrRequest(c: Cursor, list: Xattrs): Xattr[] {
  const items: Xattr[] = []
  for (let num = 0; ; ) {
    const item = numbered(c, list, num)
    if (item === null) return items
    within('number of extended attributes asked for', items.length, 0, list.length - 1)
    items.push(item)
    num = item.num
  }
}

/** The sender's answer: every value that was asked for and has not gone yet. `failed` hears what could not be read. */
export function encodeXattrValues(w: Writer, list: Xattrs, at: Place, failed: (error: SystemError) => void): void {
  let before = 0
  for (const item of list) {
    if (!item.asked) continue
    item.asked = false
    const value = readAgain(at, item.name, failed)
    w.varint(item.num - before)
    w.varint(value.length)
    w.bytes(value)
    before = item.num
  }
  w.varint(0)
}

/** rsync sends an empty value for one that it can no longer read. */
function readAgain(at: Place, name: string, failed: (error: SystemError) => void): Buffer {
  try {
    return getXattr(at, name) ?? Buffer.alloc(0)
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    failed(error)
    return Buffer.alloc(0)
  }
}

/** One value of an answer, or its end; `before` is the number of the one before it, 0 for the first. */
export function decodeXattrValue(c: Cursor, list: Xattrs, before: number): { item: Xattr; value: Buffer } | 'end' {
  const item = numbered(c, list, before)
  if (item === null) return 'end'
  if (!item.asked || item.value !== null)
    throw new ProtocolError('attribute value', `number ${item.num} is not missing`)
  const length = c.varint()
  within('length of an attribute value', length, 0, VALUE_MAX)
  return { item, value: Buffer.from(c.bytes(length)) }
}

function numbered(c: Cursor, list: Xattrs, before: number): Xattr | null {
  const relative = c.varint()
  if (relative === 0) return null
  const number = before + relative
  // The list is in that order unless names were changed on the way.
  const item = list[number - 1]?.num === number ? list[number - 1] : list.find(({ num }) => num === number)
  if (item === undefined || item.sum === null)
    throw new ProtocolError('attribute request', `${number} is the number of no long value`)
  return item
}

/** An attribute that could not be set or removed; the others have been. */
export interface XattrFailure {
  call: 'setxattr' | 'removexattr'
  xattr: string
  /** Null: the long value never came. */
  error: SystemError | null
}

/** The failure as rsync words it; `path` as it names files, in quotes. */
export function describeXattrFailure({ call, xattr, error }: XattrFailure, path: string): string {
  if (error === null) return `Missing abbreviated xattr value, ${xattr}, for ${path}`
  return `rsync_xal_set: l${call}(${path},"${xattr}") failed: ${error.reason}`
}

export interface ApplyXattrs {
  rules: XattrRules
  /** The mode that what is at `at` has now. */
  mode: number
  /** Where long values may be that were not asked for because they are the same there; `at` itself if not given. */
  basis?: Place | undefined
}

/**
 * xattrs.c set_xattr(): makes the attributes at `at` those of `list`. To be called after the owner has been set, which
 * takes capabilities away, and before the time. Throws SystemError when they cannot even be listed.
 */
export function applyXattrs(at: Place, list: Xattrs, { rules, mode, basis = at }: ApplyXattrs): XattrFailure[] {
  const present = listXattrs(at)
  const wanted = new Set(list.map(({ name }) => name))
  const extra = present.filter((name) => isReplaced(name, rules) && !wanted.has(name))
  if (list.length === 0 && extra.length === 0) return []
  const failures: XattrFailure[] = []
  const attempt = (call: XattrFailure['call'], xattr: string, run: () => void) => {
    try {
      run()
    } catch (error) {
      if (!(error instanceof SystemError)) throw error
      failures.push({ call, xattr, error })
    }
  }
  whileWritable(at, mode, rules.power, () => {
    for (const item of list) {
      const value = valueToSet(item, basis)
      if (value === null) failures.push({ call: 'setxattr', xattr: item.name, error: null })
      else attempt('setxattr', item.name, () => setUnlessEqual(at, item.name, value, present))
    }
    for (const name of extra) attempt('removexattr', name, () => removeXattr(at, name))
  })
  return failures
}

/** Whether --xattrs removes it where the sender has none of that name. */
function isReplaced(name: string, { power }: XattrRules): boolean {
  if (power === 'super') return !name.startsWith('system.')
  // Stock rsync 3.5.0 removes the ACLs that --fake-super keeps so; they are not xattrs to whoever uses it.
  return name.startsWith('user.') && !(power === 'fake' && OWN.has(name))
}

/** The value to set; a long one that was not asked for is in the basis file, and is kept for others of the list. */
function valueToSet(item: Xattr, basis: Place): Buffer | null {
  if (item.value !== null) return item.value
  const value = getXattr(basis, item.name)
  if (value === null || value.length !== item.length || !md5(value).equals(item.sum as Buffer)) return null
  item.value = value
  return value
}

function setUnlessEqual(at: Place, name: string, value: Buffer, present: readonly string[]): void {
  if (present.includes(name) && getXattr(at, name)?.equals(value)) return
  setXattr(at, name, value)
}

/** Who is not root may set attributes only of what he may write. */
function whileWritable(at: Place, mode: number, power: Power, run: () => void): void {
  const lift = power === 'user' && !isSymlink(mode) && !(mode & 0o200) && tryMode(at, mode | 0o200)
  try {
    run()
  } finally {
    if (lift) tryMode(at, mode)
  }
}

function tryMode({ dir, name, fd }: Place, mode: number): boolean {
  try {
    if (fd !== undefined) changeModeOf(fd, mode)
    else changeMode(dir, name === '' ? '.' : name, mode)
    return true
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    return false
  }
}

/** xattrs.c copy_xattrs(): gives a copy of a file (a backup, or one of --copy-dest) the attributes of the original. */
export function copyXattrs(from: Place, to: Place, rules: XattrRules): void {
  for (const name of listXattrs(from)) {
    if (rules.power === 'super' ? name.startsWith('system.') : !name.startsWith('user.')) continue
    const value = getXattr(from, name)
    if (value !== null) setXattr(to, name, value)
  }
}
