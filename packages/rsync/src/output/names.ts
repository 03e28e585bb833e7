import type { FileEntry } from '../flist/entry.js'
import { MSG } from '../wire/constants.js'
import type { Role } from './exit.js'
import { bigNumber } from './number.js'
import { strerror } from './strerror.js'

/*
 * Who prints what. C is the client, S the server: in a push (and in a local copy, where S is at the other end of a pipe)
 * C is the sender and S generator and receiver; in a pull C is generator and receiver and S the sender.
 * S prints nothing itself: it sends the text in a frame of the code shown, and C prints it. `client` is MSG.CLIENT: shown,
 * but kept out of the log of who says it; it travels as MSG_INFO. A daemon writes every message that it sends to its log
 * too, `client` excepted, and what it has for the log alone (`log`).
 *
 *  line                                        when        push            pull           code
 *  sending incremental file list               -v, -P      C               -              client
 *  building file list ... done                 the same, without incremental recursion: client, then INFO
 *  receiving incremental file list             -v, -P      -               C              client
 *  building / receiving file list              daemon      S               S              LOG
 *  created directory X                         -v, -i      S               C              INFO
 *  delta-transmission ...; deleting in X       -vv         S generator     C              INFO
 *  an item: NAME, %i, --out-format             see format  C sender        C receiver     client, or INFO for its log too
 *     The generator sends ndx and iflags only. The sender of a push prints as it reads them. In a pull the server's
 *     sender sends them on, and the receiver prints as it reads those: the generator of C prints no items.
 *     What is transferred is printed before its content, or after it with %b %c %C in the format. A dry run is the same:
 *     items go round without sum heads, tokens and sums. A daemon logs with its own format, always after the content.
 *     S has --log-format=%i (of -i) or %i%I (of -ii) among its arguments. Without it or -vv its generator does not send
 *     items that are up to date, and its `X is uptodate` is on; with it that is off.
 *  NAME/ and NAME -> TARGET made or touched    -v          S generator     -              LOG, unless the log has %i
 *  X is uptodate (X/ for directories)          -vv, no -i  S generator     C              client
 *  deleting X, *deleting   X                   -v, -i, ..  C               C              client
 *     S sends MSG_DELETED with the name and, for directories, a NUL behind it, whether C will show it or not. C prints it.
 *     In a pull the generator prints. In a dry run the same. What is removed to make way for something else is not told.
 *  a line of --list-only                       always      S generator     C generator    INFO (a push: `rsync SRC`)
 *  skipping directory X                        always      C sender        S sender       INFO
 *  skipping non-regular file "X"               always      S generator     C              INFO
 *  X exists, is newer, over max-size, ...      -vv         S generator     C              INFO
 *  total: matches=...                          -vv         C sender        S sender       INFO
 *  progress                                    -P          C sender        C receiver     client; S never
 *  --stats, sent ... received ...              --stats, -v C               C              INFO; empty lines client
 *     In a pull S sends five varlong(3) behind its last NDX_DONE: bytes read, written, total size, ms to build and to
 *     send the list. C takes read for sent and written for received. In a push C has all that itself.
 *     Deletions: the generator sends NDX_DEL_STATS and five varints (regular, directories, symlinks, devices, specials) before
 *     its goodbye, with --stats and a --delete or --force, since protocol 31. A sending S sends it back: thus the
 *     client's receiver, which prints, learns what its generator deleted. Created files are counted by whoever prints,
 *     from ITEM.IS_NEW, the dry run's too. MSG_STATS is between receiver and generator of one end; it never crosses.
 *  errors on one file                          always      who has it                     ERROR_XFER: C exits with 23
 *  file has vanished: "X"                      always      sender                         WARNING: 24, with MSG_IO_ERROR 2
 *  rsync error: ...                            at the end  C               C              ERROR
 *     S sends its own line only where it ends the session itself; for 23 and 24 it says nothing. Since protocol 31
 *     MSG_ERROR_EXIT tells the other side the code.
 *  sent ... received ... total size ...        daemon      S               S              LOG; a receiver that fails: none
 */

export type Msg = (typeof MSG)[keyof typeof MSG]

/** One line or block, with its newline, and the code that it travels with. */
export interface Message {
  code: Msg
  text: string
}

