import { connect as connectTcp, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Channel } from './channel.js'
import { acquireSums, CHECKSUM_SEED, CHECKSUMS, type Checksum, releaseSums, type Sums } from './digest.js'
import { ConnectError, ProtocolError, TimeoutError } from './errors.js'
import { type FilterRule, ruleText } from './filter.js'
import { encodeIdList, FlistEncoder, type FlistFormat } from './flist/codec.js'
import { type FileEntry, isDirectory, isRegular, STATE } from './flist/entry.js'
import type { SourceTree } from './flist/source.js'
import { type Agreement, type Credentials, type Greeting, handshake, shellHandshake } from './handshake.js'
import { groupName, userName } from './kernel.js'
import type { Pace } from './pace.js'
import type { RawPath } from './raw-path.js'
import { openShell, sharingConnection } from './remote-shell.js'
import { askForPut, askForRename, LASTING, PUT_ENTRIES_MAX, PUT_MAX, ROUND, receiveDone, VERDICT } from './rounds.js'
import { readSmall, type SenderReport, sendFiles } from './sender.js'
import { explainLoss, secure, TLS_PORT, type TlsFiles } from './tls.js'
import { CF, DEFAULT_PORT, MSG, PROTOCOL } from './wire/constants.js'
import { DeflatedTokens, PlainTokens } from './wire/token.js'

const CONNECT_TIMEOUT_MS = 15_000
const COMPRESS_LEVEL = 6
const LINGER_MS = 5_000
const REFUSAL_MS = 100
const COMPLAINT_MS = 200

/** A module of a daemon, and a directory in it; or a directory of a machine: of another with `shell`, of this with `local`. */
export interface Remote {
  host: string
  port?: number
  module: string
  /**
   * Below the module, latin1, without slashes at its ends; '' is the module itself. With `shell`, as its rsync takes it;
   * with `local`, absolute.
   */
  path: string
  /** A directory of this machine: the server is in this process. There is no host then. */
  local?: true
  /** The daemon speaks TLS; these are the files for it. */
  tls?: TlsFiles
  /** It is reached by way of this command, such as `ssh`, as this user; there is no module then. */
  shell?: { command: readonly string[]; user: string | undefined }
}

export interface SessionOptions {
  remote: Remote
  credentials?: Credentials | undefined
  /** Compare nothing, transfer every file that is listed: for names that an event has named. */
  ignoreTimes: boolean
  /** Compare times to the nanosecond; the daemon is known to be 3.1.3 or newer. One that lists digests always is. */
  nanoseconds?: boolean
  /** Delete what a listed directory does not list, and listed names that are missing here. */
  delete: boolean
  /** With `delete`: leave alone what a directory does not list. Names that are listed as missing are deleted even so. */
  keepUnlisted?: boolean
  /** Patterns that the receiver must leave alone. */
  rules: readonly FilterRule[]
  /** Ids travel as numbers only; false maps them by name where both ends have the name. */
  numericIds: boolean
  compress: boolean
  /** Leave files alone that are newer at the receiver (-u). */
  update?: boolean
  dryRun: boolean
  /** The peer may be silent for this long before it is given up. */
  timeoutMs: number
  pace?: Pace | undefined
  motd?: (line: string) => void
  /** With a local remote: opens its directory when a list has come, or throws. Without it, it is made where it is missing. */
  openDirectory?: (() => number) | undefined
  /** For tests: an older protocol, fewer checksums. */
  protocol?: number
  checksums?: readonly Checksum[]
}

/**
 * What came of one list. A report with neither `errors` nor `failed`, `changed`, `deferred`, `refused` means: all is there.
 */
export interface TransferReport extends Omit<SenderReport, 'search'> {
  /** What the receiver could not do, by path, where it says so; `errors` has only the others then. */
  refused: Map<RawPath, string>
  /** The receiver's complaints, quoted. It does not say reliably which files they are about. */
  errors: string[]
  notices: string[]
  deleted: number
  bytesWritten: number
  bytesRead: number
}

