// The process of a daemon that serves one module, as the user that the module names: nothing that a client asks for is
// done with more rights than his.
import { constants } from 'node:fs'
import { Socket } from 'node:net'
import { Channel } from '../channel.js'
import { parseChmod } from '../chmod.js'
import { loadSearch } from '../delta/search.js'
import { ModuleRoot } from '../disk/root.js'
import { ConnectError, ProtocolError, RemoteError, TimeoutError, TransferError } from '../errors.js'
import { type DaemonFilter, daemonFilter, type Reading, readRuleFile } from '../filter.js'
import { isRegular } from '../flist/entry.js'
import { SourceTree } from '../flist/source.js'
import { agreeAsServer } from '../handshake.js'
import {
  changeRoot,
  close,
  openBeneath,
  openDirectory,
  readDirectory,
  SystemError,
  statAt,
  statPath,
} from '../kernel.js'
import { loadLibraries } from '../libraries.js'
import { parseInvocation, UsageError } from '../options.js'
import { logSummary } from '../output/stats.js'
import { Pace } from '../pace.js'
import { join, type RawPath } from '../raw-path.js'
import { expandPath, requestedPaths, unescapeArgument } from '../remote-args.js'
import type { Places } from '../send/arguments.js'
import { type ServedModule, serve } from '../server.js'
import { described, INTERNAL } from '../server-log.js'
import type { Invocation } from '../settings.js'
import { MSG, RERR } from '../wire/constants.js'
import { LOG, REPLY } from './log.js'
import type { FromWorker, Job, ToWorker, WorkerConfig } from './messages.js'
import { DaemonSessionLog } from './session-log.js'

const ARGUMENT_MAX = 1 << 16
const ARGUMENTS_MAX = 4096
const ARGUMENTS_BYTES_MAX = 1 << 21 // of all together, as Linux has it for a command line
/** What the wildcards of a session may cost in all. */
const LISTINGS_MAX = 1000
const NAMES_MAX = 20_000
/** Until the first argument has come; afterwards the module's own time-out counts. */
const START_MS = 60_000

let config: WorkerConfig
let root: ModuleRoot
let filter: DaemonFilter
let stopping = false
/** Those whose client has nothing for them at the moment. */
const idle = new Set<Channel>()

const tell = (message: FromWorker) => process.send?.(message)

process.on('message', (message: ToWorker, handle: unknown) => {
  if (message.kind === 'start') return start(message.config)
  if (message.kind === 'job') return void work(message.job, handle)
  stopping = true
  for (const channel of idle) channel.abort(new ConnectError('the daemon ends'))
})
process.on('disconnect', () => process.exit(0)) // the monitor has nothing more for us, or is no more
// A fault in one session is no reason to end the others; it is told, and nobody new is served with what it may have left.
for (const event of ['uncaughtException', 'unhandledRejection'] as const)
  process.on(event, (error: Error) => {
    tell({ kind: 'log', id: 0, line: `internal error: ${error?.stack ?? error}` })
    tell({ kind: 'faulty' })
  })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined) // the monitor says

/** clientserver.c rsync_module(): into the module's directory, and then down to the module's user. */
function start(given: WorkerConfig): void {
  config = given
  // After a chroot nothing can be loaded.
  loadSearch()
  loadLibraries()
  try {
    filter = daemonFilter(config.module, { ...reading(readRuleFile), from0: false }, reading(readInside))
    if (config.chroot) {
      try {
        changeRoot(config.root)
      } catch (error) {
        return refuse(REPLY.chrootFailed, LOG.failed(`chroot("${config.root}") failed`, error as Error))
      }
    }
    const directory = config.chroot ? config.inside : config.root
    try {
      root = new ModuleRoot(openDirectory(directory), !config.chroot)
    } catch (error) {
      return refuse(REPLY.chdirFailed, LOG.failed(`chdir ${directory} failed`, error as Error))
    }
    becomeUser()
  } catch (error) {
    return refuse('@ERROR: failed to start', LOG.failed('the module cannot be served', error as Error))
  }
  tell({ kind: 'started' })
}

function becomeUser(): void {
  const { uid, gids } = config
  if (gids !== null) {
    process.setgroups?.(gids)
    process.setgid?.(gids[0])
  }
  if (uid !== null) process.setuid?.(uid)
}

/** Whether the module's directory is the one at its path. In a chroot it is the monitor that finds that out. */
function isStillThere(): boolean {
  const here = statAt(root.fd, '')
  if (here.nlink === 0) return false
  if (config.chroot) return true
  try {
    const there = statPath(config.root)
    return there.dev === here.dev && there.inoHigh === here.inoHigh && there.inoLow === here.inoLow
  } catch {
    return true // it may be that we have no right to look
  }
}

