import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, oldRsync, REPOSITORY, STOCK, versionOf } from '../support/daemon.js'
import { eventually, until } from '../support/eventually.js'
import { listens } from '../support/rsyncd.js'
import type { Stage } from '../support/stage.js'
import { MODULES } from './modules.js'

/** A program that can be either end. */
export interface Side {
  /** `ours`, or the version of a stock rsync. */
  name: string
  command: readonly string[]
}

const stock = (program: string): Side => ({ name: versionOf(program), command: [program] })

/** The machine's own, which also plays both ends of what ours is compared with. */
export const CURRENT = stock(STOCK)
export const PEERS: readonly Side[] = [CURRENT, stock(oldRsync('3.2.7')), stock(oldRsync('3.2.3'))]

const PROGRAM = join(REPOSITORY, 'packages/syncline/dist/src/main.cjs')
const { INTEROP_OURS = PROGRAM } = process.env

/** With INTEROP_OURS=stock the harness shows that two runs of the same programs come out alike. */
export const OURS: Side = {
  name: 'ours',
  command: INTEROP_OURS === 'stock' ? [STOCK] : [process.execPath, INTEROP_OURS, 'rsync'],
}

const HIGHEST_PROTOCOL: Record<string, number> = { '3.2.3': 31 }
export const speaks = (side: Side, protocol: number) => protocol <= (HIGHEST_PROTOCOL[side.name] ?? 32)

/** Is this side at least that version? Ours is meant to know what the current one knows. */
export function atLeast(side: Side, version: string): boolean {
  return side === OURS || side.name.localeCompare(version, 'en', { numeric: true }) >= 0
}

/** The daemons of a test run: one per program, started when a cell first needs it. */
export class Daemons {
  readonly #stage: Stage
  readonly #ports = new Map<Side, Promise<number>>()

  constructor(stage: Stage) {
    this.#stage = stage
  }

  /** The port of a daemon of `side` whose modules are all the stage's `cells` directory. */
  port(side: Side): Promise<number> {
    const known = this.#ports.get(side)
    if (known !== undefined) return known
    const started = this.#start(side)
    this.#ports.set(side, started)
    return started
  }

  async #start(side: Side): Promise<number> {
    const port = await freePort()
    const home = this.#stage.dir(`daemon-${side.name}`)
    const log = join(home, 'log')
    writeFileSync(join(home, 'secrets'), 'user:secret\n', { mode: 0o600 })
    writeFileSync(join(home, 'rsyncd.conf'), this.#configuration(home))
    writeFileSync(log, '')
    const child = spawn(
      side.command[0],
      [
        ...side.command.slice(1),
        ...['--daemon', '--no-detach', '--address=127.0.0.1', `--port=${port}`],
        `--config=${join(home, 'rsyncd.conf')}`,
      ],
      { stdio: ['ignore', 'ignore', openSync(log, 'a')], detached: true }, // a process group, so that its children end with it
    )
    this.#stage.defer(() => stop(child))
    process.once('exit', () => void stop(child)) // a run that is interrupted leaves none behind
    this.#stage.witness(`daemon ${side.name}`, () => readFileSync(log, 'latin1'))
    await eventually(
      `a daemon (${side.name}) listens`,
      () => /listening/.exec(readFileSync(log, 'latin1')) ?? undefined,
      {
        problem: () => readFileSync(log, 'latin1'),
      },
    )
    await until('it really does', () => listens(port)) // a stock daemon says so just before
    return port
  }

  #configuration(home: string): string {
    const cells = this.#stage.path('cells')
    mkdirSync(cells, { recursive: true })
    const lines = (parameters: Record<string, string>) =>
      Object.entries(parameters)
        .map(([name, value]) => `${name} = ${value.replace('HOME', home)}\n`)
        .join('')
    const modules = Object.entries(MODULES).map(
      ([name, parameters]) => `[${name}]\npath = ${cells}\n${lines(parameters)}`,
    )
    return `log file = ${home}/log\nlock file = ${home}/lock\nreverse lookup = no\n${modules.join('')}`
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  process.kill(-child.pid, 'SIGKILL')
  await exited
}
