import { closeSync, openSync, readSync } from 'node:fs'
import type { Channel } from './channel.js'
import { acquireSums, type Checksum, listSum } from './digest.js'
import { Destination } from './disk/destination.js'
import type { Root } from './disk/root.js'
import { ConnectError, TransferError } from './errors.js'
import { decodeRule, FilterList, FilterScopes, listTravels, type Reading, receiveRules } from './filter.js'
import { agreeAsServer } from './handshake.js'
import { SystemError } from './kernel.js'
import { listLine } from './output/list.js'
import { destinationExcluded } from './output/names.js'
import { join, type RawPath, toBytes } from './raw-path.js'
import { put, takesPuts } from './receive/put.js'
import { baseTold, flistFormat, receive } from './receive/receive.js'
import { answerRename, ROUND, receivePut, receiveRound, VERDICT } from './rounds.js'
import { argumentsOf, type Places } from './send/arguments.js'
import { incompressible } from './send/incompressible.js'
import { send } from './send/send.js'
import { allowsIncRecurse } from './server-options.js'
import type { ChmodRule, Invocation, Settings } from './settings.js'
import { type Log, reasonOf, Transfer } from './transfer.js'
import { CF, MSG, RERR } from './wire/constants.js'

/** What a module of a daemon adds to what its client asks for. */
export interface ServedModule {
  name: string
  readOnly: boolean
  writeOnly: boolean
  incomingChmod: readonly ChmodRule[]
  outgoingChmod: readonly ChmodRule[]
  mungeSymlinks: boolean
  numericIds: boolean
  /** What its names begin with where they are told: '/' in a chroot, else ''. */
  top: string
  /** Without a chroot: what leads out of the module is made to lead below it. */
  sanitizes: boolean
  forbidden: (path: RawPath, directory: boolean) => boolean
  /** Whether `forbidden` can be true at all. */
  hidesNames: boolean
  /** `dont compress` */
  dontCompress: string
}

export interface ServeOptions {
  root: Root
  /** Where the server stands: what relative paths are below. */
  base: RawPath
  places: Places
  module: ServedModule | null
  log: Log
  /** The effective user is root. */
  asRoot: boolean
  umask: number
  /** Rules of per-directory files and the like are read through this. */
  reading: Reading
  /** Opens a file that --files-from names; '-' never comes here. Throws SystemError. */
  openNames: (file: RawPath) => number
  /** Messages can be sent now. */
  onMultiplexed?: () => void
  /** A session that lasts begins, or ends, to wait for what its client wants next. */
  onIdle?: (idle: boolean) => void
}

/** main.c start_server(): from the compatibility flags to the goodbye. Returns rsync's exit code; throws what ends it. */
export async function serve(
  channel: Channel,
  invocation: Invocation,
  protocol: number,
  options: ServeOptions,
): Promise<{ transfer: Transfer; code: number }> {
  const { settings, sender, capabilities } = invocation
  const { module, log } = options
  const agreement = await agreeAsServer(
    channel,
    {
      capabilities,
      seed: settings.checksumSeed,
      compress: settings.compress,
      compressChoice: settings.compressChoice ?? undefined,
      checksumChoice: settings.checksumChoice?.[0],
      // With -R ours lists all at once.
      lasting: !sender && protocol >= 31 && !settings.dryRun,
      namesFollow: sender && settings.filesFrom === '-',
      incRecurse: allowsIncRecurse(settings, !sender) && !(sender && settings.relative),
    },
    protocol,
  )
  options.onMultiplexed?.()
  const seedFirst = (agreement.compatFlags & CF.CHKSUM_SEED_FIX) !== 0
  const sums = await acquireSums(agreement.checksum, agreement.seed, seedFirst)
  // Made only where it is asked for: each is a WebAssembly memory of its own.
  const listName = (settings.checksumChoice?.[1] ?? agreement.checksum) as Checksum
  const own = settings.checksum ? { ...sums, list: await listSum(listName, agreement.seed, seedFirst) } : sums
  const transfer = new Transfer(settings, agreement, channel, own, log, {
    role: sender ? 'sender' : 'Receiver',
    server: true,
    base: module === null ? process.cwd() : module.top,
    top: module?.top ?? '',
    module: module?.name ?? '',
    root: options.asRoot && settings.superUser !== false,
    umask: options.umask,
  })
  log.attach?.(transfer)
  if (module?.readOnly && !sender) throw new TransferError('ERROR: module is read only', RERR.SYNTAX)
  if (module?.writeOnly && sender) throw new TransferError('ERROR: module is write only', RERR.SYNTAX)
  if (module?.readOnly && sender && settings.removeSourceFiles)
    throw new TransferError('ERROR: --remove-source-files cannot be used with a read-only module', RERR.SYNTAX)
  if (!sender) log.local?.('receiving file list')
  if (sender) await serveSending(transfer, invocation, options)
  else if (transfer.lasts) await serveRounds(transfer, invocation, options)
  else await serveReceiving(transfer, invocation, options)
  return { transfer, code: transfer.exitCode() }
}

