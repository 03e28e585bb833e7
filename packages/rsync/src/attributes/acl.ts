import { FileError } from '../errors.js'
import type { Annex, IdNames } from '../flist/codec.js'
import { type FileEntry, isDirectory, isSymlink } from '../flist/entry.js'
import { getXattr, type Place, removeXattr, setXattr } from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import { type Cursor, within } from '../wire/cursor.js'
import type { Writer } from '../wire/writer.js'
import { type Power, XATTR } from './xattr.js'

/** A user or group that an ACL names. */
export interface AclName {
  id: number
  user: boolean
  /** rwx as in a mode. */
  access: number
}

/** acls.c NO_ENTRY: there is no such entry, or the file's mode says it. */
export const NO_ENTRY = 0x80

/** One access control list. `names` are the users, then the groups, as the kernel orders them. */
export interface Acl {
  user: number
  group: number
  mask: number
  other: number
  names: readonly AclName[]
}

/** The lists of one entry; `inherit` is what a directory gives to what is created in it ("default ACL"). */
export interface Acls {
  access: Acl
  inherit: Acl | null
}

/** Which ids an ACL names, for others: null with --numeric-ids. */
export interface AclOptions {
  power: Power
  ids: IdNames | null
  /** With incremental recursion names travel with the first ACL that needs them, otherwise in lists at the end. */
  incRecurse: boolean
}

const XMIT = { USER_OBJ: 1, GROUP_OBJ: 2, MASK_OBJ: 4, OTHER_OBJ: 8, NAME_LIST: 16 } as const // acls.c
const NAME_FOLLOWS = 1
const NAME_IS_USER = 2
const NAMES_MAX = 1 << 13 // as many as Linux can keep; stock rsync reads up to 65536 and then fails to set them
const NAME_BYTES_MAX = 255
const SESSION_NAMES_MAX = 1 << 20 // in all ACLs that a peer sends
const EMPTY: Acl = { user: NO_ENTRY, group: NO_ENTRY, mask: NO_ENTRY, other: NO_ENTRY, names: [] }

/** acls.c send_acl() and receive_acl(). Symlinks have none. */
export class AclCodec implements Annex {
  readonly #access: AclHistory
  readonly #inherit: AclHistory

  constructor(readonly options: AclOptions) {
    this.#access = new AclHistory(options)
    this.#inherit = new AclHistory(options)
  }

  encode(w: Writer, entry: FileEntry): void {
    if (isSymlink(entry.mode)) return
    const acls = entry.acl as Acls | null
    this.#access.encode(w, stripped(acls?.access ?? EMPTY, entry.mode))
    if (isDirectory(entry.mode)) this.#inherit.encode(w, acls?.inherit ?? EMPTY)
  }

  decode(c: Cursor, entry: FileEntry): () => void {
    if (isSymlink(entry.mode)) return () => undefined
    const access = this.#access.decode(c, (entry.mode >> 3) & 7)
    const inherit = isDirectory(entry.mode) ? this.#inherit.decode(c, null) : null
    return () => {
      entry.acl = { access: access(), inherit: inherit === null ? null : inherit() } satisfies Acls
    }
  }

  /** Once the lists of ids have come (without incremental recursion): from here on ids are ours. */
  mapIds(): void {
    this.#access.mapIds()
    this.#inherit.mapIds()
  }
}

/** Received: `acl` is what entries share, `sent` gives names to its ids. */
interface Heard {
  acl: Acl
  sent: string[]
}

/** What was sent before is only named. */
class AclHistory {
  readonly #sent = new Map<string, number>()
  readonly #received: Acl[] = []
  #names = 0

  constructor(readonly options: AclOptions) {}

  encode(w: Writer, acl: Acl): void {
    const key = keyOf(acl)
    const known = this.#sent.get(key)
    w.varint(known === undefined ? 0 : known + 1)
    if (known !== undefined) return
    this.#sent.set(key, this.#sent.size)
    encodeAcl(w, acl, this.options)
  }

