import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Side } from '../interop/sides.js'
import { freePort } from './daemon.js'
import { PATIENCE_MS, until } from './eventually.js'
import type { Stage } from './stage.js'

export interface RsyncdOptions {
  /** In place of `--no-detach`. */
  args?: readonly string[]
  env?: Record<string, string>
  port?: number
  /** Program and arguments in front of the daemon's own, as `ip netns exec NAME`. */
  prefix?: readonly string[]
  /** It listens in another network namespace: only its log says so. */
  elsewhere?: boolean
  /** `--address` and `--port` are in the configuration, or come with the sockets. */
  unbound?: boolean
}

/** An rsync daemon, a stock one or ours, with an rsyncd.conf of the test's own. */
export class Rsyncd {
  stderr = ''
  #child: ChildProcess | undefined
  #exit: Promise<string> | undefined

  private constructor(
    readonly side: Side,
    readonly home: string,
    readonly port: number,
  ) {}

  /** In the configuration, HOME is a directory of this daemon's; its `log file`, `lock file` and `pid file` are there. */
  static async start(stage: Stage, side: Side, configuration: string, options: RsyncdOptions = {}): Promise<Rsyncd> {
    const port = options.port ?? (await freePort())
    const rsyncd = new Rsyncd(side, stage.dir(`rsyncd-${side.name}-${port}`), port)
    rsyncd.configure(configuration)
    stage.defer(() => rsyncd.kill())
    stage.witness(`daemon ${side.name} on port ${port}`, () => rsyncd.log() + rsyncd.stderr)
    await rsyncd.start(options)
    return rsyncd
  }

  configure(configuration: string): void {
    const global = configuration.split('[', 1)[0]
    const own = ['log', 'lock', 'pid'].filter((name) => !new RegExp(`^${name} file\\b`, 'm').test(global))
    const text = own.map((name) => `${name} file = HOME/${name}\n`).join('') + configuration
    writeFileSync(this.file, text.replaceAll('HOME', this.home))
  }

  async start({ args = ['--no-detach'], env = {}, prefix = [], ...how }: RsyncdOptions = {}): Promise<void> {
    const command = [...prefix, ...this.side.command, '--daemon', ...args]
    if (!how.unbound) command.push('--address=127.0.0.1', `--port=${this.port}`)
    command.push(`--config=${this.file}`)
    const child = spawn(command[0], command.slice(1), {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', ...env },
      detached: true, // a process group, so that its children end with it
    })
    child.stderr.setEncoding('latin1').on('data', (text: string) => {
      this.stderr += text
    })
    this.#child = child
    this.#exit = once(child, 'exit').then(([code, signal]) => `${code ?? signal}`)
    const ready = () => (how.elsewhere ? this.log().includes('listening on port') : listens(this.port))
    await until('it listens', ready, { problem: () => this.log() + this.stderr })
  }

  get file(): string {
    return join(this.home, 'rsyncd.conf')
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  log(): string {
    const file = join(this.home, 'log')
    return existsSync(file) ? readFileSync(file, 'latin1') : ''
  }

  /** What it has logged, without times and process ids. */
  lines(): string[] {
    return this.log()
      .split('\n')
      .slice(0, -1)
      .map((line) => line.replace(/^\S+ \S+ \[\d+\] /, ''))
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** The exit code, or the signal. */
  async ended(): Promise<string> {
    return (await this.#exit) ?? 'never started'
  }

  async kill(): Promise<void> {
    if (this.#child?.pid === undefined) return
    try {
      process.kill(-this.#child.pid, 'SIGKILL')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
    await this.#exit
    // Its children may take a moment longer; until then the port looks as if somebody listened.
    await until('nobody listens any more', () => !listens(this.port))
  }
}

const LISTEN = '0A'

/** Whether something listens on this port, without connecting to it. */
export function listens(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return ['/proc/net/tcp', '/proc/net/tcp6'].some((file) =>
    readFileSync(file, 'latin1')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .some(([, local, , state]) => local?.endsWith(`:${hex}`) && state === LISTEN),
  )
}

/** How many connections to this port processes still have open: who has none any more has logged all that it has to say. */
export function served(port: number): number {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((file) => readFileSync(file, 'latin1').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, local, , state, , , , , , inode = '0']) => local?.endsWith(`:${hex}`) && state !== LISTEN && inode !== '0',
    ).length
}

export interface Ending {
  /** The exit code, or the signal. */
  exit: string
  stdout: string
  stderr: string
}

export interface ClientOptions {
  env?: Record<string, string | undefined>
  cwd?: string
  uid?: number
  prefix?: readonly string[]
  /** Is called once it runs. */
  during?: (child: ChildProcess) => Promise<void> | void
}

/** Runs an rsync to its end. */
export async function runRsync(side: Side, args: readonly string[], options: ClientOptions = {}): Promise<Ending> {
  const [program, ...parameters] = [...(options.prefix ?? []), ...side.command, ...args]
  const child = spawn(program, parameters, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC', USER: 'nobody', ...options.env },
    ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    detached: true,
  })
  const ending = { exit: '', stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('latin1').on('data', (text: string) => {
      ending[name] += text
    })
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
  const closed = once(child, 'close')
  try {
    await options.during?.(child)
  } catch (error) {
    throw new Error(`${ending.stdout}${ending.stderr}`, { cause: error })
  }
  const [code, signal] = await closed
  clearTimeout(timer)
  return { ...ending, exit: `${code ?? signal}` }
}