/** A session that lasts: list after list, and what else there is (rounds.ts). */
async function serveRounds(session: Transfer, invocation: Invocation, options: ServeOptions): Promise<void> {
  const { settings, agreement, channel, sums, log, here } = session
  const puts = takesPuts(settings) && options.module?.hidesNames !== true
  for (;;) {
    options.onIdle?.(true)
    const round = await receiveRound(channel)
    options.onIdle?.(false)
    if (round.kind === 'end') return
    if (round.kind === 'put') {
      channel.out.u8(await servePut(session, puts, invocation, options))
      await channel.flush()
      continue
    }
    if (round.kind === 'rename') {
      await answerRename(channel, rename(session, invocation, options, round))
      continue
    }
    const transfer = new Transfer(settings, agreement, channel, sums, log, { ...here })
    log.attach?.(transfer)
    await serveReceiving(transfer, invocation, options)
    channel.out.u8(ROUND.DONE)
    await channel.flush()
    session.failed ||= transfer.failed
    session.ioError |= transfer.ioError
    session.stats.totalSize += transfer.stats.totalSize
  }
}

/** One file for a client that is in a hurry. */
async function servePut(
  session: Transfer,
  takes: boolean,
  invocation: Invocation,
  { root, base, module }: ServeOptions,
): Promise<number> {
  const { settings, agreement, channel, sums, log, here } = session
  const transfer = new Transfer(settings, agreement, channel, sums, log, { ...here, role: 'receiver' })
  const what = await receivePut(channel, flistFormat(transfer, [], undefined), sums)
  if (!takes) return VERDICT.LISTS
  if (what === null) return VERDICT.LIST
  log.attach?.(transfer)
  const top = root.resolve(base, (invocation.operands[0] ?? '.') as RawPath)
  transfer.here.base = baseTold(transfer.here, top)
  let tree: Destination
  try {
    tree = new Destination(root.open(top))
  } catch {
    return VERDICT.LIST // which says why
  }
  try {
    return put(transfer, tree, what, { incomingChmod: module?.incomingChmod ?? [] }) ? VERDICT.PUT : VERDICT.LIST
  } finally {
    tree.close()
    session.stats.totalSize += what.content.length
  }
}

/** Renames for a client that has done so. Returns why not, or ''. */
function rename(
  { settings, log }: Transfer,
  invocation: Invocation,
  { root, base, module }: ServeOptions,
  { from, to }: { from: RawPath; to: RawPath },
): string {
  // What it is called now is deleted, and what keeps an eye on names in a directory does not see the way there.
  if (!settings.deleteMissingArgs || settings.backup || module?.hidesNames) return 'not here'
  try {
    const top = root.resolve(base, (invocation.operands[0] ?? '.') as RawPath)
    const tree = new Destination(root.open(top))
    try {
      tree.renameToFree(from, to)
    } finally {
      tree.close()
    }
    log.local?.(`renamed ${join(top, from)} to ${join(top, to)}`)
    return ''
  } catch (error) {
    if (!(error instanceof SystemError || error instanceof ConnectError)) throw error
    return error.message
  }
}

/** What the client's messages mean here. */
function hear(transfer: Transfer): void {
  const { channel } = transfer
  channel.onMessage = (tag, payload) => {
    if (tag === MSG.IO_ERROR && payload.length === 4) {
      transfer.ioError |= payload.readInt32LE() & 7
      return true
    }
    return false
  }
}

