import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Channel } from '../src/channel.js'
import { runClient } from '../src/client.js'
import { acquireSums, type Sums } from '../src/digest.js'
import { FlistEncoder, type FlistFormat } from '../src/flist/codec.js'
import type { FileEntry } from '../src/flist/entry.js'
import { type Agreement, agreeAsServer, handshake } from '../src/handshake.js'
import type { RawPath } from '../src/raw-path.js'
import { CF, ITEM, NDX_DONE, S_IFDIR, S_IFLNK, S_IFREG } from '../src/wire/constants.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { encodeSumHead } from '../src/wire/sum-head.js'
import { PlainTokens } from '../src/wire/token.js'
import { temporaryDirectory } from './stage.js'
import { fakeServer, freePort } from './stock.js'

const COMMAND = fileURLToPath(new URL('../src/command.js', import.meta.url))
const RUN = `import(${JSON.stringify(COMMAND)}).then((m) => m.rsyncCommand(process.argv.slice(1)))`

/** How a process of ours is started that behaves as `rsync ARGS...`. */
export const ourCommand = (args: readonly string[]): [string, string[]] => [
  process.execPath,
  ['-e', RUN, '--', ...args],
]

/** The uid that modules are served as in these tests: no path is closed to root, so a leak shows at once. */
export interface DaemonOptions {
  /** Lines of the module's section. */
  module?: string[]
  globals?: string[]
  env?: Record<string, string>
}

/** Our daemon, as processes of its own, with a module `m` and a canary beside it. */
export class OurDaemon {
  #child: ChildProcess | undefined

  private constructor(
    readonly home: string,
    readonly port: number,
  ) {}

  static async start(t: TestContext, { module = [], globals = [], env = {} }: DaemonOptions = {}): Promise<OurDaemon> {
    const daemon = new OurDaemon(temporaryDirectory(t), await freePort())
    mkdirSync(daemon.module)
    mkdirSync(daemon.outside)
    const lines = [
      'use chroot = no',
      'uid = 0',
      'gid = 0',
      'read only = no',
      'reverse lookup = no',
      `log file = ${daemon.home}/log`,
      `lock file = ${daemon.home}/lock`,
      ...globals,
      '[m]',
      `path = ${daemon.module}`,
      ...module,
    ]
    writeFileSync(join(daemon.home, 'conf'), `${lines.join('\n')}\n`)
    const args = ['--daemon', '--no-detach', `--port=${daemon.port}`, '--address=127.0.0.1']
    const [program, words] = ourCommand([...args, `--config=${join(daemon.home, 'conf')}`])
    const child = spawn(program, words, {
      stdio: ['ignore', 'inherit', 'inherit'],
      detached: true,
      env: { ...process.env, ...env },
    })
    daemon.#child = child
    t.after(() => daemon.stop())
    for (let tries = 0; !daemon.log().includes('starting') || !(await greets(daemon.port)); tries++) {
      if (tries > 500 || child.exitCode !== null) throw new Error(`our daemon did not start: ${daemon.log()}`)
      await sleep(10)
    }
    return daemon
  }

  get module(): string {
    return join(this.home, 'module')
  }
  /** Beside the module: nothing in it may be read or written. */
  get outside(): string {
    return join(this.home, 'outside')
  }
  get url(): string {
    return `rsync://127.0.0.1:${this.port}/m/`
  }
  log(): string {
    const file = join(this.home, 'log')
    return existsSync(file) ? readFileSync(file, 'latin1') : ''
  }

  /** Of all processes of the daemon but the first: the front and the workers. */
  processes(): { pid: number; rssBytes: number; worker: boolean }[] {
    return children(this.#child?.pid ?? 0).map((pid) => ({
      pid,
      rssBytes: rssOf(pid),
      worker: commandLineOf(pid).includes('worker.js'),
    }))
  }

  get runs(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name)
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    process.kill(-child.pid, 'SIGKILL')
    await exited
  }
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const timer = setTimeout(() => socket.destroy(), 300)
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(socket.bytesRead > 0)
    })
    socket.once('data', () => socket.destroy())
  })
}

function children(parent: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1')
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1')
  } catch {
    return ''
  }
}

