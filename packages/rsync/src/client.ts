import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { connect as connectTcp, type Socket, Socket as TcpSocket } from 'node:net'
import { finished } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Channel } from './channel.js'
import { ClientLog, type Output } from './client-log.js'
import { acquireSums, type Checksum, listSum } from './digest.js'
import { machine } from './disk/root.js'
import {
  ConnectError,
  FileError,
  type InItsWords,
  ProtocolError,
  RemoteError,
  TimeoutError,
  TransferError,
} from './errors.js'
import { encodeRules, FilterError, FilterList, FilterScopes, type Reading, readRuleFile } from './filter.js'
import { SourceTree } from './flist/source.js'
import { type Agreement, type Credentials, handshake, shellHandshake } from './handshake.js'
import { close as closeFd, openDirectory, socketPair } from './kernel.js'
import { memoryPair } from './memory-socket.js'
import { type Operand, parseOperand } from './operand.js'
import { parseInvocation, UsageError } from './options.js'
import { exitMessage, type Role } from './output/exit.js'
import { listLine } from './output/list.js'
import {
  connectFailed,
  connectionClosed,
  ioTimeout,
  listBegins,
  listEnds,
  openingConnection,
  pathWithoutModule,
  receivingIncremental,
  sendingIncremental,
  startingShell,
} from './output/names.js'
import { Pace } from './pace.js'
import { fromBytes, type RawPath, toBytes } from './raw-path.js'
import { receive } from './receive/receive.js'
import { requestedNames } from './receive/requested.js'
import { shellWords } from './remote-shell.js'
import { argumentsOf, type Places } from './send/arguments.js'
import { incompressible } from './send/incompressible.js'
import { send } from './send/send.js'
import { namesFromFile, namesFromWire, sendNames, serve } from './server.js'
import { allowsIncRecurse, serverArguments, splitSecluded } from './server-options.js'
import type { Invocation, Settings } from './settings.js'
import { secure, TLS_PORT, tlsFilesOf } from './tls.js'
import { Transfer } from './transfer.js'
import { helpText, versionText } from './usage.js'
import { RSYNC_VERSION } from './version.js'
import { CF, DEFAULT_PORT, MSG, RERR } from './wire/constants.js'

const VERSION = RSYNC_VERSION

/** `rsync ARGS...`, argument for argument. Resolves to rsync's exit code. */
export async function runClient(argv: readonly string[], output: Output, signal: AbortSignal): Promise<number> {
  let invocation: Invocation
  try {
    invocation = parseInvocation(argv, process.env)
  } catch (error) {
    if (!(error instanceof UsageError || error instanceof FilterError)) throw error
    return failed(output, error.message, error.exitCode, 'client')
  }
  if (invocation.help !== null) {
    output.out(helpText(invocation.help))
    return 0
  }
  if (invocation.version) {
    output.out(versionText())
    return 0
  }
  const client = new Client(invocation, output)
  return client.run(signal)
}

/** rsync's last line. */
function failed(output: Output, message: string, code: number, role: Role): number {
  if (message !== '') output.err(message.endsWith('\n') ? message : `${message}\n`)
  const line = exitMessage(code, role, VERSION)
  if (line !== null) output.err(line.text)
  return code
}

class Client {
  readonly settings: Settings
  #role: Role = 'client'
  #log: ClientLog | undefined
  #channel: Channel | undefined
  #child: ChildProcess | undefined

  constructor(
    readonly invocation: Invocation,
    readonly output: Output,
  ) {
    this.settings = invocation.settings
  }