async function receiveFilter(transfer: Transfer, reading: Reading, sender: boolean): Promise<FilterList> {
  const { settings, channel } = transfer
  const { deleteExcluded, pruneEmptyDirs } = settings
  const travels = listTravels({ sender: !sender, delete: settings.deleteWhen !== null, deleteExcluded, pruneEmptyDirs })
  if (!travels) return new FilterList()
  const texts = await receiveRules(() =>
    channel.receive('filter list', (c) => ({ rule: decodeRule(c) })).then(({ rule }) => rule),
  )
  const list = FilterList.fromWire(texts, reading)
  return sender && settings.cvsExclude ? list.cvs(reading) : list
}

async function serveSending(transfer: Transfer, invocation: Invocation, options: ServeOptions): Promise<void> {
  hear(transfer)
  const { module, reading, places } = options
  const filter = await receiveFilter(transfer, reading, true)
  const scopes = (base: RawPath, entersTop: boolean) => new FilterScopes(filter.at(base, reading), entersTop)
  const { settings } = transfer
  const names =
    settings.filesFrom === null
      ? operandsOf(invocation)
      : settings.filesFrom === '-'
        ? namesFromWire(transfer.channel, transfer.agreement.protocol)
        : namesFromFile(settings.filesFrom as RawPath, settings.from0, false, options.openNames)
  const base =
    settings.filesFrom === null
      ? options.base
      : places.enter(options.base, operandsOf(invocation)[0] ?? ('.' as RawPath))
  options.log.local?.('building file list')
  const args = argumentsOf(transfer, names, base, places, scopes, settings.filesFrom !== null)
  await send(transfer, args, {
    chmod: module?.outgoingChmod ?? [],
    numericIds: module?.numericIds ?? false,
    forbidden: module?.forbidden ?? (() => false),
    mungeSymlinks: module?.mungeSymlinks ?? settings.mungeLinks,
    tellsStats: true,
    incompressible: incompressible(settings.skipCompress, module?.dontCompress),
    onDeleteStats: () => undefined,
  })
}

const operandsOf = ({ operands }: Invocation): RawPath[] => (operands.length === 0 ? ['.' as RawPath] : operands)

async function serveReceiving(transfer: Transfer, invocation: Invocation, options: ServeOptions): Promise<void> {
  hear(transfer)
  const { module, reading, root } = options
  const { settings } = transfer
  const filter = await receiveFilter(transfer, reading, false)
  if (settings.filesFrom !== null && settings.filesFrom !== '-')
    await forwardNames(transfer, settings.filesFrom as RawPath, options.openNames)
  const destination = (invocation.operands[0] ?? '.') as RawPath
  const top = root.resolve(options.base, destination)
  if (module !== null) refuseHidden(module, root, top, destination, settings)
  // A single file may be given another name, which is the destination's own.
  const inside = (path: RawPath) => join(top, path)
  const scopes = new FilterScopes(
    filter.at(options.places.absolute(root.resolve(options.base, destination)), reading),
    true,
  )
  await receive(transfer, {
    root: { ...rooted(root, options.base) },
    destination: settings.listOnly ? null : destination,
    ...(settings.listOnly
      ? {
          onListed: (entry) => {
            const { humanReadable: human, links } = settings
            transfer.log.info(listLine(entry, { human, links }).slice(0, -1))
          },
        }
      : {}),
    protection: {
      // What a module keeps to itself is not deleted either.
      protects: (path, directory, doomed) =>
        (module?.forbidden(inside(path), directory) ?? false) || scopes.protects(path, directory, doomed),
    },
    forbidden:
      module?.hidesNames === true ? (path, directory) => module.forbidden(inside(path), directory) : () => false,
    expected: () => 'asked',
    incomingChmod: module?.incomingChmod ?? [],
    mungeSymlinks: module?.mungeSymlinks ?? settings.mungeLinks,
    sanitizes: module?.sanitizes ?? false,
    numericIds: module?.numericIds ?? false,
    receiveStats: undefined,
    tellsDeletions: settings.stats,
  })
}

