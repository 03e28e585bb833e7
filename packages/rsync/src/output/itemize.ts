import { isDevice, isDirectory, isSpecial, isSymlink } from '../flist/entry.js'
import { ITEM } from '../wire/constants.js'

/** Flags that never travel: rsync keeps them above the 16 bits that do. */
export const ITEM_DELETED = 1 << 17

/** On a symlink, which has no size to report: the receiver could not set its time. */
const REPORT_TIMEFAIL = ITEM.REPORT_SIZE

/** rsync.h SIGNIFICANT_ITEM_FLAGS: with none of these the item is what it was. */
const INSIGNIFICANT = ITEM.BASIS_TYPE_FOLLOWS | ITEM.XNAME_FOLLOWS | ITEM.LOCAL_CHANGE
export const isSignificant = (iflags: number) => (iflags & ~INSIGNIFICANT) !== 0

export interface ItemizeContext {
  /** We are the sender and the receiver is another process: `<`. A local copy is `>` although its sender prints. */
  upload: boolean
  /** -t */
  times: boolean
  /** The receiver can set times of symlinks (CF_SYMLINK_TIMES, or it is us). */
  symlinkTimes: boolean
}

const WIDTH = 11

/** What %i prints for an item of type `mode`, for all protocols since 30. */
export function itemize(iflags: number, mode: number, context: ItemizeContext): string {
  if (iflags & ITEM_DELETED) return '*deleting'.padEnd(WIDTH)
  const update = updateLetter(iflags, context.upload)
  const head = update + typeLetter(mode)
  if (iflags & ITEM.IS_NEW) return head.padEnd(WIDTH, '+')
  const attributes = attributeLetters(iflags, mode, context)
  const unchanged = /^\.+$/.test(attributes)
  return unchanged && '.hc'.includes(update) ? head.padEnd(WIDTH) : head + attributes
}

function updateLetter(iflags: number, upload: boolean): string {
  if (iflags & ITEM.LOCAL_CHANGE) return iflags & ITEM.XNAME_FOLLOWS ? 'h' : 'c'
  if (!(iflags & ITEM.TRANSFER)) return '.'
  return upload ? '<' : '>'
}

function typeLetter(mode: number): string {
  if (isSymlink(mode)) return 'L'
  if (isDirectory(mode)) return 'd'
  if (isSpecial(mode)) return 'S'
  return isDevice(mode) ? 'D' : 'f'
}

function attributeLetters(iflags: number, mode: number, context: ItemizeContext): string {
  const letter = (flag: number, shown: string) => (iflags & flag ? shown : '.')
  return [
    letter(ITEM.REPORT_CHANGE, 'c'),
    isSymlink(mode) ? '.' : letter(ITEM.REPORT_SIZE, 's'),
    letter(ITEM.REPORT_TIME, keepsTime(iflags, mode, context) ? 't' : 'T'),
    letter(ITEM.REPORT_PERMS, 'p'),
    letter(ITEM.REPORT_OWNER, 'o'),
    letter(ITEM.REPORT_GROUP, 'g'),
    useTimeLetter(iflags),
    letter(ITEM.REPORT_ACL, 'a'),
    letter(ITEM.REPORT_XATTR, 'x'),
  ].join('')
}

/** Without it the item gets the time of the transfer, which is a change too. */
function keepsTime(iflags: number, mode: number, { times, symlinkTimes }: ItemizeContext): boolean {
  return times && (!isSymlink(mode) || (symlinkTimes && !(iflags & REPORT_TIMEFAIL)))
}

/** Access and creation time share a column: `u`, `n`, or `b` for both. */
function useTimeLetter(iflags: number): string {
  const access = (iflags & ITEM.REPORT_ATIME) !== 0
  const creation = (iflags & ITEM.REPORT_CRTIME) !== 0
  if (access && creation) return 'b'
  if (access) return 'u'
  return creation ? 'n' : '.'
}