const message = (code: Msg) => (text: string) => ({ code, text: `${text}\n` })
const client = message(MSG.CLIENT)
const info = message(MSG.INFO)
const log = message(MSG.LOG)
const warning = message(MSG.WARNING)
const fatal = message(MSG.ERROR)
const partial = message(MSG.ERROR_XFER)

// ---- Names in errors

/** Where names are relative to. */
export interface Where {
  role: Role
  /** Absolute. In a daemon from the top of the module, which is `/` in a chroot and '' without. */
  directory: string
  /** Null but in a daemon. */
  module: string | null
}

/** util1.c full_fname(): `"/abs/name"`, or `"name" (in module)`. */
export function fullName(path: string, { directory, module }: Where): string {
  const inFront = path.startsWith('/') ? '' : directory
  const slash = /[^/]/.test(inFront) ? '/' : ''
  return `"${inFront}${slash}${path}"${module === null ? '' : ` (in ${module})`}`
}

/** log.c rsyserr(): what failed, and the kernel's reason. */
export const systemError = (role: Role, what: string, errno: number, code: Msg = MSG.ERROR_XFER): Message => ({
  code,
  text: `rsync: [${role}] ${what}: ${strerror(errno)} (${errno})\n`,
})

/** A call on one file that failed, as `failed(where, 'opendir', path, errno)`: `rsync: [sender] opendir "/abs" failed: ...`. */
export const failed = (where: Where, call: FailedCall, path: string, errno: number): Message =>
  systemError(where.role, FAILED[call](fullName(path, where)), errno)

type FailedCall = keyof typeof FAILED
const FAILED = {
  // sender
  link_stat: (name: string) => `link_stat ${name} failed`,
  readlink_stat: (name: string) => `readlink_stat(${name}) failed`,
  opendir: (name: string) => `opendir ${name} failed`,
  readdir: (name: string) => `readdir(${name})`,
  'open for sending': (name: string) => `send_files failed to open ${name}`,
  'read for sending': (name: string) => `read errors mapping ${name}`,
  'remove the source': (name: string) => `sender failed to remove ${name}`,
  // generator
  'generator stat': (name: string) => `recv_generator: failed to stat ${name}`,
  'generator mkdir': (name: string) => `recv_generator: mkdir ${name} failed`,
  'generator open': (name: string) => `failed to open ${name}, continuing`,
  mknod: (name: string) => `mknod ${name} failed`,
  // receiver
  mkstemp: (name: string) => `mkstemp ${name} failed`,
  open: (name: string) => `open ${name} failed`,
  fstat: (name: string) => `fstat ${name} failed`,
  write: (name: string) => `write failed on ${name}`,
  close: (name: string) => `close failed on ${name}`,
  ftruncate: (name: string) => `ftruncate failed on ${name}`,
  fsync: (name: string) => `fsync failed on ${name}`,
  // generator and receiver
  chown: (name: string) => `chown ${name} failed`,
  chgrp: (name: string) => `chgrp ${name} failed`,
  'set times': (name: string) => `failed to set times on ${name}`,
  'set permissions': (name: string) => `failed to set permissions on ${name}`,
  'modify permissions': (name: string) => `failed to modify permissions on ${name}`,
  // any
  'change directory (source)': (name: string) => `change_dir ${name} failed`,
}

/** These name two things, and only the first in full. */
export const symlinkFailed = (where: Where, path: string, target: string, errno: number) =>
  systemError(where.role, `symlink ${fullName(path, where)} -> "${target}" failed`, errno)
export const hardLinkFailed = (where: Where, path: string, to: string, errno: number) =>
  systemError(where.role, `link ${fullName(path, where)} => ${to} failed`, errno)
export const renameFailed = (where: Where, from: string, to: string, errno: number) =>
  systemError(where.role, `rename ${fullName(from, where)} -> "${to}"`, errno)

export const deleteFailed = (role: Role, call: 'unlink' | 'rmdir', path: string, errno: number) =>
  systemError(role, `delete_file: ${call}(${path}) failed`, errno)

// ---- Building and receiving the list

export const sendingIncremental = () => client('sending incremental file list')
export const receivingIncremental = () => client('receiving incremental file list')