export interface TransferOptions {
  source: SourceTree
  /** In `compareEntries` order. */
  entries: readonly FileEntry[]
  /** The list is not complete: nothing is deleted for not being listed. */
  ioError?: boolean
  defer?: (entry: FileEntry) => boolean
  /**
   * Send the content of every file at once instead of when it is asked for, which saves a round trip. Only where each
   * is at the receiver a regular file or nothing at all, in a directory that is there: elsewhere the receiver may first
   * have to remove something, and what it was sent with it.
   */
  ahead?: boolean
  onItem?: (entry: FileEntry, iflags: number) => void
  /** Told of each regular file that is in its place as it was sent and still is, where the receiver says so. */
  onArrived?: ((entry: FileEntry) => void) | undefined
  onDeleted?: (path: string, directory: boolean) => void
  signal?: AbortSignal
}

/**
 * One connection to a daemon, negotiated up to the file list: it takes one list, at once, and ends; or, where the daemon is
 * ours too, one after the other (rounds.ts). Open it ahead of need. Errors: RemoteError (the daemon refuses),
 * ConnectError, TimeoutError, ProtocolError.
 */
export class Session {
  readonly openedMs = Date.now()
  /** Whether a pool follows its end. */
  counted = false
  #ended = false

  private constructor(
    readonly options: SessionOptions,
    readonly channel: Channel,
    readonly agreement: Agreement,
    readonly sums: Sums,
  ) {}

