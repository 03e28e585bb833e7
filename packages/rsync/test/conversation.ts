import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type DaemonConfig, loadDaemonConfig } from '../src/daemon/config.js'
import { temporaryDirectory } from './stage.js'
import { freePort, socketsAt } from './stock.js'

export const GREETING = '@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4'

/** What a client says. */
export interface Client {
  module: string
  greeting?: string
  /** To the challenge. */
  answer?: (challenge: string) => string
  /** The address that it comes from. */
  from?: string
}

/** What stock rsync does with a configuration that a test wrote: what it answers and what it logs. */
export class StockConfiguration {
  #child: ChildProcess | undefined

  private constructor(
    readonly home: string,
    readonly port: number,
  ) {}

  /** In the configuration HOME is a directory of its own with a directory `module`. `wrap` runs in front of rsync. */
  static async start(
    t: TestContext,
    configuration: string,
    options: { address?: string; wrap?: string[]; home?: string } = {},
  ): Promise<StockConfiguration> {
    const home = options.home ?? temporaryDirectory(t)
    const daemon = new StockConfiguration(home, await freePort())
    mkdirSync(join(home, 'module'), { recursive: true })
    writeFileSync(join(home, 'conf'), daemon.text(configuration), 'latin1')
    const [program, ...args] = [...(options.wrap ?? []), 'rsync', '--daemon', '--no-detach']
    const place = [`--port=${daemon.port}`, `--address=${options.address ?? '127.0.0.1'}`, `--config=${home}/conf`]
    const child = spawn(program, [...args, ...place], { stdio: 'ignore', detached: true })
    daemon.#child = child
    t.after(() => daemon.stop())
    // It says so just before it does.
    const listens = () => daemon.log().includes('starting, listening') && socketsAt(daemon.port).listening > 0
    for (let tries = 0; !listens(); tries++) {
      if (tries > 500 || child.exitCode !== null) throw new Error(`rsync did not start: ${daemon.log()}`)
      await sleep(10)
    }
    return daemon
  }

  text(configuration: string): string {
    return configuration.replaceAll('HOME', this.home)
  }

  log(): string {
    const file = join(this.home, 'log')
    return existsSync(file) ? readFileSync(file, 'latin1') : ''
  }

  /** One connection: the last line that the daemon said, and what it logged, without times and process numbers. */
  async converse(client: Client): Promise<{ reply: string; said: string; log: string[] }> {
    const before = this.log().length
    const said = await talk(this.port, { greeting: GREETING, answer: () => '', from: '127.0.0.1', ...client })
    const added = this.log().slice(before)
    const lines = added.slice(0, added.lastIndexOf('\n') + 1) // it may be in the middle of saying that we have gone
    const log = parseLog(lines).map(({ text }) => text)
    return { reply: said.trimEnd().split('\n').at(-1) ?? '', said, log: log.filter(isOurs) }
  }

  /** A connection that stays where it is until the test ends it. */
  async hold(module: string): Promise<{ reply: string; end(): Promise<void> }> {
    const socket = connect(this.port, '127.0.0.1')
    socket.setEncoding('latin1')
    socket.on('error', () => undefined)
    socket.write(`${GREETING}\n${module}\n`)
    let said = ''
    for await (const text of socket.iterator({ destroyOnReturn: false })) {
      said += text
      if (/@RSYNCD: OK\n|@ERROR/.test(said)) break
    }
    const end = async () => {
      socket.destroy()
      await once(socket, 'close')
      // Until the daemon's processes for it, and for who came before, have closed their ends.
      for (let tries = 0; socketsAt(this.port).open > 0 && tries < 1000; tries++) await sleep(10)
    }
    return { reply: said.trimEnd().split('\n').at(-1) ?? '', end }
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    process.kill(-child.pid, 'SIGKILL') // its own process group: the daemon and its connections
    await exited
  }
}

/** What our own reading of a configuration is. */
export function configured(t: TestContext, text: string): DaemonConfig {
  const file = join(temporaryDirectory(t), 'rsyncd.conf')
  writeFileSync(file, text, 'latin1')
  return loadDaemonConfig(file)
}

export function parseLog(text: string): { pid: number; text: string }[] {
  return [...text.matchAll(/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \[(\d+)\] (.*)$/gm)].map(([, pid, line]) => ({
    pid: Number(pid),
    text: line,
  }))
}

/** Not what it logs of a client that goes away without a transfer. */
const isOurs = (line: string) => !/safe_write|safe_read|^rsync error: error in (rsync protocol|socket)/.test(line)

/** Greets, names the module, answers a challenge, and ends when the daemon has decided or closed. */
function talk(port: number, { greeting, module, answer, from }: Required<Client>): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: from.includes(':') ? '::1' : '127.0.0.1', localAddress: from })
    const giveUp = setTimeout(() => socket.destroy(new Error('no answer')), 10_000)
    let said = ''
    let answered = false
    socket.setEncoding('latin1')
    socket.write(`${greeting}\n${module}\n`, 'latin1')
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? undefined : reject(error)))
    socket.on('close', () => {
      clearTimeout(giveUp)
      resolve(said)
    })
    socket.on('data', (text) => {
      said += text
      const challenge = /^@RSYNCD: AUTHREQD (.*)\n/m.exec(said)?.[1]
      if (/^@RSYNCD: (OK|EXIT)$|^@ERROR.*$/m.test(said) && said.endsWith('\n')) socket.destroy()
      else if (challenge !== undefined && !answered) {
        answered = true
        socket.write(`${answer(challenge)}\n`, 'latin1')
      }
    })
  })
}