/** Without incremental recursion the line stays open until the list is there; -vv and --progress end it at once. */
export const listBegins = (kind: 'building' | 'receiving', ownLine: boolean): Message => ({
  code: MSG.CLIENT,
  text: `${kind} file list ... ${ownLine ? '\n' : ''}`,
})
/** With --progress: after every hundredth entry, and once at the end. */
export const listGrows = (entries: number): Message => ({ code: MSG.CLIENT, text: ` ${entries} files...\r` })
export const listEnds = (entries: number, progress: boolean) =>
  info(progress ? `${entries} file${entries === 1 ? ' ' : 's '}to consider` : 'done')

export const logListBegins = (kind: 'building' | 'receiving') => log(`${kind} file list`)

export const skippingDirectory = (path: string) => info(`skipping directory ${path}`)
export const skippingMountPoint = (role: Role, path: string) => info(`[${role}] skipping mount-point dir ${path}`)
export const skippingLongName = (path: string) => info(`skipping overly long name: ${path}`)
export const copyingUnsafeSymlink = (path: string, target: string) =>
  info(`copying unsafe symlink "${path}" -> "${target}"`)
/** exclude.c: -vv. */
export const hiding = (
  role: Role,
  verb: Hiding,
  entry: FileEntry['path'],
  kind: 'file' | 'directory',
  pattern: string,
) => info(`[${role}] ${verb} ${kind} ${entry} because of pattern ${pattern}`)
export type Hiding = 'hiding' | 'showing' | 'protecting' | 'risking'

export const vanished = (path: string, where: Where) => warning(`file has vanished: ${fullName(path, where)}`)
export const noReferent = (path: string, where: Where) => partial(`symlink has no referent: ${fullName(path, where)}`)
export const diminished = (path: string, where: Where) => warning(`skipped diminished file: ${fullName(path, where)}`)
export const senderRemoved = (path: string) => info(`sender removed ${path}`)
export const senderKeptChanged = (path: string) => partial(`ERROR: Skipping sender remove for changed file: ${path}`)
export const matchTotals = (matches: number, hashHits: number, falseAlarms: number, literal: number) =>
  info(`total: matches=${matches}  hash_hits=${hashHits}  false_alarms=${falseAlarms} data=${literal}`)

// ---- The destination

export const createdDirectory = (path: string) => info(`created directory ${path}`)
/** --mkpath */
export const createdDirectories = (count: number, path: string) =>
  info(`created ${count} director${count === 1 ? 'y' : 'ies'} for ${path}`)

/** Each ends the session: exit FILESELECT, but SYNTAX for the path that is no directory. */
export const destinationMustBeDirectory = () =>
  fatal('ERROR: destination must be a directory when copying more than 1 file')
export const directoryOverFile = () => fatal('ERROR: cannot overwrite non-directory with a directory')
export const destinationIsNoDirectory = () => fatal('ERROR: destination path is not a directory')
export const destinationExcluded = (path: string) => fatal(`ERROR: daemon has excluded destination "${path}"`)
export const destinationNotStatted = (path: string, where: Where, errno: number) =>
  systemError(where.role, `ERROR: cannot stat destination ${fullName(path, where)}`, errno, MSG.ERROR)
/** Exit FILEIO. */
export const destinationNotMade = (path: string, where: Where, errno: number) =>
  systemError(where.role, `mkdir ${fullName(path, where)} failed`, errno, MSG.ERROR)
/** Exit FILESELECT. `step`: 1 destination exists, 2 was made, 3 holds the file, 4 server's first argument. */
export const changeDirectoryFailed = (step: 1 | 2 | 3 | 4, path: string, where: Where, errno: number) =>
  systemError(where.role, `change_dir#${step} ${fullName(path, where)} failed`, errno, MSG.ERROR)

/** Paths as they were resolved, from the destination on. */
export const alternateMissing = (option: string, path: string) => warning(`${option} arg does not exist: ${path}`)
export const alternateIsNoDirectory = (option: string, path: string) => warning(`${option} arg is not a dir: ${path}`)

// ---- The generator

/** -vv. A local copy without --no-whole-file is not enabled either. */
export const deltaTransmission = (wholeFile: boolean) =>
  info(`delta-transmission ${wholeFile ? 'disabled for local transfer or --whole-file' : 'enabled'}`)

export const upToDate = (path: string, directory: boolean) => client(`${path}${directory ? '/' : ''} is uptodate`)
export const skippingNonRegular = (path: string) => info(`skipping non-regular file "${path}"`)
export const ignoringUnsafeSymlink = (path: string, target: string) =>
  info(`ignoring unsafe symlink "${path}" -> "${target}"`)