/** clientserver.c: what a module keeps to itself serves no option either. */
function refuseHidden(module: ServedModule, root: Root, top: RawPath, given: RawPath, settings: Settings): void {
  if (module.forbidden(top, true)) throw new TransferError(destinationExcluded(given).text, RERR.FILESELECT)
  const { backupDir, partialDir, tempDir, alternates } = settings
  const options = [backupDir, tempDir].map((dir) => dir && root.option(dir as RawPath))
  const dirs = [...options, partialDir, ...(alternates?.dirs ?? [])].filter((dir) => dir !== null)
  if (dirs.some((dir) => module.forbidden(root.resolve(top, dir as RawPath), true)))
    throw new TransferError('Your options have been rejected by the server.', RERR.SYNTAX)
}

/** A root seen from a directory in it. */
function rooted(root: Root, base: RawPath): Root {
  return {
    resolve: (from, path) => root.resolve(from === '' ? base : from, path),
    option: (path) => root.option(path),
    stat: (path) => root.stat(path),
    open: (path) => root.open(path),
    makeDirectory: (path, mode) => root.makeDirectory(path, mode),
  }
}

const NAME_MAX = 4096
const NAMES_MAX = 1 << 24

/** --files-from of a client whose server sends: names, each ended by a NUL, and an empty one behind the last. */
export function namesFromWire(channel: Channel, protocol: number): AsyncGenerator<RawPath> {
  return protocol < 31 ? channel.readPlainly(receivedNames(channel)) : receivedNames(channel)
}

async function* receivedNames(channel: Channel): AsyncGenerator<RawPath> {
  for (let count = 0; count < NAMES_MAX; count++) {
    let name = ''
    for (;;) {
      const byte = await channel.receive('name of a file to send', (c) => ({ byte: c.u8() }))
      if (byte.byte === 0) break
      name += String.fromCharCode(byte.byte)
      if (name.length > NAME_MAX) throw new TransferError('a name of --files-from is too long', RERR.PROTOCOL)
    }
    if (name === '') return
    yield name as RawPath
  }
}

/**
 * --files-from=FILE: a name a line, or with --from0 between NULs. Lines that begin with # or ; are comments, except where
 * the names travel to the other end: `comments` then.
 */
export function* namesFromFile(
  file: RawPath,
  from0: boolean,
  comments = false,
  open: (file: RawPath) => number = openOnMachine,
): Generator<RawPath> {
  const isName = (line: string) => line !== '' && (comments || !/^[#;]/.test(line))
  const fd = file === '-' ? 0 : openNames(file, open)
  const buffer = Buffer.allocUnsafe(1 << 16)
  let rest = ''
  try {
    for (;;) {
      const length = readSync(fd, buffer, 0, buffer.length, null)
      if (length === 0) break
      if (rest.length > NAME_MAX) throw new TransferError('a name of --files-from is too long', RERR.FILEIO)
      const names = (rest + buffer.toString('latin1', 0, length)).split(from0 ? '\0' : /[\r\n\0]/)
      rest = names.pop() ?? ''
      for (const name of names) if (isName(name)) yield name as RawPath
    }
    if (isName(rest)) yield rest as RawPath
  } finally {
    if (fd !== 0) closeSync(fd)
  }
}

const openOnMachine = (file: RawPath) => openSync(toBytes(file), 'r')

function openNames(file: RawPath, open: (file: RawPath) => number): number {
  try {
    return open(file)
  } catch (error) {
    throw new TransferError(`failed to open files-from file ${file}: ${reasonOf(error)}`, RERR.FILEIO)
  }
}

/** io.c forward_filesfrom_data(): a file of the receiver's side names what the sender shall send. */
async function forwardNames(transfer: Transfer, file: RawPath, open: (file: RawPath) => number): Promise<void> {
  const { settings } = transfer
  await sendNames(transfer, namesFromFile(file, settings.from0, true, open))
}

/** What `namesFromWire` reads. */
export async function sendNames({ channel, agreement }: Transfer, names: Iterable<RawPath>): Promise<void> {
  const send = async () => {
    for (const name of names) {
      channel.out.latin1(`${name}\0`)
      const wait = channel.relieve()
      if (wait !== undefined) await wait
    }
    channel.out.u8(0)
  }
  await (agreement.protocol < 31 ? channel.plainly(send) : send())
  await channel.flush()
}