function refuse(reply: string, log: string): void {
  tell({ kind: 'refused', reply, log })
}

function reading(read: (file: RawPath) => Buffer | null): Reading {
  return { read, from0: false, deleteExcluded: false, environment: {}, warn: () => undefined }
}

/** --files-from=:FILE: a file of the module that the client could read as well. */
function openNames(file: RawPath): number {
  const path = root.resolve('' as RawPath, file)
  if (filter.hides(path, false)) throw new SystemError('open', 2, 'ENOENT')
  const fd = openBeneath(root.fd, path, constants.O_RDONLY | constants.O_NONBLOCK, true)
  if (isRegular(statAt(fd, '').mode)) return fd
  close(fd)
  throw new SystemError('open', 22, 'EINVAL')
}

const RULES_MAX = 1 << 20

/** A per-directory rule file, below the module. */
function readInside(file: RawPath): Buffer | null {
  const tree = new SourceTree('' as RawPath, 'beneath', () => openBeneath(root.fd, '', 0o200000))
  return tree.readSmall(file.replace(/^\/+/, '') as RawPath, RULES_MAX)
}

/** What a client's rules may be read from: what the module hides tells nothing, not even by what it excludes. */
function readVisible(file: RawPath): Buffer | null {
  return filter.hides(root.resolve('' as RawPath, file), false) ? null : readInside(file)
}

const places: Places = {
  enter: (base, path) => root.resolve(base, path),
  tree: (directory, follows, named) =>
    new SourceTree(
      directory,
      follows ? (config.chroot ? 'anywhere' : 'beneath') : 'never',
      () => root.open(directory),
      { root: root.fd, path: directory },
      named,
    ),
  absolute: (directory) => `/${directory}` as RawPath,
}

async function work(job: Job, handle: unknown): Promise<void> {
  const socket = new Socket({ handle, readable: true, writable: true } as never)
  const channel = new Channel(socket, START_MS, undefined)
  const log = new DaemonSessionLog(channel, config.module, job, (line) => tell({ kind: 'log', id: job.id, line }))
  try {
    if (job.early !== '') channel.feed(Buffer.from(job.early, 'latin1'))
    channel.out.latin1('@RSYNCD: OK\n')
    await channel.flush()
    await session(channel, job, log)
  } catch (error) {
    const { message } = described(error)
    if (message.startsWith(INTERNAL)) log.local((error as Error).stack ?? message)
    if (error instanceof RemoteError) log.ended(error.exitCode)
    await log.explain(error, log.sender ? 'sender' : 'Receiver').catch(() => undefined)
  } finally {
    idle.delete(channel)
    channel.destroy()
    tell({ kind: 'ended', id: job.id })
  }
}

async function session(channel: Channel, job: Job, log: DaemonSessionLog): Promise<void> {
  const { module } = config
  const late = setTimeout(() => channel.abort(new TimeoutError('the arguments did not come')), START_MS)
  const invocation = await readInvocation(channel, job.protocol, module.refuseOptions, log).finally(() =>
    clearTimeout(late),
  )
  const { settings } = invocation
  settings.verbose = Math.min(settings.verbose, module.maxVerbosity)
  settings.ignoreErrors ||= module.ignoreErrors
  settings.fakeSuper ||= module.fakeSuper
  settings.tempDir ??= module.tempDir === '' ? null : module.tempDir
  if (module.timeout > 0)
    settings.timeoutMs = Math.min(settings.timeoutMs || Number.POSITIVE_INFINITY, module.timeout * 1000)
  channel.timeoutMs = settings.timeoutMs
  if (settings.bwlimit > 0) {
    const pace = new Pace(settings.bwlimit)
    channel.pace = (bytes) => pace.spend(bytes)
  }
  const hides = (path: RawPath, directory: boolean) => path !== '' && filter.hides(path, directory)
  const served: ServedModule = {
    name: module.name,
    readOnly: job.readOnly,
    writeOnly: module.writeOnly,
    incomingChmod: parseChmod(module.incomingChmod) ?? [],
    outgoingChmod: parseChmod(module.outgoingChmod) ?? [],
    mungeSymlinks: config.mungeSymlinks,
    top: config.chroot && config.inside === '/' ? '/' : '',
    sanitizes: !config.chroot,
    numericIds: config.numericIds,
    forbidden: hides,
    hidesNames: !filter.isEmpty,
    dontCompress: module.dontCompress,
  }
  const { transfer, code } = await serve(channel, invocation, job.protocol, {
    root,
    base: '' as RawPath,
    places,
    module: served,
    log,
    asRoot: process.geteuid?.() === 0,
    umask: process.umask(),
    reading: reading(readVisible),
    openNames,
    onIdle: (isIdle) => {
      if (!isIdle) {
        idle.delete(channel)
        if (!isStillThere()) throw new ConnectError('the module has another directory')
      } else if (stopping || !isStillThere()) channel.abort(new ConnectError('the daemon ends'))
      else idle.add(channel)
    },
    onMultiplexed: () => {
      if (settings.timeoutMs === 0 || job.protocol < 31) return
      const payload = Buffer.alloc(4)
      payload.writeInt32LE(Math.round(settings.timeoutMs / 1000))
      channel.sendMessage(MSG.IO_TIMEOUT, payload)
    },
  })
  await log.finish()
  if (code !== 0 && !invocation.sender) return // log.c log_exit(): a receiver that fails says no more
  log.local(
    logSummary({
      sent: channel.bytesWritten,
      received: channel.bytesRead,
      totalSize: transfer.stats.totalSize,
    }).trimEnd(),
  )
}