export const exists = (path: string) => info(`${path} exists`)
export const isNewer = (path: string) => info(`${path} is newer`)
export const overMaxSize = (path: string) => info(`${path} is over max-size`)
export const underMinSize = (path: string) => info(`${path} is under min-size`)
export const notCreating = (path: string, directory: boolean) =>
  info(`not creating new ${directory ? 'directory' : 'file'} "${path}"`)
export const daemonRefused = (path: string, kind: 'file' | 'directory') =>
  partial(`ERROR: daemon refused to receive ${kind} "${path}"`)
export const parentAbsent = (path: string) => partial(`WARNING: parent dir is absent in the file list: ${path}`)
export const skippingContents = () => partial('*** Skipping any contents from this failed directory ***')
/** What the generator made or touched itself, for a daemon's log: `d/`, `l -> target`, `fifo`. */
export const made = (line: string) => log(line)
export const backedUp = (path: string, to: string) => info(`backed up ${path} to ${to}`)

// ---- Deleting

/** A deletion where no format with %i or %o is in use; directories with their slash. */
export const deleting = (path: string, directory: boolean) => client(`deleting ${path}${directory ? '/' : ''}`)
/** Of the directories that were named only. */
export const deletingIn = (path: string) => info(`deleting in ${path}`)
export const notEmpty = (path: string) => info(`cannot delete non-empty directory: ${path}`)
export const cannotDeleteMountPoint = (path: string) => info(`cannot delete mount point: ${path}`)
export const mountPointPins = (path: string) => info(`mount point, ${path}, pins parent directory`)
export const noWay = (path: string, kind: Kind, reason: 'new' | 'backup' = 'new') =>
  partial(`could not make way for ${reason} ${kind}: ${path}`)
export type Kind = 'regular file' | 'directory' | 'symlink' | 'device file' | 'special file'
export const deletionSkipped = () => info('IO error encountered -- skipping file deletion')
/** The run ends with DEL_LIMIT. */
export const deletionsStopped = (skipped: number) =>
  warning(`Deletions stopped due to --max-delete limit (${skipped} skipped)`)

// ---- The receiver

/** A file whose sum is wrong: the first time it is tried again, which -v and -i mention; the second time it is an error. */
export const failedVerification = (path: string, kept: Kept, again: boolean) =>
  (again ? warning : partial)(
    `${again ? 'WARNING' : 'ERROR'}: ${path} failed verification -- update ${kept}${again ? ' (will try again)' : ''}.`,
  )
export type Kept = 'discarded' | 'retained' | 'put into partial-dir'

// ---- Connections

/** -vv; a word that a shell might take for more than it is stands in quotes. */
export const startingShell = (words: readonly string[]) => {
  const shown = words.map((word) => (/^[\w,.\-=+@/]*$/.test(word) ? `${word} ` : `"${word}" `)).join('')
  return client(`opening connection using: ${shown} (${words.length} args)`)
}

export const openingConnection = (host: string, port: number) =>
  client(`opening tcp connection to ${host} port ${port}`)
/** `role`: sender for a push, Receiver for a pull. Exit SOCKETIO. */
export const connectFailed = (role: Role, host: string, address: string, errno: number) =>
  systemError(role, `failed to connect to ${host} (${address})`, errno, MSG.ERROR)
/** Exit STREAMIO. */
export const connectionClosed = (received: number, role: Role) =>
  fatal(`rsync: connection unexpectedly closed (${bigNumber(received, 0)} bytes received so far) [${role}]`)
/** Exit STREAMIO too, where the end shows when we write. */
export const writeFailed = (role: Role, bytes: number, errno: number) =>
  systemError(role, `safe_write failed to write ${bytes} bytes to socket`, errno, MSG.ERROR)
/** Exit TIMEOUT. */
export const ioTimeout = (role: Role, seconds: number) =>
  fatal(`[${role}] io timeout after ${seconds} seconds -- exiting`)
/** Exit SYNTAX. */
export const moduleIsReadOnly = () => fatal('ERROR: module is read only')
export const moduleIsWriteOnly = () => fatal('ERROR: module is write only')
/** Exit STARTCLIENT. */
export const pathWithoutModule = () => fatal('ERROR: The remote path must start with a module name not a /')
