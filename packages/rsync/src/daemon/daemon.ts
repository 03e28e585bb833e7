import { type ChildProcess, fork, spawn } from 'node:child_process'
import { existsSync, fstatSync, readFileSync, rmSync, stat, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Output } from '../client-log.js'
import { close, duplicate, userIds } from '../kernel.js'
import { parseInvocation, UsageError } from '../options.js'
import type { RawPath } from '../raw-path.js'
import type { Invocation } from '../settings.js'
import { helpText, versionText } from '../usage.js'
import { RSYNC_VERSION } from '../version.js'
import { DEFAULT_PORT, RERR } from '../wire/constants.js'
import {
  type DaemonConfig,
  DaemonConfigError,
  entrance,
  expandModule,
  loadDaemonConfig,
  type ModuleConfig,
  needsReverseLookup,
  noticeLines,
  wantsChroot,
} from './config.js'
import { type Claim, claimConnection } from './connections.js'
import { resolveIdentity, UnknownIdentity } from './identity.js'
import { DaemonLog, LOG, REPLY } from './log.js'
import type { FromFront, FromWorker, FrontConfig, ToFront, ToWorker, WorkerConfig } from './messages.js'
import { authenticate } from './secrets.js'

const DEFAULT_CONFIG = '/etc/rsyncd.conf'
const DEFAULT_TLS_PORT = 874
/** How many connections the kernel keeps for us while we are busy; rsync's own 5 make a burst wait for seconds. */
const BACKLOG = 511
const RESTART_MS = 1000
/** What a worker may take for its lists and all else: Node's own limit is too low for trees of many million files. */
const WORKER_MIB = Math.max(4096, Math.floor(totalmem() / 2 ** 21))
/** Where the configuration names a client (%RSYNC_HOST_ADDR%), each has a worker, and a log, of its own: so many are kept. */
const IDLE_WORKERS_MAX = 32
const MODULE_LOGS_MAX = 64
/** How often it is looked whether the workers' directories are still those at the modules' paths. */
const LOOK_MS = 1000
const SD_LISTEN_FDS_START = 3
/** Where descriptors begin that a child gets beside standard input, output, errors and the channel to us. */
const FIRST_STDIO = 4

type Handle = { close(): void }

interface Listener {
  fd: number
  tls: boolean
}

/** `rsync --daemon`. Resolves to the exit code when it has ended. */
export async function daemonCommand(args: readonly string[], output: Output): Promise<number> {
  let invocation: Invocation
  let config: DaemonConfig
  const file = () => invocation.config ?? DEFAULT_CONFIG
  try {
    invocation = parseInvocation(args, process.env)
    if (invocation.help !== null) {
      output.out(helpText(invocation.help))
      return 0
    }
    if (invocation.version) {
      output.out(versionText())
      return 0
    }
    config = loadDaemonConfig(file())
  } catch (error) {
    if (error instanceof UsageError) {
      output.err(`${error.message}\n`)
      return error.exitCode
    }
    if (!(error instanceof DaemonConfigError)) throw error
    output.err(`rsync: ${error.message}\n`)
    return RERR.SYNTAX
  }
  if (invocation.detach && process.env.SYNCLINE_DETACHED !== '1' && !activated()) return detach(output)
  const monitor = new Monitor(invocation, config, () => loadDaemonConfig(file()))
  return monitor.run(output)
}

const activated = () =>
  (process.env.LISTEN_PID === String(process.pid) && Number(process.env.LISTEN_FDS) > 0) || fstatSync(0).isSocket()

