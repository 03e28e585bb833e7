import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from './eventually.js'
import type { Stage } from './stage.js'

export const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url))

/** The stock rsyncs under test: the machine's own, and those that scripts/old-rsync.mjs fetched. */
export const STOCK = 'rsync'
export const oldRsync = (version: '3.2.7' | '3.2.3') => join(REPOSITORY, '.cache/old-rsync', version, 'rsync')
export const EVERY_RSYNC = [STOCK, oldRsync('3.2.7'), oldRsync('3.2.3')]

export function versionOf(rsync: string): string {
  if (rsync !== STOCK && !existsSync(rsync)) throw new Error(`${rsync} is missing: run node scripts/old-rsync.mjs`)
  const text = execFileSync(rsync, ['--version'], { encoding: 'utf8' })
  return /version (\S+)/.exec(text)?.[1] ?? 'unknown'
}

/**
 * Whether a receiver of this version can be told to tell apart two times within one second. Where it cannot, what a full
 * sync makes within the second in which the source was made keeps the time at which it was made.
 */
export const comparesNanoseconds = (rsync: string) => versionOf(rsync) !== '3.2.3'

/** rsyncd.conf parameters by their own names. */
export type Parameters = Record<string, string | number | boolean>

export interface DaemonOptions {
  rsync?: string
  /** Module name to its directory, or to its parameters (`path` among them). */
  modules: Record<string, string | (Parameters & { path: string })>
  global?: Parameters
}

/** A stock rsync daemon on a free port of 127.0.0.1, with everything it prints and logs at hand. */
export class Daemon {
  readonly port: number
  readonly #home: string
  readonly #options: DaemonOptions
  #rsync: string
  #child: ChildProcess | undefined

  private constructor(stage: Stage, port: number, options: DaemonOptions) {
    this.port = port
    this.#home = stage.dir(`daemon-${port}`)
    this.#options = options
    this.#rsync = options.rsync ?? STOCK
  }

  static async start(stage: Stage, options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(stage, await freePort(), options)
    stage.defer(() => daemon.kill())
    stage.witness(`rsync daemon on port ${daemon.port}`, () => daemon.log())
    await daemon.start()
    return daemon
  }

  /** Starts it again on the same port, perhaps as another version of rsync. */
  async start(rsync: string = this.#rsync): Promise<void> {
    this.#rsync = rsync
    writeFileSync(join(this.#home, 'rsyncd.conf'), this.#configuration())
    const parameters = ['--daemon', '--no-detach', `--port=${this.port}`, '--address=127.0.0.1']
    const child = spawn(rsync, [...parameters, `--config=${join(this.#home, 'rsyncd.conf')}`], {
      stdio: 'ignore',
      detached: true, // a process group of its own: its children are stopped and killed with it
    })
    this.#child = child
    await until(`${rsync} answers on port ${this.port}`, () => answers(this.port), { problem: () => this.log() })
  }

  url(module: string, path = '', user = ''): string {
    return urlOf(this.port, module, path, user)
  }

  /** What it has logged so far. */
  log(): string {
    const file = join(this.#home, 'log')
    return existsSync(file) ? readFileSync(file, 'latin1') : ''
  }

  /** How many lines of the log contain `text`. */
  logged(text: string): number {
    return this.log()
      .split('\n')
      .filter((line) => line.includes(text)).length
  }

  /** As an operator stops it: the daemon and its connections get SIGTERM. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  /** As the kernel or a power cut stops it. */
  async kill(): Promise<void> {
    this.resume()
    await this.#end('SIGKILL')
  }

  pause(): void {
    this.#signal('SIGSTOP')
  }

  resume(): void {
    this.#signal('SIGCONT')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const exited = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
    this.#signal(signal)
    await exited
    this.#child = undefined
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#child?.pid === undefined) return
    try {
      process.kill(-this.#child.pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }

  #configuration(): string {
    const global: Parameters = {
      'log file': join(this.#home, 'log'),
      'lock file': join(this.#home, 'lock'),
      // Without chroot a stock daemon bends symlinks that point outside the module, however they are sent.
      'use chroot': true,
      'munge symlinks': false,
      uid: 'root',
      gid: 'root',
      'read only': false,
      'reverse lookup': false,
      'max verbosity': 0,
      ...this.#options.global,
    }
    const lines = (parameters: Parameters) =>
      Object.entries(parameters)
        .map(([key, value]) => `${key} = ${typeof value === 'boolean' ? (value ? 'yes' : 'no') : value}\n`)
        .join('')
    const modules = Object.entries(this.#options.modules).map(([name, module]) => {
      const parameters = typeof module === 'string' ? { path: module } : module
      mkdirSync(parameters.path, { recursive: true })
      return `[${name}]\n${lines(parameters)}`
    })
    return lines(global) + modules.join('')
  }
}

export function urlOf(port: number, module: string, path = '', user = ''): string {
  return `rsync://${user === '' ? '' : `${user}@`}127.0.0.1:${port}/${module}${path === '' ? '' : `/${path}`}`
}

/** A secrets file as rsyncd wants it: readable by root alone. */
export function writeSecret(path: string, text: string, mode = 0o600): string {
  writeFileSync(path, `${text}\n`, { mode })
  return path
}

/** Takes one of the module's `max connections` and keeps it until the returned function is called. */
export async function occupy(port: number, module: string): Promise<() => void> {
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('latin1')
  let said = ''
  socket.on('data', (text: string) => {
    said += text
  })
  socket.on('error', () => {})
  socket.write(`@RSYNCD: 31.0\n${module}\n`)
  await until('the daemon took the connection', () => said.includes('@RSYNCD: OK'), { problem: () => said })
  return () => socket.destroy()
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
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