  static async open(options: SessionOptions, signal?: AbortSignal): Promise<Session> {
    const { shell, local } = options.remote
    if (local === true) return Session.#openLocal(options, signal)
    if (shell !== undefined) {
      const { host, port } = options.remote
      return sharingConnection({ host, port, ...shell }, () => Session.#openShell(options, shell, signal))
    }
    const socket = await connectTo(options.remote, signal)
    const channel = new Channel(socket, options.timeoutMs, paceOf(options))
    const abort = () => channel.abort(new ConnectError('cancelled'))
    signal?.addEventListener('abort', abort)
    try {
      const agreement = await handshake(channel, {
        module: options.remote.module,
        credentials: options.credentials,
        args: (greeting) => serverArgs(options, greeting),
        compress: options.compress,
        lasting: !options.dryRun,
        ...(options.protocol === undefined ? {} : { protocol: options.protocol }),
        checksums: options.checksums ?? CHECKSUMS,
        ...(options.motd === undefined ? {} : { motd: options.motd }),
      })
      return await Session.#agreed(options, channel, agreement)
    } catch (error) {
      channel.destroy()
      const { host, port, tls } = options.remote
      throw tls === undefined ? error : explainLoss(error, { host, port: port ?? TLS_PORT, files: tls })
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  static async #openShell(
    options: SessionOptions,
    { command, user }: { command: readonly string[]; user: string | undefined },
    signal: AbortSignal | undefined,
  ): Promise<Session> {
    if (signal?.aborted) throw new ConnectError('cancelled')
    const { host, port } = options.remote
    const { socket, complaint } = openShell({ host, port, user, command }, serverArgs(options, null))
    const channel = new Channel(socket, options.timeoutMs, paceOf(options))
    const abort = () => channel.abort(new ConnectError('cancelled'))
    signal?.addEventListener('abort', abort)
    try {
      return await Session.#agreeWithServer(options, channel)
    } catch (error) {
      // What the shell had to say is on its standard error, which may come a moment later.
      if (!channel.alive && error instanceof ConnectError && error.message !== 'cancelled') {
        await sleep(COMPLAINT_MS)
        channel.destroy()
        throw complaint()
      }
      channel.destroy()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /** Sender and receiver in one process, joined in memory: the same engine, the same messages. */
  static async #openLocal(options: SessionOptions, signal: AbortSignal | undefined): Promise<Session> {
    // Only a mirror that has such a target needs what a server is made of.
    const { joinServer } = await import('./local-server.js')
    if (signal?.aborted) throw new ConnectError('cancelled')
    const socket = joinServer(serverArgs(options, null), options.openDirectory)
    const channel = new Channel(socket, 0, paceOf(options)) // whatever hangs here hangs the process
    channel.quiet = true
    return Session.#agreeWithServer(options, channel)
  }

  /** With a server that was given its arguments when it was started. */
  static async #agreeWithServer(options: SessionOptions, channel: Channel): Promise<Session> {
    const { protocol, checksums = CHECKSUMS } = options
    const agreement = await shellHandshake(channel, {
      compress: compresses(options),
      lasting: !options.dryRun,
      ...(protocol === undefined ? {} : { protocol }),
      checksums,
    })
    return Session.#agreed(options, channel, agreement)
  }

  static async #agreed(options: SessionOptions, channel: Channel, agreement: Agreement): Promise<Session> {
    const { checksum, seed, compatFlags } = agreement
    // A server of ours waits for no acknowledgement.
    if ((compatFlags & CF.LASTING) !== 0) channel.quiet = true
    const sums = await acquireSums(checksum, seed, (compatFlags & CF.CHKSUM_SEED_FIX) !== 0)
    return new Session(options, channel, agreement, sums)
  }

  /** Whether it takes more than one list, and can rename. */
  get lasts(): boolean {
    return (this.agreement.compatFlags & CF.LASTING) !== 0
  }

  /** Whether it takes another list now. */
  get ready(): boolean {
    return this.alive && !this.#ended
  }

  get alive(): boolean {
    return this.channel.alive && this.channel.said.errors.length === 0
  }

  /** Whether an entry of mode 0 deletes the name; before rsync 3.1 only a listing of its directory can. */
  get deletesMissing(): boolean {
    return this.options.delete && this.agreement.protocol >= 31
  }

  /** Whether the daemon is 3.2 or newer, and so takes `nanoseconds`. */
  get canCompareNanoseconds(): boolean {
    return (this.agreement.compatFlags & CF.VARINT_FLIST_FLAGS) !== 0 && this.agreement.protocol >= 31
  }

  /** Whether the quick check of this session sees changes within a second. */
  get comparesNanoseconds(): boolean {
    return this.canCompareNanoseconds && asksNanoseconds(this.options, this.agreement.greeting)
  }

  /** Waits a moment for what a daemon says on its own, such as that the module is read only. Throws RemoteError. */
  async refusal(): Promise<void> {
    await sleep(REFUSAL_MS)
    this.channel.throwIfRefused()
  }

  /** How often an idle session must say something so that the daemon keeps it. */
  get keepAliveMs(): number {
    const limitSec = this.channel.peerTimeoutSec
    if (limitSec > 0) return Math.max(500, (limitSec * 1000) / 3)
    // Protocol 30 daemons have time-outs too, but do not tell.
    return this.agreement.protocol >= 31 ? Math.min(20_000, this.options.timeoutMs / 3) : 2_000
  }

  /** Calls `listener` when the connection is closed for good, or is already. */
  onClosed(listener: () => void): void {
    const { socket } = this.channel
    if (socket.closed) listener()
    else socket.once('close', listener)
  }

  keepAlive(): void {
    this.channel.sendEmptyFrame()
  }

  /** Sends one list and the content that the receiver asks for. `ready` tells whether the session goes on. */
  async transfer(options: TransferOptions): Promise<TransferReport> {
    const { channel } = this
    const abort = () => channel.abort(new ConnectError('cancelled'))
    options.signal?.addEventListener('abort', abort)
    if (options.signal?.aborted) abort()
    channel.onDeleted = options.onDeleted
    const told = new Told(channel, options)
    const { bytesWritten, bytesRead } = channel
    try {
      if (this.lasts) {
        channel.forget()
        channel.onMessage = (tag, payload) => told.hear(tag, payload)
        const length = options.ahead === true ? await this.#put(options) : null
        if (length !== null) {
          const what = { failed: [], changed: [], deferred: [], sent: 1, literalBytes: length, matchedBytes: 0 }
          return { ...what, ...told.summary(), ...this.#movedSince(bytesWritten, bytesRead) }
        }
        channel.forget() // of what could not be put
        channel.out.u8(ROUND.LIST)
      } else this.#ended = true
      await this.#sendList(options)
      const { protocol, compress } = this.agreement
      const report = await sendFiles(channel, options.source, options.entries, {
        protocol,
        sums: this.sums,
        tokens: () =>
          compress === null ? new PlainTokens(channel.out) : new DeflatedTokens(channel.out, COMPRESS_LEVEL),
        dryRun: this.options.dryRun,
        onItem: options.onItem,
        defer: options.defer,
        ahead: options.ahead === true,
      })
      if (this.lasts) await receiveDone(channel)
      else this.#end()
      // A session for one list counts its login, too.
      const moved = this.lasts ? this.#movedSince(bytesWritten, bytesRead) : this.#movedSince(0, 0)
      return { ...report, ...told.summary(), ...moved }
    } catch (error) {
      this.destroy()
      throw error
    } finally {
      options.signal?.removeEventListener('abort', abort)
    }
  }

  #movedSince(bytesWritten: number, bytesRead: number): Pick<TransferReport, 'bytesWritten' | 'bytesRead'> {
    const { channel } = this
    return { bytesWritten: channel.bytesWritten - bytesWritten, bytesRead: channel.bytesRead - bytesRead }
  }

  /** One small file, and the directories above it, in one message each way. Returns its length; null: it takes a list. */
  async #put({ source, entries, onArrived }: TransferOptions): Promise<number | null> {
    const { channel, options, agreement } = this
    if (!this.#puts || !options.numericIds || options.dryRun || agreement.compress !== null) return null
    const [file, ...others] = entries.filter(({ mode }) => !isDirectory(mode))
    if (file === undefined || others.length > 0 || !isRegular(file.mode) || file.linkGroup !== '') return null
    if (file.size > PUT_MAX || entries.length > PUT_ENTRIES_MAX || entries.some(({ hasContent }) => hasContent))
      return null
    const content = readSmall(source, file)
    if (content === null) return null
    const verdict = await askForPut(channel, this.#format, this.sums, { entries: [...entries], content })
    if (verdict === VERDICT.LISTS) this.#puts = false
    if (verdict !== VERDICT.PUT) return null
    onArrived?.(file)
    return content.length
  }
  /** The server has not said that it never will. */
  #puts = true

  /**
   * Where the session lasts: gives what the receiver has at `from` the name `to`, where it has nothing. Returns why that
   * was not done, or ''. The session is over when it throws.
   */
  async rename(from: RawPath, to: RawPath, signal?: AbortSignal): Promise<string> {
    const abort = () => this.channel.abort(new ConnectError('cancelled'))
    signal?.addEventListener('abort', abort)
    try {
      return await askForRename(this.channel, from, to)
    } catch (error) {
      this.destroy()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /** Gives a session back, an unused one with an empty list, so that the daemon's log stays clean. */
  async close(source: SourceTree): Promise<void> {
    if (!this.channel.alive) return this.destroy()
    if (!this.lasts) {
      await this.transfer({ source, entries: [], ioError: true }).catch(() => undefined)
      return
    }
    this.channel.out.u8(ROUND.END)
    await Promise.resolve(this.channel.flush()).catch(() => undefined)
    this.#end()
  }

  destroy(): void {
    this.#release()
    this.channel.destroy()
  }

  #end(): void {
    this.#release()
    linger(this.channel.socket)
  }

  #release(): void {
    this.#ended = true
    if (this.#holdsSums) releaseSums(this.sums)
    this.#holdsSums = false
  }
  #holdsSums = true

  get #format(): FlistFormat {
    const { protocol, compatFlags } = this.agreement
    return {
      protocol,
      varintFlags: (compatFlags & CF.VARINT_FLIST_FLAGS) !== 0,
      safeFlist: (compatFlags & CF.SAFE_FLIST) !== 0,
    }
  }

  async #sendList({ entries, ioError }: TransferOptions): Promise<void> {
    const { channel, options } = this
    const { out } = channel
    if (deletesUnlisted(options)) sendRules(channel, options.rules)
    const format = this.#format
    const encoder = new FlistEncoder(format, out)
    // Names to be deleted go first: see FlistEncoder on mode 0.
    const missing = entries.filter((entry) => entry.mode === 0)
    for (const entry of missing) encoder.encode(entry)
    for (const entry of entries) {
      if (entry.mode === 0) continue
      encoder.encode(entry)
      const wait = channel.relieve()
      if (wait !== undefined) await wait
    }
    if (ioError === true && !format.varintFlags && !format.safeFlist) {
      // rsync 3.0: the end of a list cannot tell, so a message does, ahead of it.
      channel.sendMessage(MSG.IO_ERROR, Buffer.from([1, 0, 0, 0]))
    }
    encoder.end(ioError === true ? 1 : 0)
    if (!options.numericIds) sendNames(channel, entries)
  }
}

const paceOf = ({ pace }: SessionOptions) => (pace === undefined ? undefined : (bytes: number) => pace.spend(bytes))

/** What the receiver says in the course of one transfer. */
class Told {
  readonly #refused = new Map<RawPath, string>()
  /** How many of the errors are known to be about one entry. */
  #explained = 0

