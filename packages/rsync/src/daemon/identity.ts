import { groupsOf, groupId as systemGroup, userIds } from '../kernel.js'
import type { ModuleConfig } from './config.js'

/** Who a module's files are read and written as; null is who the daemon is. */
export interface Identity {
  uid: number | null
  /** The first is the main one. */
  gids: number[] | null
}

const NOBODY = 'nobody'
const NOGROUP = 'nogroup'
const ID_MAX = 0xfffffffe // one more means `do not change`

/** What a module's `uid` and `gid` say that the system does not know. */
export class UnknownIdentity extends Error {
  readonly code = 'RSYNC_IDENTITY'
  constructor(
    readonly kind: 'uid' | 'gid',
    readonly value: string,
  ) {
    super(`Invalid ${kind} ${value}`) // as the log says it
  }
}

/** clientserver.c rsync_module(): root turns into nobody unless the module says otherwise. Throws UnknownIdentity. */
export function resolveIdentity(module: Pick<ModuleConfig, 'uid' | 'gid'>, asRoot: boolean): Identity {
  const user = module.uid !== '' ? module.uid : asRoot ? NOBODY : null
  const groups = splitList(module.gid)
  if (groups.length === 0 && asRoot) groups.push(NOGROUP)
  return {
    uid: user === null ? null : userId(user),
    gids: groups.length === 0 ? null : [...groupIds(groups, user)],
  }
}

/** `*` stands for all groups of the user; it counts only as the first. */
function* groupIds(names: string[], user: string | null): Iterable<number> {
  for (const [index, name] of names.entries()) {
    if (index === 0 && name === '*') yield* allGroups(user)
    else yield groupId(name)
  }
}

function allGroups(user: string | null): number[] {
  const found = user === null ? null : userIds(user)
  if (user === null || found === null) throw new UnknownIdentity('gid', '*')
  return groupsOf(user, found.gid)
}

const userId = (text: string) => userIds(text)?.uid ?? number(text) ?? unknown('uid', text)
const groupId = (text: string) => systemGroup(text) ?? number(text) ?? unknown('gid', text)

const number = (text: string) => (/^\d{1,10}$/.test(text) && Number(text) <= ID_MAX ? Number(text) : null)

function unknown(kind: 'uid' | 'gid', text: string): never {
  throw new UnknownIdentity(kind, text)
}

/** loadparm.c conf_strtok(): parts between blanks and commas; a list that starts with a comma has only commas. */
export function splitList(text: string): string[] {
  const parts = text.startsWith(',') ? text.split(',') : text.split(/[ ,\t\r\n]/)
  return parts.map((part) => part.trim()).filter((part) => part !== '')
}