  /** `groupBits` are those of the mode for an access ACL, null for a default ACL. */
  decode(c: Cursor, groupBits: number | null): () => Acl {
    const index = c.varint()
    within('ACL index', index, 0, this.#received.length)
    if (index > 0) return () => this.#received[index - 1]
    const heard = decodeAcl(c, this.options.power)
    const acl = { ...heard.acl, mask: maskOf(heard.acl, groupBits) }
    return () => {
      if (this.options.incRecurse) mapNames(acl, heard.sent, this.options.ids)
      this.#names += acl.names.length
      within('number of names in all ACLs', this.#names, 0, SESSION_NAMES_MAX)
      this.#received.push(acl)
      return acl
    }
  }

  mapIds(): void {
    for (const acl of this.#received) mapNames(acl, [], this.options.ids)
  }
}

function keyOf({ user, group, mask, other, names }: Acl): string {
  return `${user} ${group} ${mask} ${other}${names.map((n) => ` ${n.user ? 'u' : 'g'}${n.id}=${n.access}`).join('')}`
}

function mapNames({ names }: Acl, sent: string[], ids: IdNames | null): void {
  if (ids === null) return
  for (const [i, name] of names.entries()) {
    const said = sent[i] ?? ''
    name.id = name.user ? ids.user(name.id, said) : ids.group(name.id, said)
  }
}

/** acls.c rsync_acl_strip_perms(): without what the mode of the file says anyway. */
export function stripped(acl: Acl, mode: number): Acl {
  const bits = (mode >> 3) & 7
  const { names } = acl
  if (acl.mask === NO_ENTRY) return { ...EMPTY, names }
  const group = acl.group === bits ? NO_ENTRY : acl.group
  // Without names a mask must be sent: nothing else would tell that there is one.
  const mask = names.length > 0 && acl.mask === bits ? NO_ENTRY : acl.mask
  return { ...EMPTY, group, mask, names }
}

/** A list of names needs a mask; one that was stripped is what the mode says, or what all entries have together. */
function maskOf({ mask, group, names }: Acl, groupBits: number | null): number {
  if (names.length === 0 || mask !== NO_ENTRY) return mask
  return groupBits ?? names.reduce((bits, { access }) => bits | access, group & ~NO_ENTRY)
}

function encodeAcl(w: Writer, { user, group, mask, other, names }: Acl, options: AclOptions): void {
  const objects = [user, group, mask, other]
  const flags = objects.reduce((bits, access, i) => (access === NO_ENTRY ? bits : bits | (1 << i)), 0)
  w.u8(names.length > 0 ? flags | XMIT.NAME_LIST : flags)
  for (const access of objects) if (access !== NO_ENTRY) w.varint(access)
  if (names.length === 0) return
  w.varint(names.length)
  for (const name of names) encodeName(w, name, options)
}

function encodeName(w: Writer, { id, user, access }: AclName, { ids, incRecurse }: AclOptions): void {
  // Asked for in any case: that is how the id gets into the lists at the end.
  const known = ids === null ? '' : user ? ids.userName(id) : ids.groupName(id)
  const name = incRecurse ? Buffer.from(known).subarray(0, NAME_BYTES_MAX) : Buffer.alloc(0)
  w.varint(id)
  w.varint((access << 2) | (user ? NAME_IS_USER : 0) | (name.length > 0 ? NAME_FOLLOWS : 0))
  if (name.length === 0) return
  w.u8(name.length)
  w.bytes(name)
}

function decodeAcl(c: Cursor, power: Power): Heard {
  const flags = c.u8()
  const object = (flag: number) => (flags & flag ? decodeAccess(c.varint(), power) : NO_ENTRY)
  const user = object(XMIT.USER_OBJ)
  const group = object(XMIT.GROUP_OBJ)
  const mask = object(XMIT.MASK_OBJ)
  const other = object(XMIT.OTHER_OBJ)
  const sent: string[] = []
  const names: AclName[] = []
  const count = flags & XMIT.NAME_LIST ? c.varint() : 0
  within('number of names in an ACL', count, 0, NAMES_MAX)
  for (let i = 0; i < count; i++) {
    const id = c.varint() >>> 0
    const bits = c.varint()
    const access = decodeAccess(bits >>> 2, power)
    sent.push(bits & NAME_FOLLOWS ? c.bytes(c.u8()).toString() : '')
    names.push({ id, user: (bits & NAME_IS_USER) !== 0, access })
  }
  return { acl: { user, group, mask, other, names }, sent }
}

/** --fake-super keeps also what other systems' ACLs allow beyond rwx. */
function decodeAccess(access: number, power: Power): number {
  within('ACL permissions', access, 0, power === 'fake' ? 0x1fffffff : 7)
  return access
}

const ACCESS_XATTR = 'system.posix_acl_access'
const DEFAULT_XATTR = 'system.posix_acl_default'

/** The ACLs of what is at `at` and has `mode`. Throws SystemError, and FileError for one that cannot be understood. */
export function readAcls(at: Place, mode: number, power: Power, path: RawPath): Acls {
  const inherit = isDirectory(mode)
  if (power === 'fake') {
    const read = (name: string) => parse(getXattr(at, name), path, (value) => decodeKept(value, mode)) ?? EMPTY
    return { access: read(XATTR.ACCESS_ACL), inherit: inherit ? read(XATTR.DEFAULT_ACL) : null }
  }
  const access = parse(getXattr(at, ACCESS_XATTR), path, decodePosixAcl) ?? aclOfMode(mode)
  return { access, inherit: inherit ? (parse(getXattr(at, DEFAULT_XATTR), path, decodePosixAcl) ?? EMPTY) : null }
}

function parse(value: Buffer | null, path: RawPath, decode: (value: Buffer) => Acl | null): Acl | null {
  if (value === null) return null
  const acl = decode(value)
  if (acl === null) throw new FileError(path, 'its ACL cannot be understood')
  return acl
}

function aclOfMode(mode: number): Acl {
  return { ...EMPTY, user: (mode >> 6) & 7, group: (mode >> 3) & 7, other: mode & 7 }
}

// linux/posix_acl_xattr.h: u32 version, then { u16 tag, u16 perm, u32 id } for each entry
const POSIX_VERSION = 2
const TAG = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const
const UNDEFINED_ID = 0xffffffff

/** What the kernel keeps; null when it is no such list. */
export function decodePosixAcl(value: Buffer): Acl | null {
  if (value.length < 4 || value.length % 8 !== 4 || value.readUInt32LE(0) !== POSIX_VERSION) return null
  const acl = { ...EMPTY, names: [] as AclName[] }
  for (let at = 4; at < value.length; at += 8) {
    const tag = value.readUInt16LE(at)
    const access = value.readUInt16LE(at + 2) & 7
    const id = value.readUInt32LE(at + 4)
    if (tag === TAG.USER_OBJ) acl.user = access
    else if (tag === TAG.GROUP_OBJ) acl.group = access
    else if (tag === TAG.MASK) acl.mask = access
    else if (tag === TAG.OTHER) acl.other = access
    else if (tag === TAG.USER || tag === TAG.GROUP) acl.names.push({ id, user: tag === TAG.USER, access })
    else return null
  }
  acl.names.sort((a, b) => (a.user === b.user ? a.id - b.id : a.user ? -1 : 1))
  return acl
}

/** What the kernel takes; it insists on this order. */
export function encodePosixAcl({ user, group, mask, other, names }: Acl): Buffer {
  const entries: [tag: number, access: number, id: number][] = [[TAG.USER_OBJ, user, UNDEFINED_ID]]
  const named = (users: boolean) => names.filter((name) => name.user === users).sort((a, b) => a.id - b.id)
  for (const { id, access } of named(true)) entries.push([TAG.USER, access, id])
  entries.push([TAG.GROUP_OBJ, group, UNDEFINED_ID])
  for (const { id, access } of named(false)) entries.push([TAG.GROUP, access, id])
  if (mask !== NO_ENTRY) entries.push([TAG.MASK, mask, UNDEFINED_ID])
  entries.push([TAG.OTHER, other, UNDEFINED_ID])
  const value = Buffer.alloc(4 + 8 * entries.length)
  value.writeUInt32LE(POSIX_VERSION)
  for (const [i, [tag, access, id]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * i)
    value.writeUInt16LE(access & 7, 6 + 8 * i)
    value.writeUInt32LE(id, 8 + 8 * i)
  }
  return value
}

const KEPT_USER = 0x80000000

/** What --fake-super keeps: four u32, then { u32 id, u32 access } for each name. */
function encodeKept({ user, group, mask, other, names }: Acl): Buffer {
  const words = [user, group, mask, other]
  for (const { id, user, access } of names) words.push(id, user ? access + KEPT_USER : access)
  const value = Buffer.alloc(4 * words.length)
  for (const [i, word] of words.entries()) value.writeUInt32LE(word, 4 * i)
  return value
}

function decodeKept(value: Buffer, mode: number): Acl | null {
  if (value.length < 16 || value.length % 8 !== 0) return null
  const words = Array.from({ length: value.length / 4 }, (_, i) => value.readUInt32LE(4 * i))
  const names: AclName[] = []
  for (let i = 4; i < words.length; i += 2)
    names.push({ id: words[i], user: words[i + 1] >= KEPT_USER, access: words[i + 1] % KEPT_USER })
  const basic = aclOfMode(mode)
  const [user, group, mask, other] = words.map((word) => word & 0xff)
  const or = (access: number, otherwise: number) => (access === NO_ENTRY ? otherwise : access)
  return { user: or(user, basic.user), group: or(group, basic.group), mask, other: or(other, basic.other), names }
}

/**
 * Whether a destination that has `have` has what was sent: the bits that the mode shows do not count, since they are
 * set with the mode.
 */
export function sameAcls(wanted: Acls, have: Acls, mode: number): boolean {
  return sameAccess(wanted.access, have.access, mode) && sameInherited(wanted, have)
}

/** acls.c rsync_acl_equal_enough() */
function sameAccess(wanted: Acl, have: Acl, mode: number): boolean {
  if ((wanted.mask === NO_ENTRY) !== (have.mask === NO_ENTRY)) return false
  const group = wanted.group === NO_ENTRY ? (mode >> 3) & 7 : wanted.group
  return (have.mask === NO_ENTRY || have.group === group) && sameNames(wanted, have)
}

const sameNames = (a: Acl, b: Acl) => keyOf({ ...EMPTY, names: a.names }) === keyOf({ ...EMPTY, names: b.names })
const sameInherited = (a: Acls, b: Acls) => a.inherit === null || keyOf(a.inherit) === keyOf(b.inherit ?? EMPTY)

export interface ApplyAcls {
  power: Power
  /** The mode that what is at `at` has now, and the one that it shall have. */
  mode: number
  newMode: number
}

/**
 * acls.c set_acl(): makes the ACLs at `at`, which are `have`, those that were sent. To be called just before the mode
 * is set. Returns the mode that it then has: an access ACL brings its permission bits with it. Throws SystemError.
 */
export function applyAcls(at: Place, wanted: Acls, have: Acls, { power, mode, newMode }: ApplyAcls): number {
  let result = mode
  if (!sameAccess(wanted.access, have.access, newMode)) {
    if (power === 'fake') setXattr(at, XATTR.ACCESS_ACL, encodeKept(wanted.access))
    else {
      const bits = safeBits(mode, newMode)
      setXattr(at, ACCESS_XATTR, encodePosixAcl(completed(wanted.access, bits)))
      result = (mode & ~0o777) | bits
    }
  }
  if (isDirectory(newMode) && wanted.inherit !== null && !sameInherited(wanted, have))
    setInherited(at, wanted.inherit, power)
  return result
}

function setInherited(at: Place, acl: Acl, power: Power): void {
  const name = power === 'fake' ? XATTR.DEFAULT_ACL : DEFAULT_XATTR
  if (acl.user === NO_ENTRY) removeXattr(at, name)
  else setXattr(at, name, power === 'fake' ? encodeKept(acl) : encodePosixAcl(acl))
}

/** Others get nothing yet while a sticky bit is still to come, or set-id bits are still to go. */
function safeBits(mode: number, newMode: number): number {
  const unsafe = isDirectory(newMode) ? newMode & ~mode & 0o1000 : mode & ~newMode & 0o6000
  return newMode & (unsafe === 0 ? 0o777 : 0o700)
}

/** With what was left out because the mode says it. */
function completed(acl: Acl, bits: number): Acl {
  const basic = aclOfMode(bits)
  const group = acl.group === NO_ENTRY ? basic.group : acl.group
  const mask = acl.mask === NO_ENTRY ? NO_ENTRY : basic.group
  return { user: basic.user, group, mask, other: basic.other, names: acl.names }
}

/** acls.c default_perms_for_dir(): the permissions that new files get in a directory, where --perms does not say. */
export function defaultPermissions(dir: Place, umask: number): number {
  const value = getXattr(dir, DEFAULT_XATTR)
  const acl = value === null ? null : decodePosixAcl(value)
  if (acl === null || acl.user === NO_ENTRY) return 0o777 & ~umask
  return (acl.user << 6) | ((acl.mask === NO_ENTRY ? acl.group : acl.mask) << 3) | acl.other
}
