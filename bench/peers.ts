import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { elapsedMs } from './arrival.js'
import { PeakMemory } from './memory.js'
import { Daemon, MAIN, STOCK, type Stage } from './support.js'

export type Side = 'stock' | 'ours'

/** Who is the client and who the daemon; the first is what the others are compared with. */
export const PAIRS: readonly [client: Side, daemon: Side][] = [
  ['stock', 'stock'],
  ['ours', 'ours'],
  ['ours', 'stock'],
  ['stock', 'ours'],
]

const COMMAND: Record<Side, string[]> = { stock: [STOCK], ours: [process.execPath, MAIN, 'rsync'] }
const PATIENCE_MS = 600_000
const TMPFS = '/dev/shm'
const TMPFS_FREE = 8 * 2 ** 30

/** In memory where there is room: a disk would hide what the programs take, and take long to forget what was deleted. */
export function scratch(stage: Stage): string {
  const { bavail, bsize } = statfsSync(TMPFS)
  if (bavail * bsize < TMPFS_FREE) return stage.dir('scratch')
  const dir = mkdtempSync(`${TMPFS}/syncline-bench-`)
  stage.defer(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export interface Run {
  ms: number
  stdout: string
  /** Megabytes at the peak, all processes of the client. */
  memory: number
}

/** One run of a client, from its start to its end. Fails when it does. */
export async function run(side: Side, ...args: string[]): Promise<Run> {
  const began = process.hrtime.bigint()
  const [program, ...before] = COMMAND[side]
  const child = spawn(program, [...before, ...args], { stdio: ['ignore', 'pipe', 'pipe'], timeout: PATIENCE_MS })
  const peak = new PeakMemory(child.pid ?? 0)
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (text: Buffer) => {
    stdout += text
  })
  child.stderr.on('data', (text: Buffer) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  const memory = peak.stop()
  if (code !== 0) throw new Error(`${side} rsync ${args.join(' ')}: exit ${code}\n${stderr}`)
  return { ms: elapsedMs(began), stdout, memory }
}

/** A daemon of each side, with the same modules: `module` is written, `source` read. */
export class Daemons {
  static #started = 0

  private constructor(
    readonly pidFiles: string,
    readonly of: Record<Side, Awaited<ReturnType<typeof Daemon.start>>>,
  ) {}

  static async start(stage: Stage, modules: { module: string; source: string }): Promise<Daemons> {
    const ours = stage.path('ours')
    writeFileSync(ours, `#!/bin/sh\nexec '${COMMAND.ours.join("' '")}' "$@"\n`, { mode: 0o755 })
    const pidFiles = stage.dir(`pids-${Daemons.#started++}`)
    const start = (side: Side, rsync: string) =>
      Daemon.start(stage, {
        rsync,
        modules,
        global: { 'pid file': `${pidFiles}/${side}`, 'max connections': 0 },
      })
    return new Daemons(pidFiles, { stock: await start('stock', STOCK), ours: await start('ours', ours) })
  }

  url(side: Side, module: 'module' | 'source', path = ''): string {
    return this.of[side].url(module, path)
  }

  /** The process that all others of this daemon descend from. */
  pid(side: Side): number {
    return Number(readFileSync(`${this.pidFiles}/${side}`, 'utf8'))
  }

  /** Ends them: the next ones start with no memory. */
  async stop(): Promise<void> {
    for (const daemon of Object.values(this.of)) await daemon.kill()
  }
}

/** Fails unless a stock rsync finds nothing to do. */
export async function mustBeEqual(source: string, destination: string): Promise<void> {
  const { stdout } = await run('stock', '-aHni', '--delete', `${source}/`, `${destination}/`)
  if (stdout !== '') throw new Error(`${destination} differs:\n${stdout.slice(0, 1000)}`)
}