export function rssOf(pid: number): number {
  try {
    return Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}

/** An entry of a list, as a liar would have it. */
export function lie(path: string, more: Partial<FileEntry> = {}): FileEntry {
  return {
    path: path as RawPath,
    mode: S_IFREG | 0o644,
    size: 0,
    mtime: 1_700_000_000,
    mtimeNsec: 0,
    uid: 0,
    gid: 0,
    rdevMajor: 0,
    rdevMinor: 0,
    target: '',
    linkGroup: '',
    nlink: 1,
    hasContent: false,
    topDir: false,
    implied: false,
    sum: null,
    acl: null,
    xattrs: null,
    origin: null,
    state: 0,
    ...more,
  }
}
export const lieDirectory = (path: string, more: Partial<FileEntry> = {}) =>
  lie(path, { mode: S_IFDIR | 0o755, hasContent: true, ...more })
export const lieLink = (path: string, target: string) => lie(path, { mode: S_IFLNK | 0o777, target })

/** What one end says that keeps to no rules: the wire is ours, what goes over it is the test's. */
export class Liar {
  readonly ndx = new NdxCodec()
  readonly encoder: FlistEncoder

  constructor(
    readonly channel: Channel,
    readonly agreement: Agreement,
    readonly sums: Sums,
    readonly format: FlistFormat,
  ) {
    this.encoder = new FlistEncoder(format, channel.out)
  }

  get out() {
    return this.channel.out
  }

  /** A whole list, in the order of `entries`. */
  list(entries: readonly FileEntry[]): void {
    for (const entry of entries) this.encoder.encode(entry)
    this.encoder.end(0)
  }

  /** The content of a file, whoever asked for it. */
  content(ndx: number, text: string | Buffer, iflags = 0): void {
    const bytes = Buffer.from(text)
    this.ndx.encode(this.out, ndx)
    this.out.u16(ITEM.TRANSFER | iflags)
    encodeSumHead(this.out, { count: 0, blockLength: 0, s2Length: 0, remainder: 0 })
    const tokens = new PlainTokens(this.out)
    if (bytes.length > 0) tokens.literal(bytes)
    tokens.end()
    const { file } = this.sums
    file.reset()
    file.update(bytes)
    this.out.bytes(file.final())
  }

  /** Sends all; that nobody listens any more is no failure of a liar's. */
  async flush(): Promise<void> {
    try {
      await this.channel.flush()
    } catch {}
  }

  done(times: number): void {
    for (let i = 0; i < times; i++) this.ndx.encode(this.out, NDX_DONE)
  }

  /** Waits until the other end has closed, or until it is clear that it will not. Returns what it said of errors. */
  async end(waitMs = 5000): Promise<{ closed: boolean; errors: string[] }> {
    await this.flush()
    const timer = sleep(waitMs, 'late', { ref: false })
    const closed = this.channel.untilClosed().then(
      () => 'closed',
      () => 'closed',
    )
    const outcome = await Promise.race([closed, timer])
    this.channel.destroy()
    return { closed: outcome === 'closed', errors: this.channel.said.errors }
  }
}

const KEEPS = { users: false, groups: false, devices: false, specials: false, links: true }

function formatOf(agreement: Agreement, more: Partial<FlistFormat>): FlistFormat {
  return {
    protocol: agreement.protocol,
    varintFlags: (agreement.compatFlags & CF.VARINT_FLIST_FLAGS) !== 0,
    safeFlist: true,
    keeps: KEEPS,
    ...more,
  }
}

/** A client that lies to the daemon on `port`. `words` are behind `--server`. */
export async function lyingClient(
  port: number,
  words: readonly string[],
  paths: readonly string[],
  more: Partial<FlistFormat> & { incRecurse?: boolean; module?: string } = {},
): Promise<Liar> {
  const { incRecurse = false, module = 'm', ...format } = more
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const channel = new Channel(socket, 10_000, undefined)
  const agreement = await handshake(channel, {
    module,
    lists: false,
    compress: false,
    incRecurse,
    args: () => ['--server', ...words, '.', ...paths],
  } as never)
  if (agreement === null) throw new Error('no agreement')
  const sums = await acquireSums(agreement.checksum, agreement.seed, true)
  return new Liar(channel, agreement, sums, formatOf(agreement, format))
}

/** A server that lies to whoever connects; `lies` is told what was asked for. Returns its port. */
export function lyingServer(
  t: TestContext,
  lies: (liar: Liar, args: string[]) => Promise<void> | void,
  more: Partial<FlistFormat> & { incRecurse?: boolean; lasting?: boolean } = {},
): Promise<number> {
  const { incRecurse = false, lasting = false, ...format } = more
  return fakeServer(t, (socket) => {
    serveLies(socket, lies, { incRecurse, lasting }, format).catch(() => socket.destroy())
  })
}

async function serveLies(
  socket: Socket,
  lies: (liar: Liar, args: string[]) => Promise<void> | void,
  { incRecurse, lasting }: { incRecurse: boolean; lasting: boolean },
  format: Partial<FlistFormat>,
): Promise<void> {
  const channel = new Channel(socket, 10_000, undefined)
  channel.out.latin1('@RSYNCD: 31.0 sha512 md5\n')
  await channel.flush()
  const line = (end: number) =>
    channel.receive('line', (c) => {
      let text = ''
      for (let byte = c.u8(); byte !== end; byte = c.u8()) text += String.fromCharCode(byte)
      return { text }
    })
  await line(10)
  await line(10)
  channel.out.latin1('@RSYNCD: OK\n')
  await channel.flush()
  const args: string[] = []
  for (let { text } = await line(0); text !== ''; { text } = await line(0)) args.push(text)
  const capabilities = `LsfxCIvu${incRecurse ? 'i' : ''}${lasting ? '_' : ''}`
  const options = { capabilities, seed: 1, compress: false, incRecurse, lasting }
  const agreement = await agreeAsServer(channel, options as never, 31)
  const sums = await acquireSums(agreement.checksum, agreement.seed, true)
  const liar = new Liar(channel, agreement, sums, formatOf(agreement, format))
  await lies(liar, args)
  await liar.flush()
  await channel.untilClosed().catch(() => undefined)
  channel.destroy()
}

/** Our client, in this process. */
export async function ourClient(args: readonly string[], limitMs = 15_000): Promise<{ code: number; text: string }> {
  let text = ''
  const abort = new AbortController()
  const keep = (more: string) => {
    text += more
  }
  const timer = setTimeout(() => abort.abort(), limitMs)
  const raw = args.map((arg) => Buffer.from(arg).toString('latin1'))
  const code = await runClient(raw, { out: keep, err: keep } as never, abort.signal)
  clearTimeout(timer)
  return { code, text: abort.signal.aborted ? `HUNG: ${text}` : text }
}