  async run(signal: AbortSignal): Promise<number> {
    const stop = () => this.#channel?.leave(new TransferError('', RERR.SIGNAL), RERR.SIGNAL)
    signal.addEventListener('abort', stop)
    try {
      const code = await this.#start(signal)
      this.#log?.console.close()
      if (code !== 0) return failed(this.output, '', code, this.#role)
      return 0
    } catch (error) {
      this.#log?.console.close()
      const code = this.#explain(error, error instanceof ConnectError ? await this.#childCodeSoon() : 0)
      await this.#tellEnd(code)
      return code
    } finally {
      signal.removeEventListener('abort', stop)
      this.#child?.kill()
    }
  }

  /** The other end learns that it is over, and why. */
  async #tellEnd(code: number): Promise<void> {
    const channel = this.#channel
    if (channel?.alive && channel.framed) {
      const payload = Buffer.alloc(4)
      payload.writeInt32LE(code)
      channel.sendMessage(MSG.ERROR_EXIT, payload)
      await Promise.resolve(channel.flush()).catch(() => undefined)
      await Promise.race([new Promise<void>((resolve) => channel.socket.end(() => resolve())), sleep(LINGER_MS)])
    } else if (channel !== undefined && !channel.socket.destroyed)
      await Promise.race([finished(channel.socket, { readable: false }).catch(() => undefined), sleep(LEAVE_MS)])
    channel?.destroy()
    if (this.#child !== undefined) await Promise.race([this.#childCode(), sleep(LINGER_MS)])
  }

  /** The text and the exit code of what ended it; that of a remote shell has the last word if it is higher. */
  #explain(error: unknown, childCode: number): number {
    const say = (message: string, code: number) => failed(this.output, message, code, this.#role)
    if (error instanceof TransferError && error.silent) return error.exitCode
    if (error instanceof TransferError || error instanceof UsageError || error instanceof FilterError)
      return say(error.message, error.exitCode)
    const { told } = error as { told?: InItsWords }
    if (told !== undefined) return say(told.text, told.exitCode)
    if (error instanceof RemoteError) return say(error.quoted ? '' : error.message, error.exitCode)
    if (error instanceof TimeoutError)
      return say(ioTimeout(this.#role, Math.round(this.settings.timeoutMs / 1000)).text, RERR.TIMEOUT)
    if (error instanceof ConnectError) {
      const reset = (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET'
      if (reset && this.#child === undefined)
        return say(`rsync: [${this.#role}] read error: Connection reset by peer (104)`, RERR.SOCKETIO)
      return say(connectionClosed(this.#channel?.bytesRead ?? 0, this.#role).text, Math.max(RERR.STREAMIO, childCode))
    }
    if (error instanceof ProtocolError) return say(`rsync: [${this.#role}] ${error.message}`, RERR.PROTOCOL)
    if (error instanceof FileError) return say(`rsync: [${this.#role}] ${error.message}`, RERR.FILEIO)
    throw error
  }

  #start(signal: AbortSignal): Promise<number> {
    const { operands, passwordFile } = this.invocation
    if (operands.length === 0) {
      this.#role = 'Receiver'
      throw new TransferError(helpText('rsync'), RERR.SYNTAX)
    }
    const parsed = operands.map(parseOperand)
    const last = parsed.at(-1) as Operand
    const first = parsed[0] as Operand
    const far = first.kind === 'local' ? last : first
    this.#role = first.kind === 'local' ? 'sender' : 'Receiver'
    if (passwordFile !== null && far.kind !== 'daemon')
      throw new TransferError(
        'The --password-file option may only be used when accessing an rsync daemon.',
        RERR.SYNTAX,
      )
    if (first.kind !== 'local') {
      if (parsed.length > 1 && last.kind !== 'local')
        throw new TransferError('The source and destination cannot both be remote.', RERR.SYNTAX)
      const sources = parsed.length > 1 ? parsed.slice(0, -1) : parsed
      return this.#pull(first, sources, parsed.length > 1 ? operands[operands.length - 1] : null, signal)
    }
    const destination = parsed.length > 1 || this.settings.filesFrom !== null ? last : null
    const sources = parsed.length > 1 ? operands.slice(0, -1) : operands
    if (destination === null || destination.kind === 'local')
      return this.#copy(sources, destination === null ? null : last.path)
    return this.#push(sources, destination, signal)
  }

  // Local copies

  /** The server is in this process, at the other end of a pipe in memory. */
  async #copy(sources: readonly RawPath[], destination: RawPath | null): Promise<number> {
    const { settings } = this
    if (destination === null) settings.listOnly = true
    const [ours, theirs] = memoryPair()
    const args = serverArguments(settings, { sender: false, paths: [destination ?? ('.' as RawPath)], daemon: true })
    const serverInvocation = parseInvocation(args, {})
    const { listOnly, fakeSuper, superUser, progress } = settings
    const wholeFile = settings.wholeFile ?? settings.append === false
    Object.assign(serverInvocation.settings, { wholeFile, fakeSuper, superUser, listOnly, progress })
    this.#role = 'sender'
    const log = this.#makeLog(true, false)
    const serverChannel = new Channel(theirs, 0, undefined)
    serverChannel.mayWriteFrames = false
    const served = this.#serveHere(serverChannel, serverInvocation, log)
    served.catch(() => undefined)
    const channel = this.#open(ours)
    channel.quiet = true
    serverChannel.quiet = true
    for (const one of [channel, serverChannel]) one.own = true
    const code = await this.#sendOver(channel, sources, await this.#agreeLocally(channel), log)
    const theirCode = await served
    return Math.max(code, theirCode)
  }

  async #agreeLocally(channel: Channel): Promise<Agreement> {
    return shellHandshake(channel, this.#agreeOptions(true))
  }

  async #serveHere(channel: Channel, invocation: Invocation, log: ClientLog): Promise<number> {
    try {
      channel.out.i32(invocation.settings.protocol ?? 32)
      await channel.flush()
      const theirs = await channel.receive('protocol version', (c) => c.i32())
      const protocol = Math.min(theirs, invocation.settings.protocol ?? 32)
      const { code } = await serve(channel, invocation, protocol, {
        root: machine,
        base: '' as RawPath,
        places: machinePlaces,
        module: null,
        log: {
          info: (text) => log.info(text),
          warning: (text) => log.warning(text),
          error: (text) => log.error(text),
          fileError: (text) => log.fileError(text),
          item: () => undefined,
          deleted: (path, mode) => log.deleted(path, mode),
        },
        asRoot: process.geteuid?.() === 0,
        umask: process.umask(),
        reading: machineReading(this.settings),
        openNames: (file) => openSync(toBytes(file), 'r'),
      })
      channel.socket.end()
      return code
    } catch (error) {
      this.#role = 'Receiver'
      this.#channel?.abort(error as Error)
      channel.destroy()
      throw error
    }
  }

  // Pushing

  async #push(
    sources: readonly RawPath[],
    to: Exclude<Operand, { kind: 'local' }>,
    signal: AbortSignal,
  ): Promise<number> {
    this.#role = 'sender'
    if (this.settings.relative) this.settings.incRecursive = false // ours lists all at once then
    const log = this.#makeLog(true, true)
    const { channel, agreement } = await this.#connect(to, [to.path], false, log, signal)
    if (agreement === null) return 0
    const code = await this.#sendOver(channel, sources, agreement, log)
    await this.#ended(channel)
    return Math.max(code, await this.#childCode())
  }

  async #sendOver(
    channel: Channel,
    sources: readonly RawPath[],
    agreement: Agreement,
    log: ClientLog,
  ): Promise<number> {
    const { settings } = this
    const transfer = await this.#transfer(channel, agreement, log, 'sender')
    this.#hear(transfer, log)
    let filter = this.#filter()
    if (settings.cvsExclude) filter = filter.cvs(machineReading(settings))
    const deletes = settings.deleteWhen !== null
    const role = {
      sender: true,
      delete: deletes,
      deleteExcluded: settings.deleteExcluded,
      pruneEmptyDirs: settings.pruneEmptyDirs,
    }
    const texts = filter.toWire(role)
    if (texts !== null) encodeRules(channel.out, texts)
    const { filesFrom } = settings
    const names =
      filesFrom === null
        ? sources
        : filesFrom.startsWith(':')
          ? namesFromWire(channel, agreement.protocol)
          : namesFromFile(filesFrom as RawPath, settings.from0)
    const base = filesFrom === null ? ('' as RawPath) : (sources[0] ?? ('.' as RawPath))
    const reading = machineReading(settings)
    const scopes = (at: RawPath, entersTop: boolean) => new FilterScopes(filter.at(at, reading), entersTop)
    const incRecurse = (agreement.compatFlags & CF.INC_RECURSE) !== 0
    const tells = settings.verbose > 0 || settings.progress === 'file'
    if (tells && incRecurse) log.say(sendingIncremental())
    else if (tells && settings.recursive)
      log.say(listBegins('building', settings.verbose > 1 || settings.progress !== null))
    const args = argumentsOf(transfer, names, base, machinePlaces, scopes, filesFrom !== null)
    const listed = this.#announced(args, tells && !incRecurse && settings.recursive, transfer, log)
    await send(transfer, listed, {
      chmod: [],
      numericIds: false,
      forbidden: () => false,
      mungeSymlinks: settings.mungeLinks,
      tellsStats: false,
      incompressible: incompressible(settings.skipCompress),
      onDeleteStats: (counts) => log.deletions(counts),
    })
    log.summary(transfer, { sent: channel.bytesWritten, received: channel.bytesRead })
    return log.console.sawTransferError && transfer.exitCode() === 0 ? RERR.PARTIAL : transfer.exitCode()
  }

  /** Without incremental recursion the whole list is there when its last source has been listed. */
  async *#announced<T>(args: AsyncIterable<T>, tells: boolean, transfer: Transfer, log: ClientLog): AsyncGenerator<T> {
    for await (const arg of args) yield arg
    if (tells) log.say(listEnds(transfer.stats.files, this.settings.progress !== null))
  }

  // Pulling

  async #pull(
    from: Exclude<Operand, { kind: 'local' }>,
    sources: readonly Operand[],
    destination: RawPath | null,
    signal: AbortSignal,
  ): Promise<number> {
    const { settings } = this
    if (destination === null) settings.listOnly = true
    this.#role = 'Receiver'
    const log = this.#makeLog(false, false)
    const paths = sources.map((source) => this.#pathAt(from, source))
    const { channel, agreement } = await this.#connect(from, paths, true, log, signal)
    if (agreement === null) return 0
    const transfer = await this.#transfer(channel, agreement, log, 'Receiver')
    this.#hear(transfer, log)
    const code = await this.#receiveOver(transfer, paths, destination, log, from.kind === 'daemon')
    await this.#ended(channel)
    return Math.max(code, await this.#childCode())
  }

  /** Further sources may leave the host out, but not name another. */
  #pathAt(from: Exclude<Operand, { kind: 'local' }>, source: Operand): RawPath {
    if (source.kind === 'local') return source.path
    if (source.host !== '' && source.host !== from.host)
      throw new TransferError('All source args must come from the same machine.', RERR.SYNTAX)
    return source.path
  }

  async #receiveOver(
    transfer: Transfer,
    paths: readonly RawPath[],
    destination: RawPath | null,
    log: ClientLog,
    daemon: boolean,
  ): Promise<number> {
    const { settings } = this
    const { channel, agreement } = transfer
    let filter = this.#filter()
    const deletes = settings.deleteWhen !== null
    const { deleteExcluded, pruneEmptyDirs, filesFrom } = settings
    const texts = filter.toWire({ sender: false, delete: deletes, deleteExcluded, pruneEmptyDirs })
    if (texts !== null) encodeRules(channel.out, texts)
    const reading = machineReading(settings)
    if (settings.cvsExclude) filter = filter.cvs(reading)
    let listed: Set<string> | null = null
    if (filesFrom !== null && !filesFrom.startsWith(':')) {
      listed = new Set(namesFromFile(filesFrom as RawPath, settings.from0, true))
      await sendNames(transfer, listed as Set<RawPath>)
    }
    await channel.flush()
    const tells = settings.verbose > 0 || settings.progress === 'file'
    const incRecurse = (agreement.compatFlags & CF.INC_RECURSE) !== 0
    if (tells && incRecurse) log.say(receivingIncremental())
    else if (tells && settings.recursive)
      log.say(listBegins('receiving', settings.verbose > 1 || settings.progress !== null))
    const scopes = new FilterScopes(filter.at(machinePlaces.absolute(destination ?? ('.' as RawPath)), reading), true)
    const checksFilter = !filter.perDirectory && !settings.cvsExclude
    const requested = requestedNames(paths, listed, settings, daemon)
    const moved = { sent: 0, received: 0 }
    await receive(transfer, {
      root: machine,
      destination: settings.listOnly ? null : destination,
      protection: scopes,
      forbidden: () => false,
      expected: (path, directory) =>
        checksFilter && hiddenAnywhere(scopes, path, directory) ? 'unasked' : requested(path),
      incomingChmod: [],
      mungeSymlinks: settings.mungeLinks,
      sanitizes: false,
      numericIds: false,
      ...(settings.listOnly
        ? {
            onListed: (entry) =>
              log.console.print(MSG.INFO, listLine(entry, { human: settings.humanReadable, links: settings.links })),
          }
        : {}),
      onFirstList: () => {
        if (tells && !incRecurse && settings.recursive)
          log.say(listEnds(transfer.stats.files, settings.progress !== null))
      },
      receiveStats: async () => {
        const next = () => channel.receive('statistics', (c) => c.varlong(3))
        moved.received = await next()
        moved.sent = await next()
        await next()
        transfer.stats.flistBuildMs = await next()
        transfer.stats.flistTransferMs = await next()
      },
      tellsDeletions: settings.stats,
    })
    if (transfer.stats.files > 0) this.#role = 'generator'
    // The server counts what it has read and written: to us it is the other way round.
    log.summary(transfer, { sent: moved.received, received: moved.sent })
    return log.console.sawTransferError && transfer.exitCode() === 0 ? RERR.PARTIAL : transfer.exitCode()
  }

  // What both have in common

  #makeLog(sender: boolean, upload: boolean): ClientLog {
    this.#log = new ClientLog(this.settings, this.output, upload, sender)
    return this.#log
  }