/** Starts itself once more, in a session of its own, and ends when that one listens, or has said why it cannot. */
function detach(output: Output): Promise<number> {
  const child = spawn(process.execPath, process.argv.slice(1), {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    env: { ...process.env, SYNCLINE_DETACHED: '1' },
  })
  return new Promise((resolve) => {
    child.stderr?.on('data', (chunk: Buffer) => output.err(chunk.toString('latin1')))
    child.once('message', () => {
      child.disconnect()
      child.stderr?.destroy()
      child.unref()
      resolve(0)
    })
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

interface Connection {
  module: ModuleConfig
  host: string
  address: string
  claim: Claim | null
  user: string
  readOnly: boolean
  worker: Worker | null
  /** It has been given to its worker. */
  entered: boolean
}

/** A process that serves a module; `ready` says why it cannot. */
interface Worker {
  key: string
  /** The directory that it has open: at the module's path there may be another one by now. */
  place: string
  path: string
  process: ChildProcess
  jobs: Set<number>
  ready: Promise<{ reply: string; log: string } | null>
  retired: boolean
  /** It is being looked whether `place` is still at `path`. */
  looking: boolean
}

/** The one privileged process of a daemon: it opens what must be opened, decides, and starts the others. */
class Monitor {
  readonly #log = new DaemonLog()
  /** Modules may have log files of their own: what happens once a client is in one is told there. */
  readonly #moduleLogs = new Map<RawPath, DaemonLog>()
  readonly #connections = new Map<number, Connection>()
  readonly #workers = new Set<Worker>()
  readonly #asRoot = process.geteuid?.() === 0
  /** They stay open here, though only the front accepts: while it is replaced, clients wait. */
  #listeners: Listener[] = []
  #front: ChildProcess | undefined
  /** The highest that a front has given to a connection; the first follow our own, for the log. */
  #lastId = process.pid - 1
  /** Nobody new gets in: after SIGTERM, or because there is one connection only. */
  #stopping = false
  /** SIGTERM was heard. */
  #ending = false
  #finish: (code: number) => void = () => undefined

  constructor(
    readonly invocation: Invocation,
    public config: DaemonConfig,
    readonly load: () => DaemonConfig,
  ) {}

  async run(output: Output): Promise<number> {
    try {
      this.#openLog()
      this.#writePidFile()
    } catch (error) {
      output.err(`rsync: ${(error as Error).message}\n`)
      return RERR.FILEIO
    }
    for (const notice of this.config.notices) for (const line of noticeLines(notice)) this.#log.write(line)
    const ended = new Promise<number>((resolve) => {
      this.#finish = resolve
    })
    process.on('SIGTERM', () => this.#stop())
    process.on('SIGINT', () => this.#stop())
    process.on('SIGHUP', () => this.#reload())
    try {
      this.#listeners = await this.#listen()
      await this.#startFront()
    } catch (error) {
      output.err(`rsync: [Receiver] ${bindProblem(error as NodeJS.ErrnoException)}\n`)
      this.#removePidFile()
      return RERR.SOCKETIO
    }
    process.send?.('listening')
    const looking = setInterval(() => this.#retireReplaced(), LOOK_MS)
    const code = await ended
    clearInterval(looking)
    this.#removePidFile()
    return code
  }

  #openLog(): void {
    const file = this.invocation.settings.logFile ?? this.config.defaults.logFile
    this.#log.open(file as never)
  }

  #logOf({ logFile }: ModuleConfig): DaemonLog {
    const { settings } = this.invocation
    if (settings.logFile !== null || logFile === '' || logFile === this.config.defaults.logFile) return this.#log
    const known = this.#moduleLogs.get(logFile)
    if (known !== undefined) {
      this.#moduleLogs.delete(logFile) // so that the first one is the one that was used the longest ago
      this.#moduleLogs.set(logFile, known)
      return known
    }
    const [oldest] = this.#moduleLogs
    if (this.#moduleLogs.size >= MODULE_LOGS_MAX) this.#closeModuleLog(...oldest)
    const log = new DaemonLog()
    try {
      log.open(logFile)
    } catch (error) {
      this.#log.write(LOG.failed(`failed to open log-file ${logFile}`, error as Error))
      this.#moduleLogs.set(logFile, this.#log) // until SIGHUP
      return this.#log
    }
    this.#moduleLogs.set(logFile, log)
    return log
  }

  #closeModuleLog(file: RawPath, log: DaemonLog): void {
    this.#moduleLogs.delete(file)
    if (log !== this.#log) log.close()
  }

  #writePidFile(): void {
    const { pidFile } = this.config.globals
    if (pidFile === '') return
    if (existsSync(pidFile) && isRunning(pidFile))
      throw new Error(`failed to create pid file ${pidFile}: File exists (17); a daemon is running with it`)
    writeFileSync(Buffer.from(pidFile, 'latin1'), `${process.pid}\n`)
  }

  #removePidFile(): void {
    if (this.config.globals.pidFile !== '') rmSync(Buffer.from(this.config.globals.pidFile, 'latin1'), { force: true })
  }

  // Listening

  /** What to listen on, opened; ports below 1024 need our rights. None in inetd's place: there is one connection. */
  async #listen(): Promise<Listener[]> {
    const { globals } = this.config
    const given = Number(process.env.LISTEN_FDS)
    if (process.env.LISTEN_PID === String(process.pid) && given > 0)
      return Array.from({ length: given }, (_, i) => ({ fd: taken(SD_LISTEN_FDS_START + i), tls: false }))
    if (fstatSync(0).isSocket()) return []
    const port = this.invocation.port ?? (globals.port || DEFAULT_PORT)
    const address = this.invocation.address ?? (globals.address === '' ? undefined : globals.address)
    const host = address === undefined ? {} : { host: address }
    const found = [{ fd: await listening({ port, ...host, backlog: BACKLOG }), tls: false }]
    this.#log.write(LOG.started(RSYNC_VERSION, port))
    if (globals.sslCertificate !== '' && globals.sslKey !== '') {
      const tlsPort = globals.sslPort || DEFAULT_TLS_PORT
      found.push({ fd: await listening({ port: tlsPort, ...host, backlog: BACKLOG }), tls: true })
    }
    return found
  }

  async #startFront(): Promise<void> {
    const listeners = this.#listeners
    const front = fork(fileURLToPath(new URL('./front.js', import.meta.url)), [`${this.#lastId + 1}`], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...listeners.map(({ fd }) => fd)],
    })
    this.#front = front
    front.on('message', (message: FromFront, handle: unknown) => void this.#hear(message, handle as Handle))
    front.once('exit', () => this.#frontEnded())
    this.#tellFront({ kind: 'config', config: this.#frontConfig() })
    await new Promise<void>((resolve) => front.once('message', () => resolve()))
    for (const [i, { tls }] of listeners.entries()) this.#tellFront({ kind: 'listen', fd: FIRST_STDIO + i, tls })
    if (listeners.length === 0) {
      // inetd, or a systemd socket with Accept=yes: standard input is the one connection.
      const { Socket } = await import('node:net')
      const socket = new Socket({ fd: 0, readable: true, writable: true, pauseOnCreate: true } as never)
      front.send({ kind: 'connection' } satisfies ToFront, (socket as unknown as { _handle: Handle })._handle as never)
      this.#stopping = true
    }
  }

  /** A front that crashed is replaced; what was logging in is lost, what has a worker goes on. */
  #frontEnded(): void {
    this.#front = undefined
    for (const [id, { entered }] of [...this.#connections]) if (!entered) this.#release(id)
    if (this.#stopping) return this.#endIfIdle()
    this.#log.write('the process that accepts connections has ended; starting another')
    setTimeout(() => {
      if (this.#stopping) this.#endIfIdle()
      else void this.#startFront()
    }, RESTART_MS)
  }

  #tellFront(message: ToFront): void {
    if (this.#front?.connected) this.#front.send(message)
  }

  #frontConfig(from = this.config): FrontConfig {
    const { globals, modules, defaults } = from
    const nobody = this.#asRoot ? frontIdentity(globals.daemonUid) : null
    return {
      uid: nobody?.uid ?? null,
      gid: nobody?.gid ?? null,
      modules: [...modules.values()].map((module) => ({
        ...pick(module),
        authenticates: module.authUsers !== '',
      })),
      reverseLookup: needsReverseLookup(from),
      globalLookup: defaults.reverseLookup,
      motd: readMotd(globals.motdFile),
      tls:
        globals.sslCertificate === '' || globals.sslKey === ''
          ? null
          : {
              certificate: readFileSync(Buffer.from(globals.sslCertificate, 'latin1'), 'utf8'),
              key: readFileSync(Buffer.from(globals.sslKey, 'latin1'), 'utf8'),
            },
    }
  }

  // What the front asks

  async #hear(message: FromFront, handle: Handle): Promise<void> {
    if ('id' in message) this.#lastId = Math.max(this.#lastId, message.id)
    switch (message.kind) {
      case 'ready':
        return
      case 'log':
        return this.#log.write(message.line, message.id)
      case 'claim':
        return this.#tellFront({ kind: 'answer', id: message.id, reply: this.#claim(message) })
      case 'login':
        return this.#tellFront({ kind: 'answer', id: message.id, reply: await this.#login(message) })
      case 'enter':
        return this.#enter(message, handle)
      case 'gone':
        return this.#release(message.id)
      case 'idle':
        return this.#endIfIdle()
    }
  }

  /** Null lets it on; else what the client is told. */
  #claim({ id, module: name, host, address }: FromFront & { kind: 'claim' }): string | null {
    const found = this.config.modules.get(name)
    if (found === undefined) return REPLY.unknownModule(name)
    const module = expandModule(found, { RSYNC_MODULE_NAME: name, RSYNC_HOST_NAME: host, RSYNC_HOST_ADDR: address })
    let claim: Claim | null
    try {
      claim = claimConnection(module.lockFile, module.maxConnections)
    } catch (error) {
      this.#log.write(LOG.failed(`failed to open lock file ${module.lockFile}`, error as Error), id)
      return REPLY.lockFile
    }
    if (claim === null) {
      this.#log.write(LOG.maxConnections(module.maxConnections), id)
      return REPLY.maxConnections(module.maxConnections)
    }
    this.#connections.set(id, {
      module,
      host,
      address,
      claim,
      user: '',
      readOnly: module.readOnly,
      worker: null,
      entered: false,
    })
    return null
  }

  async #login({ id, auth, host }: FromFront & { kind: 'login' }): Promise<string | null> {
    const connection = this.#connections.get(id)
    if (connection === undefined) return REPLY.protocolError
    connection.host = host
    const { module, address } = connection
    if (module.authUsers !== '') {
      if (auth === null) return REPLY.authFailed(module.name)
      const result = await authenticate(auth, module)
      if (!this.#connections.has(id)) return REPLY.protocolError // the front is gone, and whoever was logging in
      if (!result.ok) {
        for (const line of result.log) this.#log.write(line, id)
        this.#log.write(LOG.authFailed(module.name, host, address, auth.user, result.cause), id)
        return REPLY.authFailed(module.name)
      }
      connection.user = result.user
      connection.readOnly = result.readOnly ?? module.readOnly
      const found = this.config.modules.get(module.name) as ModuleConfig
      connection.module = expandModule(found, {
        RSYNC_MODULE_NAME: module.name,
        RSYNC_HOST_NAME: host,
        RSYNC_HOST_ADDR: address,
        RSYNC_USER_NAME: result.user,
      })
    }
    return this.#assign(id, connection)
  }

  /** Finds, or starts, a worker for the module. */
  async #assign(id: number, connection: Connection): Promise<string | null> {
    const { module } = connection
    let config: WorkerConfig
    try {
      config = this.#workerConfig(module)
    } catch (error) {
      if (!(error instanceof UnknownIdentity)) throw error
      this.#log.write(error.message, id)
      return REPLY.unknownIdentity(error.kind, error.value)
    }
    if (module.path === '') {
      this.#log.write(LOG.noPath(module.name), id)
      return REPLY.noPath
    }
    const worker = this.#workerFor(config)
    worker.jobs.add(id)
    connection.worker = worker
    const refused = await worker.ready
    if (refused === null) return null
    connection.worker = null
    this.#leave(worker, id)
    this.#logOf(module).write(refused.log, id)
    return refused.reply
  }

  #workerConfig(module: ModuleConfig): WorkerConfig {
    const chroot = wantsChroot(module) ?? this.#asRoot
    const identity = resolveIdentity(module, this.#asRoot)
    const { root, inside, mungeSymlinks, numericIds } = entrance(module, chroot)
    return { module, chroot, root, inside, mungeSymlinks, numericIds, ...identity }
  }

  /** The least busy one; another is started while all are busy and the machine has cores for more. */
  #workerFor(config: WorkerConfig): Worker {
    const key = JSON.stringify(config)
    const place = placeOf(config.module.path)
    const alike = [...this.#workers].filter((worker) => worker.key === key && !worker.retired)
    for (const worker of alike) if (worker.place !== place) this.#retire(worker)
    const fitting = alike.filter((worker) => !worker.retired)
    const best = fitting.sort((a, b) => a.jobs.size - b.jobs.size).at(0)
    if (best !== undefined && (best.jobs.size === 0 || fitting.length >= availableParallelism())) return best
    const idle = [...this.#workers].filter(({ retired, jobs }) => !retired && jobs.size === 0)
    if (idle.length >= IDLE_WORKERS_MAX) this.#retire(idle[0])
    return this.#startWorker(key, place, config)
  }

  /** Sessions that last, and wait for what their clients want next, would wait in a directory that has been replaced. */
  #retireReplaced(): void {
    for (const worker of this.#workers) {
      if (worker.retired || worker.looking) continue
      worker.looking = true
      // A filesystem that hangs must not hold up everybody else.
      stat(Buffer.from(worker.path, 'latin1'), { bigint: true }, (error, found) => {
        worker.looking = false
        if (worker.place !== (error === null ? `${found.dev}:${found.ino}` : '')) this.#retire(worker)
      })
    }
  }

  #startWorker(key: string, place: string, config: WorkerConfig): Worker {
    const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      execArgv: [`--max-old-space-size=${WORKER_MIB}`],
    })
    let settle: (refused: { reply: string; log: string } | null) => void = () => undefined
    const ready = new Promise<{ reply: string; log: string } | null>((resolve) => {
      settle = resolve
    })
    const { path } = config.module
    const worker: Worker = { key, place, path, process: child, jobs: new Set(), ready, retired: false, looking: false }
    this.#workers.add(worker)
    child.on('message', (message: FromWorker) => {
      if (message.kind === 'started') settle(null)
      else if (message.kind === 'refused') {
        settle(message)
        this.#retire(worker)
      } else if (message.kind === 'log') this.#logOf(config.module).write(message.line, message.id)
      else if (message.kind === 'faulty') this.#retire(worker)
      else this.#release(message.id)
    })
    child.once('exit', (code, signal) => {
      settle({ reply: '@ERROR: the module cannot be served', log: `a worker ended with ${signal ?? code}` })
      this.#workers.delete(worker)
      for (const id of worker.jobs) this.#release(id)
      this.#endIfIdle()
    })
    child.send({ kind: 'start', config } satisfies ToWorker)
    return worker
  }

  /** Nobody new gets this worker. Sessions that wait for their clients end, the others may finish. */
  #retire(worker: Worker): void {
    if (!worker.retired && worker.process.connected) worker.process.send({ kind: 'stop' } satisfies ToWorker)
    worker.retired = true
    this.#endIfDone(worker)
  }

  /** A connection that was promised this worker has ended, or was never given to it. */
  #leave(worker: Worker, id: number): void {
    worker.jobs.delete(id)
    this.#endIfDone(worker)
  }

  /** It is we who end it: only here is it known who has been promised it, and is still on the way. */
  #endIfDone(worker: Worker): void {
    if (worker.retired && worker.jobs.size === 0 && worker.process.connected) worker.process.disconnect()
  }

  /** Gives the connection to its worker. */
  #enter({ id, early, protocol }: FromFront & { kind: 'enter' }, handle: Handle | undefined): void {
    const connection = this.#connections.get(id)
    if (handle === undefined) return this.#release(id)
    if (connection?.worker?.process.connected !== true) {
      handle.close()
      return this.#release(id)
    }
    connection.entered = true
    const { user, host, address, readOnly, worker } = connection
    const job = { id, early, protocol, user, host, address, readOnly }
    worker.process.send({ kind: 'job', job } satisfies ToWorker, handle as never, undefined, () => handle.close())
    if (this.#ending) this.#retire(worker)
  }

  #release(id: number): void {
    const connection = this.#connections.get(id)
    if (connection === undefined) return
    this.#connections.delete(id)
    connection.claim?.release()
    if (connection.worker !== null) this.#leave(connection.worker, id)
    this.#endIfIdle()
  }

  // Signals

  /** SIGHUP: what is going on goes on as it was; what comes next finds the new configuration. */
  #reload(): void {
    let next: DaemonConfig
    let front: FrontConfig
    try {
      next = this.load()
      front = this.#frontConfig(next)
    } catch (error) {
      this.#log.write(`the configuration was not reloaded: ${(error as Error).message}`)
      return
    }
    this.config = next
    try {
      this.#openLog()
      this.#log.reopen()
      for (const [file, log] of this.#moduleLogs) this.#closeModuleLog(file, log)
    } catch (error) {
      this.#log.write(`the log file was not reopened: ${(error as Error).message}`)
    }
    for (const notice of next.notices) for (const line of noticeLines(notice)) this.#log.write(line)
    for (const worker of this.#workers) this.#retire(worker)
    this.#tellFront({ kind: 'config', config: front })
  }

  /** The first time nobody new gets in, and who is in may finish; the second time ends it at once. */
  #stop(): void {
    if (this.#stopping) {
      for (const worker of this.#workers) worker.process.kill('SIGKILL')
      this.#front?.kill('SIGKILL')
      this.#finish(0)
      return
    }
    this.#stopping = true
    this.#ending = true
    for (const worker of this.#workers) this.#retire(worker)
    for (const { fd } of this.#listeners.splice(0)) close(fd)
    this.#tellFront({ kind: 'stop' })
    this.#endIfIdle()
  }

  #endIfIdle(): void {
    if (!this.#stopping || this.#connections.size > 0) return
    this.#front?.kill('SIGKILL')
    for (const worker of this.#workers) this.#retire(worker)
    if (this.#workers.size === 0) this.#finish(0)
  }
}

const FRONT_FIELDS = [
  'name',
  'comment',
  'path',
  'list',
  'hostsAllow',
  'hostsDeny',
  'reverseLookup',
  'forwardLookup',
  'authDigest',
  'maxConnections',
] as const

const pick = (module: ModuleConfig) =>
  Object.fromEntries(FRONT_FIELDS.map((field) => [field, module[field]])) as Pick<
    ModuleConfig,
    (typeof FRONT_FIELDS)[number]
  >

/** Whom the front becomes; a machine without `nobody` has the number. */
function frontIdentity(name: string): { uid: number; gid: number } {
  return userIds(name === '' ? 'nobody' : name) ?? { uid: 65534, gid: 65534 }
}

/** What stands at a path: it may have been replaced, or something been mounted there. */
function placeOf(path: string): string {
  try {
    const { dev, ino } = statSync(Buffer.from(path, 'latin1'), { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return '' // the worker that is started for it finds out why
  }
}

const MOTD_MAX = 1 << 16

function readMotd(file: string): string {
  if (file === '') return ''
  try {
    const text = readFileSync(Buffer.from(file, 'latin1'), 'latin1').slice(0, MOTD_MAX)
    return `${text.replace(/\n?$/, '\n')}\n`
  } catch {
    return ''
  }
}

function isRunning(pidFile: string): boolean {
  const pid = Number(readFileSync(Buffer.from(pidFile, 'latin1'), 'latin1').trim())
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/**
 * A descriptor that listens. Node's own server would accept too: it is closed in the tick in which it starts to listen,
 * before it has had the time.
 */
function listening(options: { port: number; host?: string; backlog: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(options, () => {
      resolve(duplicate((server as unknown as { _handle: { fd: number } })._handle.fd))
      server.close()
    })
  })
}

/** A descriptor that we were started with, under a number that no child inherits. */
function taken(fd: number): number {
  const own = duplicate(fd)
  close(fd)
  return own
}

function bindProblem(error: NodeJS.ErrnoException): string {
  const reasons: Record<string, string> = {
    EADDRINUSE: 'Address already in use (98)',
    EACCES: 'Permission denied (13)',
    EADDRNOTAVAIL: 'Cannot assign requested address (99)',
  }
  return `bind() failed: ${reasons[error.code ?? ''] ?? error.message}`
}
