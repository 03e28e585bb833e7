import { type FileEntry, isDirectory, isRegular, isSymlink, missing } from '../flist/entry.js'
import type { RawPath } from '../raw-path.js'
import type { Settings } from '../settings.js'
import { ITEM } from '../wire/constants.js'
import { escapeUnprintable } from './escape.js'
import { ITEM_DELETED, type ItemizeContext, isSignificant, itemize } from './itemize.js'
import { modeString } from './mode.js'
import { bigNumber } from './number.js'
import { timeString } from './time.js'

/** One line of --out-format or of a log format. */
export interface Item {
  operation: 'send' | 'recv' | 'del.'
  entry: FileEntry
  /** With ITEM_DELETED where the item went. */
  iflags: number
  /** Name of the entry that it was hard-linked to (the xname of its iflags); '' where there is none. */
  hardLink: string
  /** What %f puts in front: a sender's source directory as it was named, a daemon's place in its module; '' for none. */
  directory: string
  /** Bytes that crossed the connection since this item was begun. */
  written: number
  read: number
  /** Checksum of the file as it is written for people, '' where none was made: -c's, else the transfer's. */
  sum: string
  /** The receiver may not set this group. */
  groupSkipped?: boolean
}

export interface FormatContext extends ItemizeContext {
  /** Seconds. */
  now: number
  pid: number
  /** -o and -g: without them no ids are known. */
  owner: boolean
  group: boolean
  /** Length of checksums in hexadecimal digits: 32 for xxh128 and md5. */
  sumDigits: number
  /** What only a daemon knows: elsewhere %h %a %P %u stand for themselves, %m for nothing. */
  daemon: { host: string; address: string; module: string; modulePath: string; user: string } | null
}

/** log.c allows a format of MAXPATHLEN and 1024 more when it is expanded, then exits with RERR_MESSAGEIO. */
export const FORMAT_LENGTH_MAX = 4096
const LINE_LENGTH_MAX = FORMAT_LENGTH_MAX + 1024

/** The format or what it stands for is longer than rsync allows: exit 13. */
export class FormatError extends Error {
  readonly code = 'RSYNC_FORMAT'
  readonly exitCode = 13
}

/** %, quotes that group digits, a width, more quotes, the letter. */
const ESCAPE = /%('*)(-\d{0,22}|\d{0,23})('*)(.)/sy

interface Escape {
  length: number
  letter: string
  width: string
  human: number
}

function escapeAt(format: string, at: number): Escape | null {
  ESCAPE.lastIndex = at
  const match = ESCAPE.exec(format)
  if (match === null) return null
  const [whole, before, width, after, letter] = match
  return { length: whole.length, letter, width, human: before.length + after.length }
}

/** The line, without a newline. What is no escape stays as it is. */
export function expandFormat(format: string, item: Item, context: FormatContext): string {
  if (format.length > FORMAT_LENGTH_MAX) throw new FormatError('log-format string is WAY too long!')
  let line = ''
  for (let at = 0; at < format.length; ) {
    const found = format[at] === '%' ? escapeAt(format, at) : null
    const text = found === null ? null : expand(found, item, context)
    if (found === null || text === null) {
      line += format[at++]
      continue
    }
    if (line.length + text.length >= LINE_LENGTH_MAX)
      throw new FormatError(`buffer overflow expanding %${found.letter} -- exiting`)
    line += text
    at += found.length
  }
  return line
}

/** Whether %`letter` is in `format`, with any width. */
export function formatHas(format: string, letter: string): boolean {
  for (let at = 0; at < format.length; ) {
    const found = format[at] === '%' ? escapeAt(format, at) : null
    if (found?.letter === letter) return true
    at += found?.letter === '%' ? found.length : 1
  }
  return false
}

function expand({ letter, width, human }: Escape, item: Item, context: FormatContext): string | null {
  if (Math.abs(Number(width)) > LINE_LENGTH_MAX)
    throw new FormatError(`buffer overflow expanding %${letter} -- exiting`)
  if (letter === 'L') return linkText(item, width)
  if (letter === 'U') return padNumber(context.owner ? item.entry.uid : 0, width)
  if (letter === 'p') return padNumber(context.pid, width)
  if (letter === 'G' && hasGroup(item, context)) return padNumber(item.entry.gid, width)
  const text = EXPANSIONS[letter]?.(item, context, human)
  return text === undefined ? null : pad(text, width)
}

type Expansion = (item: Item, context: FormatContext, human: number) => string | undefined

/** Undefined: not an escape here. */
const EXPANSIONS: Record<string, Expansion> = {
  a: (_, { daemon }) => daemon?.address,
  b: (item, _, human) => bigNumber(transferred(item, item.operation === 'send'), human),
  B: ({ entry }) => modeString(entry.mode).slice(1),
  c: (item, _, human) => bigNumber(transferred(item, item.operation !== 'send'), human),
  C: ({ entry, sum }, { sumDigits }) => (isRegular(entry.mode) ? sum : '').padEnd(sumDigits),
  f: (item) => fullName(item),
  G: () => 'DEFAULT',
  h: (_, { daemon }) => daemon?.host,
  i: ({ entry, iflags }, context) => itemize(iflags, entry.mode, context),
  l: ({ entry }, _, human) => bigNumber(entry.size, human),
  m: (_, { daemon }) => daemon?.module ?? '',
  M: ({ entry }) => timeString(entry.mtime).replaceAll(' ', '-'),
  n: ({ entry }) => nameOf(entry) + (isDirectory(entry.mode) ? '/' : ''),
  o: ({ operation }) => operation,
  P: (_, { daemon }) => daemon?.modulePath,
  t: (_, { now }) => timeString(now),
  u: (_, { daemon }) => daemon?.user,
  '%': () => '%',
}