  #filter(): FilterList {
    const { settings } = this
    const list = FilterList.of(settings.filterArguments, machineReading(settings))
    const { partialDir } = settings
    // What was kept of a file is no file of the transfer.
    if (partialDir === null || partialDir.startsWith('/')) return list
    return list.pattern(`${partialDir}/`, false, machineReading(settings))
  }

  async #transfer(
    channel: Channel,
    agreement: Agreement,
    log: ClientLog,
    role: 'sender' | 'Receiver',
  ): Promise<Transfer> {
    const { settings } = this
    const seedFirst = (agreement.compatFlags & CF.CHKSUM_SEED_FIX) !== 0
    const sums = await acquireSums(agreement.checksum, agreement.seed, seedFirst)
    const listName = (settings.checksumChoice?.[1] ?? agreement.checksum) as Checksum
    // Files here are summed up while others arrive, so that their sum is another.
    const own = settings.checksum ? { ...sums, list: await listSum(listName, agreement.seed, seedFirst) } : sums
    const transfer = new Transfer(settings, agreement, channel, own, log, {
      role,
      server: false,
      base: fromBytes(Buffer.from(process.cwd())),
      module: '',
      root: process.geteuid?.() === 0 && settings.superUser !== false,
      umask: process.umask(),
    })
    log.attach(transfer)
    return transfer
  }

  /** What the server says beside the data. */
  #hear(transfer: Transfer, log: ClientLog): void {
    transfer.channel.onMessage = (tag, payload) => {
      switch (tag) {
        case MSG.INFO:
        case MSG.CLIENT:
        case MSG.WARNING:
        case MSG.ERROR:
        case MSG.ERROR_XFER:
        case MSG.ERROR_SOCKET:
        case MSG.ERROR_UTF8:
          log.console.print(
            tag === MSG.ERROR_UTF8 || tag === MSG.ERROR_SOCKET ? MSG.ERROR : tag,
            payload.toString('latin1'),
          )
          return true
        case MSG.LOG:
          return true
        case MSG.IO_ERROR:
          if (payload.length === 4) transfer.ioError |= payload.readInt32LE() & 7
          return true
        case MSG.ERROR_EXIT:
          if (payload.length === 4) transfer.channel.abort(new TransferError('', payload.readInt32LE(), true))
          return true
        case MSG.DELETED: {
          const directory = payload.at(-1) === 0
          const name = payload.toString('latin1', 0, payload.length - (directory ? 1 : 0)) as RawPath
          log.deleted(name, directory ? 0o040000 : 0o100000)
          return true
        }
        default:
          return false
      }
    }
  }

  #agreeOptions(sender: boolean) {
    const { settings } = this
    return {
      compress: settings.compress,
      ...(settings.protocol === null ? {} : { protocol: settings.protocol }),
      compressChoice: settings.compressChoice ?? undefined,
      checksumChoice: settings.checksumChoice?.[0],
      incRecurse: allowsIncRecurse(settings, !sender),
      namesFollow: sender && settings.filesFrom?.startsWith(':'),
    }
  }

  #early(channel: Channel, tag: number, payload: Buffer): boolean {
    if (tag === MSG.ERROR_EXIT && payload.length === 4) {
      channel.abort(new TransferError('', payload.readInt32LE(), true))
      return true
    }
    if (tag !== MSG.ERROR && tag !== MSG.ERROR_XFER && tag !== MSG.WARNING && tag !== MSG.INFO) return false
    this.#log?.console.print(tag, payload.toString('latin1'))
    return true
  }

  #open(socket: Socket): Channel {
    const { settings } = this
    const pace = settings.bwlimit > 0 ? new Pace(settings.bwlimit) : undefined
    const channel = new Channel(
      socket,
      settings.timeoutMs,
      pace === undefined ? undefined : (bytes) => pace.spend(bytes),
    )
    // What is said before the transfer begins is said all the same.
    channel.onMessage = (tag, payload) => this.#early(channel, tag, payload)
    this.#channel = channel
    return channel
  }

  async #connect(
    to: Exclude<Operand, { kind: 'local' }>,
    paths: readonly RawPath[],
    serverSends: boolean,
    log: ClientLog,
    signal: AbortSignal,
  ): Promise<{ channel: Channel; agreement: Agreement | null }> {
    if (to.kind === 'shell') return this.#connectShell(to, paths, serverSends, log)
    return this.#connectDaemon(to, paths, serverSends, log, signal)
  }

  async #connectShell(
    { host, user }: { host: string; user: string | null },
    paths: readonly RawPath[],
    serverSends: boolean,
    log: ClientLog,
  ): Promise<{ channel: Channel; agreement: Agreement }> {
    const { invocation, settings } = this
    const words = shellWords(invocation.rsh ?? process.env.RSYNC_RSH ?? 'ssh')
    const all = serverArguments(settings, { sender: serverSends, paths, daemon: false })
    const { open, secluded } = settings.secludedArgs ? splitSecluded(all) : { open: all, secluded: [] }
    const login = user === null ? [] : ['-l', user]
    const [program, ...given] = words
    const [ours, theirs] = socketPair()
    const args = [...given, ...login, host, invocation.rsyncPath, ...open].map((arg) => toBytes(arg).toString())
    if (settings.verbose > 1) log.say(startingShell([program, ...args]))
    const child = spawn(program, args, { stdio: [theirs, theirs, 'inherit'] })
    closeFd(theirs)
    this.#child = child
    const socket = new TcpSocket({ fd: ours, readable: true, writable: true })
    child.once('error', (error: NodeJS.ErrnoException) => {
      // Stock rsync says it in the process that was to become the shell.
      failed(this.output, `rsync: [${this.#role}] Failed to exec ${program}: ${reason(error)}`, RERR.IPC, this.#role)
      this.#channel?.abort(new ConnectError('the remote shell did not start', { cause: error }))
    })
    const channel = this.#open(socket)
    if (secluded.length > 0) channel.out.latin1(`${secluded.join('\0')}\0\0`)
    const agreement = await shellHandshake(channel, this.#agreeOptions(!serverSends))
    return { channel, agreement }
  }

  async #connectDaemon(
    to: { host: string; user: string | null; port: number | null; path: RawPath; tls?: true },
    paths: readonly RawPath[],
    serverSends: boolean,
    log: ClientLog,
    signal: AbortSignal,
  ): Promise<{ channel: Channel; agreement: Agreement | null }> {
    const { invocation, settings } = this
    if (to.path.startsWith('/')) throw new TransferError(pathWithoutModule().text, RERR.STARTCLIENT)
    const port = to.port ?? invocation.port ?? (to.tls ? TLS_PORT : DEFAULT_PORT)
    const plain = await connectTo(to.host, port, invocation, this.#role, signal)
    const limit = settings.connectTimeoutMs || TLS_TIMEOUT_MS
    if (settings.verbose > 1) log.say(openingConnection(to.host, port))
    const socket = to.tls
      ? await secure(plain, { host: to.host, port, files: tlsFilesOf(process.env) }, limit, signal)
      : plain
    const channel = this.#open(socket)
    const module = to.path.split('/', 1)[0]
    const all = serverArguments(settings, { sender: serverSends, paths, daemon: true })
    const agreement = await handshake(channel, {
      ...this.#agreeOptions(!serverSends),
      module,
      credentials: () => this.#credentials(to.user, invocation.passwordFile),
      args: () => all,
      lists: true, // a daemon may end the session here; stock rsync is content with that
      motd: (line) => {
        if (settings.motd || module === '') log.console.print(MSG.INFO, `${line}\n`)
      },
    })
    return { channel, agreement }
  }

  async #credentials(user: string | null, file: string | null): Promise<Credentials> {
    const name = user ?? process.env.USER ?? process.env.LOGNAME ?? 'nobody'
    const password =
      file === null ? (process.env.RSYNC_PASSWORD ?? (await askPassword())) : readPasswordFile(file, this.#role)
    return { user: name, password }
  }

  /** Until the server has closed its end, so that its last words are read. */
  async #ended(channel: Channel): Promise<void> {
    channel.socket.end()
    const timer = setTimeout(() => channel.destroy(), LINGER_MS)
    await channel.untilClosed().catch(() => undefined)
    clearTimeout(timer)
  }

  async #childCodeSoon(): Promise<number> {
    return Promise.race([this.#childCode(), sleep(LEAVE_MS, 0)])
  }

  async #childCode(): Promise<number> {
    const child = this.#child
    if (child === undefined) return 0
    if (child.pid === undefined) return RERR.IPC // it did not start: what stock rsync's own child ends with
    if (child.exitCode === null && child.signalCode === null)
      await new Promise((resolve) => child.once('exit', resolve))
    return child.exitCode ?? 0
  }
}