  constructor(
    readonly channel: Channel,
    readonly options: TransferOptions,
  ) {}

  hear(tag: number, payload: Buffer): boolean {
    if ((tag !== MSG.SUCCESS && tag !== MSG.FAILED) || payload.length !== 4) return false
    const entry = this.options.entries[payload.readUInt32LE()]
    if (entry === undefined) throw new ProtocolError('file index', 'of something that was not listed')
    if (tag === MSG.SUCCESS) {
      if (!(entry.state & STATE.TORN)) this.options.onArrived?.(entry)
    } else {
      const { errors } = this.channel.said
      this.#refused.set(entry.path, errors.slice(this.#explained).join('; ') || 'the receiver could not take it')
      this.#explained = errors.length
    }
    return true
  }

  summary(): Pick<TransferReport, 'errors' | 'notices' | 'deleted' | 'refused'> {
    const { ioError, errors, notices, deleted } = this.channel.said
    const others = errors.slice(this.#explained)
    const none = ioError && others.length === 0 && this.#refused.size === 0
    return { errors: none ? ['the receiver met an I/O error'] : others, notices, deleted, refused: this.#refused }
  }
}

/** As rsync does, nothing is compressed on its way through memory. */
const compresses = ({ compress, remote }: SessionOptions) => compress && remote.local !== true

const deletesUnlisted = ({ delete: deletes, keepUnlisted }: SessionOptions) => deletes && keepUnlisted !== true

/** exclude.c send_filter_list(): each rule behind its length; the receiver protects what they hide. */
function sendRules(channel: Channel, rules: readonly FilterRule[]): void {
  for (const rule of rules) {
    const text = ruleText(rule)
    channel.out.i32(text.length)
    channel.out.latin1(text)
  }
  channel.out.i32(0)
}

function sendNames(channel: Channel, entries: readonly FileEntry[]): void {
  const users = new Map<number, string>()
  const groups = new Map<number, string>()
  for (const { uid, gid, mode } of entries) {
    if (mode === 0) continue
    if (!users.has(uid)) users.set(uid, userName(uid) ?? '')
    if (!groups.has(gid)) groups.set(gid, groupName(gid) ?? '')
  }
  const named = (ids: Map<number, string>) => new Map([...ids].filter(([, name]) => name !== ''))
  encodeIdList(channel.out, named(users), null)
  encodeIdList(channel.out, named(groups), null)
}

/** options.c server_options(): what the server is told; without a greeting, when it is started. */
function serverArgs(options: SessionOptions, greeting: Greeting | null): string[] {
  const protocol = Math.min(greeting?.protocol ?? PROTOCOL.MAX, options.protocol ?? PROTOCOL.MAX)
  const { module, path, shell, local } = options.remote
  // A local basis is not worth its checksums, as rsync has it: to read it takes as long as to write anew.
  const letters = `${options.dryRun ? 'n' : ''}${local ? 'W' : ''}logDtprH${options.ignoreTimes ? 'I' : ''}${compresses(options) ? 'z' : ''}${options.update ? 'u' : ''}`
  // No `i`: without incremental recursion one list is one batch.
  const args = [
    '--server',
    `-${letters}e.LsfxCIv${LASTING}`,
    '--force',
    `--timeout=${Math.ceil(options.timeoutMs / 1000)}`,
    `--checksum-seed=${CHECKSUM_SEED}`,
  ]
  if (options.dryRun) args.push('--log-format=%i')
  if (deletesUnlisted(options)) args.push('--delete')
  if (options.delete && protocol >= 31) args.push('--delete-missing-args')
  if (options.numericIds) args.push('--numeric-ids')
  if (asksNanoseconds(options, greeting)) args.push('--modify-window=-1')
  if (local === true) return [...args, '.', `${path}/`]
  if (shell !== undefined) return [...args, '.', `${Buffer.from(path, 'latin1').toString()}/`]
  return [...args, '.', `${escapeGlob(path === '' ? module : `${module}/${path}`)}/`]
}

/**
 * --modify-window=-1 compares nanoseconds, since 3.1.3. Before, it makes all times differ: harmless where everything is
 * sent anyway, but a full sync would compare all content, so it is asked for only where the daemon is surely newer.
 */
function asksNanoseconds(options: SessionOptions, greeting: Greeting | null): boolean {
  return (
    options.remote.local === true ||
    options.ignoreTimes ||
    options.nanoseconds === true ||
    (greeting !== null && greeting.digests !== null)
  )
}

/** The daemon expands wildcards in its arguments. */
const escapeGlob = (text: string) => text.replace(/[*?[\]\\]/g, '\\$&')

/** The receiver has what it needs; its process ends the connection, and we make sure of that. */
function linger(socket: Socket): void {
  socket.end()
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}

async function connectTo({ host, port, tls }: Remote, signal?: AbortSignal): Promise<Socket> {
  if (tls === undefined) return connect(host, port ?? DEFAULT_PORT, signal)
  const peer = { host, port: port ?? TLS_PORT, files: tls }
  return secure(await connect(host, peer.port, signal), peer, CONNECT_TIMEOUT_MS, signal)
}

function connect(host: string, port: number, signal?: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 })
    const fail = (error: Error) => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    const timer = setTimeout(
      () => fail(new TimeoutError(`${host}:${port} did not answer within ${CONNECT_TIMEOUT_MS / 1000} s`)),
      CONNECT_TIMEOUT_MS,
    )
    const abort = () => fail(new ConnectError('cancelled'))
    signal?.addEventListener('abort', abort)
    const lost = (error: Error) =>
      fail(new ConnectError(`cannot connect to ${host}:${port}: ${reasonOf(error)}`, { cause: error }))
    socket.once('error', lost)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', lost)
      signal?.removeEventListener('abort', abort)
      resolve(socket)
    })
  })
}

const CONNECT_REASON: Record<string, string> = {
  ECONNREFUSED: 'Connection refused (111)',
  EHOSTUNREACH: 'No route to host (113)',
  ENETUNREACH: 'Network is unreachable (101)',
  ENOTFOUND: 'the name does not resolve',
  EAI_AGAIN: 'the name does not resolve at the moment',
}

function reasonOf(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  return CONNECT_REASON[code] ?? (error.message || code)
}