const hasGroup = (item: Item, { group }: FormatContext) => group && !item.groupSkipped

/** Only a file's content counts: what else crosses belongs to no item. */
const transferred = ({ iflags, written, read }: Item, wrote: boolean) =>
  iflags & ITEM.TRANSFER ? (wrote ? written : read) : 0

const nameOf = ({ path }: FileEntry) => (path === '' ? '.' : path)

/** %f: from the top of the module or of the file system, without the first slash. */
function fullName({ directory, entry }: Item): string {
  const name = nameOf(entry)
  return cleanName(directory === '' ? name : `${directory}/${name}`).replace(/^\//, '')
}

/** util1.c clean_fname() without flags: no empty parts, no `.` but the last, `..` stays. */
function cleanName(path: string): string {
  const parts = path.split('/')
  const kept = parts.filter((part, i) => part !== '' && (part !== '.' || i === parts.length - 1))
  return (path.startsWith('/') ? '/' : '') + kept.join('/')
}

/** %L: a width is that of the target, behind an arrow or the room for one. */
function linkText({ hardLink, entry, operation }: Item, width: string): string {
  if (hardLink !== '') return ` => ${pad(hardLink, width)}`
  if (isSymlink(entry.mode) && operation !== 'del.') return ` -> ${pad(entry.target, width)}`
  return width === '' ? '' : `    ${pad('', width)}`
}

function pad(text: string, width: string): string {
  const columns = Math.abs(Number.parseInt(width, 10)) || 0
  return width.startsWith('-') ? text.padEnd(columns) : text.padStart(columns)
}

/** printf("%05u") fills with zeros; with strings the 0 means nothing. */
function padNumber(value: number, width: string): string {
  return width.startsWith('0') ? String(value).padStart(Number(width), '0') : pad(String(value), width)
}

/** What %-escapes say of something deleted: name and type are all that is known, its time is 1970. */
export function deletedItem(name: RawPath, mode: number): Item {
  const entry = { ...missing(name), mode }
  return { operation: 'del.', entry, iflags: ITEM_DELETED, hardLink: '', directory: '', written: 0, read: 0, sum: '' }
}

/** How a client writes its items to standard output (options.c, end of parse_arguments()). */
export interface OutFormat {
  format: string
  /** How much %i is wanted: 0 it is not in the format, 1 changes, 2 (-ii) what is up to date too. */
  itemize: number
  /** Deletions are written in this format, not as `deleting NAME`. */
  showsOperation: boolean
  /** Items are written before their content travels: nothing in the format is known only afterwards. */
  beforeTransfer: boolean
}

/** Null: items are not written. `settings.outFormat` is what was asked for or what -i and -v stand for. */
export function outFormatOf({ outFormat, itemize }: Pick<Settings, 'outFormat' | 'itemize'>): OutFormat | null {
  if (outFormat === null) return null
  const level = Math.max(itemize, formatHas(outFormat, 'i') ? 1 : 0)
  return {
    format: outFormat,
    itemize: level,
    showsOperation: level > 0 || formatHas(outFormat, 'o'),
    beforeTransfer: !['b', 'c', 'C'].some((letter) => formatHas(outFormat, letter)),
  }
}

/**
 * log.c maybe_log_item(): whether a client writes an item that is not transferred; `itemize` is its OutFormat's, 0
 * without one. Items with ITEM.TRANSFER are always written, when their file is sent or received.
 * Its own log (--log-file) has them too if they are significant or if there is a %i in the log's format.
 */
export function isWritten(item: Item, itemize: number, verbose: number): boolean {
  if (item.hardLink !== '' || isSeen(item, itemize, verbose)) return true
  return isSignificant(item.iflags) && ((item.iflags & ITEM.LOCAL_CHANGE) !== 0 || isDirectory(item.entry.mode))
}

/** The same for a server's log, which has no untransferred items but with %i in its format, and none in a dry run. */
export function isLogged(item: Item, logFormat: string, itemize: number, verbose: number): boolean {
  return (
    formatHas(logFormat, 'i') &&
    (item.hardLink !== '' || isSignificant(item.iflags) || showsUnchanged(itemize, verbose))
  )
}

const isSeen = (item: Item, itemize: number, verbose: number) =>
  itemize > 0 && (isSignificant(item.iflags) || showsUnchanged(itemize, verbose))

const showsUnchanged = (itemize: number, verbose: number) => itemize > 1 || (itemize > 0 && verbose > 1)

/** A line of a log file, with its newline: when, who, what (log.c logit()). `text` is cut as stock does. */
export const logLine = (seconds: number, pid: number, text: string) =>
  `${timeString(seconds)} [${pid}] ${escapeUnprintable(text.replace(/\n$/, '').slice(0, LOG_TEXT_MAX), 'eight-bit')}\n`

const LOG_TEXT_MAX = 2047