const LINGER_MS = 5_000
/** For what we have to say last, when a signal ends us. */
const LEAVE_MS = 500
const TLS_TIMEOUT_MS = 15_000

/** Whether our own filter leaves the name out, or a directory above it. */
function hiddenAnywhere(scopes: FilterScopes, path: RawPath, directory: boolean): boolean {
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
    if (scopes.hides(path.slice(0, slash) as RawPath, true)) return true
  return scopes.hides(path, directory)
}

export const machinePlaces: Places = {
  enter: (base, path) => machine.resolve(base, path),
  tree(directory, follows, named) {
    const path = directory === '' ? ('.' as RawPath) : directory
    return new SourceTree(path, follows ? 'anywhere' : 'never', () => openDirectory(path), null, named)
  },
  absolute: (directory) =>
    (directory.startsWith('/') ? directory : `${fromBytes(Buffer.from(process.cwd()))}/${directory}`) as RawPath,
}

export function machineReading(settings: Settings): Reading {
  return {
    read: readRuleFile,
    from0: settings.from0,
    deleteExcluded: settings.deleteExcluded,
    environment: process.env,
    warn: (message) => process.stderr.write(`${message}\n`),
  }
}

function connectTo(
  host: string,
  port: number,
  invocation: Invocation,
  role: Role,
  signal: AbortSignal,
): Promise<Socket> {
  const { settings, address, family } = invocation
  return new Promise((resolve, reject) => {
    const socket = connectTcp({
      host,
      port,
      noDelay: true,
      ...(address === null ? {} : { localAddress: address }),
      ...(family === 0 ? {} : { family }),
    })
    const limit = settings.connectTimeoutMs
    const timer = limit === 0 ? undefined : setTimeout(() => fail(new TransferError('', RERR.CONTIMEOUT)), limit)
    const fail = (error: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    signal.addEventListener('abort', () => fail(new TransferError('', RERR.SIGNAL)), { once: true })
    socket.once('error', (error: NodeJS.ErrnoException) => fail(connectError(host, port, error, role)))
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.removeAllListeners('error')
      resolve(socket)
    })
  })
}

