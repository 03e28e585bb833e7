/** linux/posix_acl_xattr.h: the tags of an access control list's entries. */
const TAG = { USER_OBJ: 0x01, USER: 0x02, GROUP_OBJ: 0x04, GROUP: 0x08, MASK: 0x10, OTHER: 0x20 } as const
const NO_ID = 0xffffffff
const VERSION = 2

/** An access control list, each permission as in a mode: `{ user: 7, users: { 1: 6 }, group: 5, mask: 7, other: 0 }`. */
export interface Acl {
  user: number
  users?: Record<number, number>
  group: number
  groups?: Record<number, number>
  mask?: number
  other: number
}

/** The value of `system.posix_acl_access` or `system.posix_acl_default`. */
export function encodeAcl({ user, users = {}, group, groups = {}, mask, other }: Acl): Buffer {
  const named = (tag: number, ids: Record<number, number>) =>
    Object.entries(ids).map(([id, permissions]) => [tag, permissions, Number(id)])
  const entries = [
    [TAG.USER_OBJ, user, NO_ID],
    ...named(TAG.USER, users),
    [TAG.GROUP_OBJ, group, NO_ID],
    ...named(TAG.GROUP, groups),
    ...(mask === undefined ? [] : [[TAG.MASK, mask, NO_ID]]),
    [TAG.OTHER, other, NO_ID],
  ]
  const bytes = Buffer.alloc(4 + 8 * entries.length)
  bytes.writeUInt32LE(VERSION)
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    bytes.writeUInt16LE(tag, 4 + 8 * i)
    bytes.writeUInt16LE(permissions, 6 + 8 * i)
    bytes.writeUInt32LE(id, 8 + 8 * i)
  }
  return bytes
}