/** clientserver.c read_args(): the arguments of the server, each ended by a NUL, an empty one behind the last. */
async function readInvocation(
  channel: Channel,
  protocol: number,
  refuseOptions: string,
  log: DaemonSessionLog,
): Promise<Invocation> {
  const args = await readArguments(channel)
  try {
    return await understood(channel, args, refuseOptions, log)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    log.requested(args.includes('--sender'), args.slice(args.indexOf('.') + 1))
    // The client hears nothing before both ends have agreed.
    await agreeAsServer(channel, { ...offerOf(args), seed: 0 }, protocol)
    throw new TransferError(error.message, RERR.UNSUPPORTED)
  }
}

/** What a client would negotiate whose arguments we do not accept. */
function offerOf(args: readonly string[]) {
  const [letters, capabilities = ''] = (args.find((arg) => /^-[^-]/.test(arg)) ?? '').split(/e\d*\./)
  const chosen = (option: RegExp) => args.some((arg) => option.test(arg))
  return {
    capabilities,
    compress: letters.includes('z'),
    compressChoice: chosen(/^--(compress-choice|new-compress|old-compress)/) ? ('none' as const) : undefined,
    checksumChoice: chosen(/^--checksum-choice/) ? 'md5' : undefined,
  }
}

async function understood(
  channel: Channel,
  args: readonly string[],
  refuseOptions: string,
  log: DaemonSessionLog,
): Promise<Invocation> {
  const around = { refuseOptions }
  let invocation = parseInvocation(unescaped(args), {}, around)
  if (invocation.settings.secludedArgs) {
    const secluded = await readArguments(channel)
    invocation = parseInvocation(unescaped(args), {}, { ...around, secluded: secluded.slice(1) })
  }
  const { operands, sender } = invocation
  log.requested(sender, operands)
  const paths = operands.flatMap((operand) => requestedPaths(config.module.name, operand))
  const budget = { listings: LISTINGS_MAX, names: NAMES_MAX }
  invocation.operands = paths.flatMap((path) => expandPath(path, namesIn, budget)) as RawPath[]
  if (!sender) invocation.operands = invocation.operands.slice(0, 1)
  return invocation
}

/** Options may be quoted as for a shell; paths are taken as they are. */
function unescaped(args: readonly string[]): string[] {
  const dot = args.indexOf('.')
  return args.map((arg, i) => (dot < 0 || i < dot ? unescapeArgument(arg) : arg))
}

/** The names in a directory of the module, for wildcards. */
function namesIn(directory: RawPath): readonly string[] | null {
  let fd: number
  try {
    fd = root.open(root.resolve('' as RawPath, directory))
  } catch {
    return null
  }
  try {
    const below = (name: string) => join(root.resolve('' as RawPath, directory), name)
    return readDirectory(fd).filter((name) => !filter.hides(below(name), false))
  } catch {
    return null // it has been removed meanwhile
  } finally {
    close(fd)
  }
}

async function readArguments(channel: Channel): Promise<string[]> {
  const args: string[] = []
  for (let bytes = 0; ; ) {
    const { text } = await channel.receive('argument', (c) => {
      let text = ''
      for (let byte = c.u8(); byte !== 0; byte = c.u8()) {
        text += String.fromCharCode(byte)
        if (text.length > ARGUMENT_MAX) throw new ProtocolError('argument', `longer than ${ARGUMENT_MAX} bytes`)
      }
      return { text }
    })
    if (text === '') return args
    bytes += text.length
    if (bytes > ARGUMENTS_BYTES_MAX) throw new ProtocolError('arguments', `longer than ${ARGUMENTS_BYTES_MAX} bytes`)
    if (args.push(text) > ARGUMENTS_MAX) throw new ProtocolError('arguments', `more than ${ARGUMENTS_MAX}`)
  }
}