type AddressError = NodeJS.ErrnoException & { address?: string }

/** Each address of the host has its own reason. */
function connectError(host: string, port: number, error: AddressError, role: Role): TransferError {
  if (error.syscall === 'getaddrinfo') {
    const passing = error.code === 'EAI_AGAIN'
    const text = passing ? 'Temporary failure in name resolution' : 'Name or service not known'
    return new TransferError(`rsync: getaddrinfo: ${host} ${port}: ${text}`, RERR.SOCKETIO)
  }
  const each = (error as { errors?: AddressError[] }).errors ?? [error]
  const texts = each.map(({ address, errno = 0 }) => connectFailed(role, host, address ?? host, -errno).text)
  return new TransferError(texts.join(''), RERR.SOCKETIO)
}

const PASSWORD_MAX = 1024

/** authenticate.c: the first line of a file that nobody else may read. */
function readPasswordFile(file: string, role: Role): string {
  const refuse = (text: string) => new TransferError(text, RERR.SYNTAX)
  let fd: number
  try {
    fd = file === '-' ? 0 : openSync(toBytes(file), constants.O_RDONLY)
  } catch (error) {
    throw refuse(`rsync: [${role}] could not open password file ${file}: ${reason(error)}`)
  }
  try {
    if (fd !== 0) {
      const { mode, uid } = fstatSync(fd)
      if ((mode & 0o006) !== 0) throw refuse('ERROR: password file must not be other-accessible')
      if (process.geteuid?.() === 0 && uid !== 0)
        throw refuse('ERROR: password file must be owned by root when running as root')
    }
    const buffer = Buffer.alloc(PASSWORD_MAX)
    const length = readSync(fd, buffer, 0, buffer.length, null)
    const line = buffer.toString('utf8', 0, length).split(/[\r\n]/, 1)[0]
    if (line === '') throw refuse(`ERROR: failed to read a password from ${file}`)
    return line
  } finally {
    if (fd !== 0) closeSync(fd)
  }
}

const reason = (error: unknown) => {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT'
    ? 'No such file or directory (2)'
    : code === 'EACCES'
      ? 'Permission denied (13)'
      : String(error)
}

/** Asks on the terminal, without showing what is typed. */
async function askPassword(): Promise<string> {
  const { stdin, stderr } = process
  if (!stdin.isTTY) return ''
  stderr.write('Password: ')
  stdin.setRawMode(true)
  let password = ''
  try {
    for await (const chunk of stdin) {
      for (const char of (chunk as Buffer).toString('utf8')) {
        if (char === '\r' || char === '\n') return password
        if (char === '\u0003') throw new TransferError('', RERR.SIGNAL)
        password = char === '\u007f' ? password.slice(0, -1) : password + char
      }
    }
    return password
  } finally {
    stdin.setRawMode(false)
    stdin.pause()
    stderr.write('\n')
  }
}
