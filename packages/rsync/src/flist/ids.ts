import { groupId, groupName, userIds, userName } from '../kernel.js'
import type { Writer } from '../wire/writer.js'
import { encodeIdList, type IdNames } from './codec.js'
import { GID_NONE } from './entry.js'

const named = (ids: ReadonlyMap<number, string>) => new Map([...ids].filter(([, name]) => name !== ''))

/** Ids that a peer may name; each is looked up once. */
const IDS_MAX = 1 << 20

/** uidlist.c: an owner is known by his name where both ends have it, and by his number otherwise. */
export class Ids implements IdNames {
  /** Names of the ids that were sent, for the lists that follow where names do not travel with the entries. */
  readonly sentUsers = new Map<number, string>()
  readonly sentGroups = new Map<number, string>()
  readonly #users = new Map<number, number>()
  readonly #groups = new Map<number, number>()

  constructor(
    /** Whether owners can be set; who is not root can give files only to groups that he is in. */
    readonly root: boolean,
    /** A module's `numeric ids`: names travel, for the client does not know of it, but mean nothing. */
    readonly numeric = false,
  ) {}

  userName(uid: number): string {
    if (uid === 0 || this.numeric || this.sentUsers.has(uid)) return ''
    const name = userName(uid) ?? ''
    this.sentUsers.set(uid, name)
    return name
  }

  groupName(gid: number): string {
    if (gid === 0 || this.numeric || this.sentGroups.has(gid)) return ''
    const name = groupName(gid) ?? ''
    this.sentGroups.set(gid, name)
    return name
  }

  /** uidlist.c send_id_lists(): after a list that is not one of many. `withZero`: compat flag ID0_NAMES. */
  encode(w: Writer, users: boolean, groups: boolean, withZero: boolean): void {
    if (users) encodeIdList(w, named(this.sentUsers), withZero ? (this.numeric ? '' : (userName(0) ?? '')) : null)
    if (groups) encodeIdList(w, named(this.sentGroups), withZero ? (this.numeric ? '' : (groupName(0) ?? '')) : null)
  }

  user(uid: number, name: string): number {
    const known = this.#users.get(uid)
    if (known !== undefined && name === '') return known
    const ours = (name !== '' && this.root && !this.numeric ? userIds(name)?.uid : undefined) ?? uid
    if (this.#users.size < IDS_MAX) this.#users.set(uid, ours)
    return ours
  }

  group(gid: number, name: string): number {
    const known = this.#groups.get(gid)
    if (known !== undefined && name === '') return known
    const found = (name === '' || this.numeric ? null : groupId(name)) ?? gid
    const ours = this.root || isOurs(found) ? found : GID_NONE
    if (this.#groups.size < IDS_MAX) this.#groups.set(gid, ours)
    return ours
  }
}

const isOurs = (gid: number) => process.getegid?.() === gid || (process.getgroups?.() ?? []).includes(gid)
