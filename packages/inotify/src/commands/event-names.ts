import { IN } from '../events.js'

/** The kernel's events by the names that the commands print, in the order of their columns. */
const NAMES: readonly [name: string, bits: number][] = [
  ['ACCESS', IN.ACCESS],
  ['MODIFY', IN.MODIFY],
  ['ATTRIB', IN.ATTRIB],
  ['CLOSE_WRITE', IN.CLOSE_WRITE],
  ['CLOSE_NOWRITE', IN.CLOSE_NOWRITE],
  ['CLOSE', IN.CLOSE_WRITE | IN.CLOSE_NOWRITE],
  ['OPEN', IN.OPEN],
  ['MOVED_FROM', IN.MOVED_FROM],
  ['MOVED_TO', IN.MOVED_TO],
  ['MOVE_SELF', IN.MOVE_SELF],
  ['CREATE', IN.CREATE],
  ['DELETE', IN.DELETE],
  ['DELETE_SELF', IN.DELETE_SELF],
  ['UNMOUNT', IN.UNMOUNT],
  ['Q_OVERFLOW', IN.Q_OVERFLOW],
  ['IGNORED', IN.IGNORED],
  ['ISDIR', IN.ISDIR],
  ['ONESHOT', IN.ONESHOT],
]

const BY_NAME = new Map<string, number>([
  ...NAMES.map(([name, bits]): [string, number] => [name.toLowerCase(), bits]),
  ['move', IN.MOVED_FROM | IN.MOVED_TO],
  ['all_events', IN.ALL_EVENTS],
])

/** What may be asked for by a name in any case; undefined when there is no such event. May be negative: it is 32 bits. */
export const eventNamed = (name: string): number | undefined => BY_NAME.get(name.toLowerCase())

/** 'CLOSE_WRITE,CLOSE,ISDIR' */
export const namesOf = (mask: number, separator: string): string =>
  NAMES.filter(([, bits]) => (mask & bits) !== 0)
    .map(([name]) => name)
    .join(separator)

/** The columns of inotifywatch, behind the total. */
export const COLUMNS: readonly [name: string, bit: number][] = NAMES.filter(
  ([name, bits]) => name !== 'CLOSE' && (bits & (IN.ALL_EVENTS | IN.UNMOUNT)) !== 0,
).map(([name, bit]) => [name.toLowerCase(), bit])
