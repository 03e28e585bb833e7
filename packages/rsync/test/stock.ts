import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { CHECKSUMS } from '../src/digest.js'
import { Session, type SessionOptions } from '../src/index.js'
import { temporaryDirectory } from './stage.js'

const CACHE = fileURLToPath(new URL('../../../../.cache/old-rsync', import.meta.url))

/** The stock rsyncs that we speak to: the machine's own (3.5.0 in its image), and what scripts/old-rsync.mjs fetched. */
export const RSYNCS = { stock: 'rsync', '3.2.7': join(CACHE, '3.2.7/rsync'), '3.2.3': join(CACHE, '3.2.3/rsync') }
export type Version = keyof typeof RSYNCS
export const VERSIONS = Object.keys(RSYNCS) as Version[]

/** What a version can sum up; SHA-1 came with 3.3. */
export const checksumsOf = (version: Version) => CHECKSUMS.filter((name) => version === 'stock' || name !== 'sha1')

type Parameters = Record<string, string | number>

/** A stock rsync daemon on 127.0.0.1 with one writable module `m`. */
export class StockDaemon {
  #child: ChildProcess | undefined

  private constructor(
    readonly version: Version,
    readonly port: number,
    readonly home: string,
  ) {}

  static async start(t: TestContext, version: Version, parameters: Parameters = {}): Promise<StockDaemon> {
    const program = RSYNCS[version]
    if (version !== 'stock' && !existsSync(program))
      throw new Error(`${program} is missing: run node scripts/old-rsync.mjs`)
    const daemon = new StockDaemon(version, await freePort(), temporaryDirectory(t))
    mkdirSync(daemon.module)
    writeFileSync(join(daemon.home, 'conf'), daemon.#configuration(parameters))
    const args = [
      '--daemon',
      '--no-detach',
      `--port=${daemon.port}`,
      '--address=127.0.0.1',
      `--config=${join(daemon.home, 'conf')}`,
    ]
    const child = spawn(program, args, { stdio: 'ignore', detached: true })
    daemon.#child = child
    t.after(() => daemon.stop())
    for (let tries = 0; !(await answers(daemon.port)); tries++) {
      if (tries > 500 || child.exitCode !== null) throw new Error(`${program} did not start: ${daemon.log()}`)
      await sleep(10)
    }
    return daemon
  }

  get module(): string {
    return join(this.home, 'module')
  }

  get url(): string {
    return `rsync://127.0.0.1:${this.port}/m/`
  }

  log(): string {
    const file = join(this.home, 'log')
    return existsSync(file) ? readFileSync(file, 'latin1') : ''
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    try {
      process.kill(-child.pid, 'SIGKILL') // its own process group: the daemon and its connections
    } catch {}
    await exited
  }

  #configuration(parameters: Parameters): string {
    const all: Parameters = {
      'log file': join(this.home, 'log'),
      'lock file': join(this.home, 'lock'),
      // Without chroot a stock daemon bends symlinks that point outside the module, however they are sent.
      'use chroot': 'yes',
      'munge symlinks': 'no',
      'numeric ids': 'no',
      uid: 'root',
      gid: 'root',
      'read only': 'no',
      'reverse lookup': 'no',
      ...parameters,
    }
    const lines = Object.entries(all).map(([key, value]) => `${key} = ${value}\n`)
    return `${lines.join('')}[m]\npath = ${this.module}\n`
  }
}

/** What most tests want of a session to `port`; `path` is the directory below the module. */
export function sessionOptions(port: number, path = '', more: Partial<SessionOptions> = {}): SessionOptions {
  return {
    remote: { host: '127.0.0.1', port, module: 'm', path },
    ignoreTimes: false,
    delete: false,
    rules: [],
    numericIds: true,
    compress: false,
    dryRun: false,
    timeoutMs: 10_000,
    ...more,
  }
}

export const openSession = (daemon: StockDaemon, path = '', more: Partial<SessionOptions> = {}) =>
  Session.open(sessionOptions(daemon.port, path, more))

export function rsync(program: string, args: string[], env: NodeJS.ProcessEnv = {}): string {
  return execFileSync(program, args, {
    encoding: 'latin1',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', ...env },
  })
}

/** All that one connection through a `Tap` carried. */
export interface Conversation {
  fromClient: Buffer
  fromServer: Buffer
}

/** A TCP proxy on 127.0.0.1 that remembers what passes, and may alter what passes from the client. */
export async function tap(t: TestContext, port: number, alter: (bytes: Buffer) => Buffer = (bytes) => bytes) {
  const conversations: Conversation[] = []
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const conversation: Conversation = { fromClient: Buffer.alloc(0), fromServer: Buffer.alloc(0) }
    conversations.push(conversation)
    const daemon = connect(port, '127.0.0.1')
    for (const socket of [client, daemon]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
    }
    client.on('data', (bytes) => {
      const altered = alter(bytes)
      conversation.fromClient = Buffer.concat([conversation.fromClient, altered])
      daemon.write(altered)
    })
    daemon.on('data', (bytes) => {
      conversation.fromServer = Buffer.concat([conversation.fromServer, bytes])
      client.write(bytes)
    })
    client.on('end', () => daemon.end())
    daemon.on('end', () => client.end())
    client.on('close', () => daemon.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { port: portOf(server.address()), conversations }
}

/** A server that does with each connection what the test says. */
export async function fakeServer(t: TestContext, serve: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    serve(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return portOf(server.address())
}

const LISTEN = '0A'

/** What the kernel knows of sockets at this port: how many listen, and how many connections processes still have open. */
export function socketsAt(port: number): { listening: number; open: number } {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  const here = ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((file) => readFileSync(file, 'latin1').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local]) => local?.endsWith(`:${hex}`))
  const listening = here.filter(([, , , state]) => state === LISTEN).length
  const open = here.filter(([, , , state, , , , , , inode = '0']) => state !== LISTEN && inode !== '0').length
  return { listening, open }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const port = portOf(server.address())
  server.close()
  await once(server, 'close')
  return port
}

function portOf(address: ReturnType<ReturnType<typeof createServer>['address']>): number {
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
    socket.on('data', () => {
      resolve(true)
      socket.destroy()
    })
  })
}
