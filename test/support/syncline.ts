import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { REPOSITORY } from './daemon.js'
import { eventually, PATIENCE_MS, until } from './eventually.js'
import type { Stage } from './stage.js'
import { type CompareOptions, differences } from './tree.js'

/** The program under test; SYNCLINE_MAIN puts another in its place, to test the tests. */
export const MAIN = process.env.SYNCLINE_MAIN ?? join(REPOSITORY, 'packages/syncline/dist/src/main.cjs')

export const SERSYNC2 = join(REPOSITORY, 'packages/syncline/dist/src/sersync2.js')

export interface TargetStatus {
  name: string
  state: 'connecting' | 'full-sync' | 'mirroring' | 'backing-off' | 'refused' | 'halted'
  owed: number
  failures: { path: string; reason: string; attempts: number }[]
  lagMs: number
  lastError: string | null
  reason: string | null
}

interface Status {
  instances: { pid: number; source: string; targets: TargetStatus[] }[]
}

export interface SynclineOptions {
  options?: string[]
  env?: Record<string, string>
  /** Instances that share it share the journal: a second start takes over what the first one owed. */
  stateDir?: string
  /** Return as soon as the process runs, not when every target is mirroring. */
  early?: boolean
  /** The uid and gid to run as, where it is not root. */
  user?: number
}

/** One running syncline, with its output, its status and its end. */
export class Syncline {
  stdout = ''
  stderr = ''
  readonly stateDir: string
  readonly targets: readonly string[]
  readonly #child: ChildProcess
  readonly #exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>

  private constructor(program: string[], targets: readonly string[], stateDir: string, options: SynclineOptions) {
    this.targets = targets
    this.stateDir = stateDir
    const child = spawn(process.execPath, program, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.user === undefined ? {} : { uid: options.user, gid: options.user }),
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.#child = child
    this.#exit = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  }

  static async start(
    stage: Stage,
    source: string,
    targets: string | readonly string[],
    options: SynclineOptions = {},
  ): Promise<Syncline> {
    const list = typeof targets === 'string' ? [targets] : targets
    const stateDir = options.stateDir ?? stage.dir('state')
    const program = [MAIN, `--state-dir=${stateDir}`, '--http=off', ...(options.options ?? []), source, ...list]
    return Syncline.#started(stage, program, list, stateDir, options)
  }

  /** From a configuration that has these targets, by syncline itself or under sersync's name. */
  static async startFrom(
    stage: Stage,
    config: string,
    targets: readonly string[],
    options: SynclineOptions & { sersync?: string[] } = {},
  ): Promise<Syncline> {
    const stateDir = options.stateDir ?? stage.dir('state')
    const program =
      options.sersync === undefined
        ? [MAIN, `--state-dir=${stateDir}`, ...(options.options ?? []), '-c', config]
        : [SERSYNC2, `--state-dir=${stateDir}`, ...options.sersync, '-o', config]
    return Syncline.#started(stage, program, targets, stateDir, options)
  }

  static async #started(
    stage: Stage,
    program: string[],
    targets: readonly string[],
    stateDir: string,
    options: SynclineOptions,
  ): Promise<Syncline> {
    const syncline = new Syncline(program, targets, stateDir, options)
    stage.defer(() => syncline.kill())
    stage.witness('syncline', () => `${syncline.stdout}${syncline.stderr}`)
    if (options.early !== true) await syncline.mirroring()
    return syncline
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Until every target has printed its ready line. */
  async mirroring(patienceMs = PATIENCE_MS): Promise<void> {
    const ready = () => this.stdout.split('\n').filter((line) => line.includes('mirroring')).length
    await until(
      `syncline prints "mirroring" for ${this.targets.length} target(s)`,
      () => {
        if (!this.running) throw new Error(`syncline ended before it was mirroring: ${this.stderr}`)
        return ready() >= this.targets.length
      },
      { patienceMs, problem: () => `${this.stdout}${this.stderr}` },
    )
  }

  async status(): Promise<TargetStatus[]> {
    const { stdout, stderr } = await run(['status', '--json', `--state-dir=${this.stateDir}`])
    if (stderr !== '') throw new Error(`syncline status: ${stderr}`)
    if (stdout === '') return [] // it is not up yet, or not any more
    const mine = (JSON.parse(stdout) as Status).instances.filter((instance) => instance.pid === this.pid)
    return mine.flatMap((instance) => instance.targets)
  }

  /** Waits until the status of a target satisfies `wanted`; the first target unless another is named. */
  async reaches(what: string, wanted: (target: TargetStatus) => boolean, index = 0): Promise<TargetStatus> {
    let last: TargetStatus | undefined
    return eventually(
      what,
      async () => {
        last = (await this.status())[index]
        return last !== undefined && wanted(last) ? last : undefined
      },
      { problem: () => JSON.stringify(last) },
    )
  }

  async resume(): Promise<void> {
    const { code, stderr } = await run(['resume', `--state-dir=${this.stateDir}`])
    if (code !== 0) throw new Error(`syncline resume: exit ${code}: ${stderr}`)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async exited(): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    return this.#exit
  }

  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM')
    return (await this.#exit).code
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exit
  }

  /**
   * Until the trees are equal, nothing is owed and no failure is left; and then looks once more, because an equality
   * that something still in flight undoes was none. What is sent again while we look begins it anew: a mirror that
   * finds a change of which no event told (a file's other names) sends it a second later, and a directory in which a
   * file is replaced is another for that moment.
   */
  async equal(
    source: string,
    destination: string,
    options: CompareOptions & { patienceMs?: number; target?: number } = {},
  ): Promise<void> {
    const { patienceMs = PATIENCE_MS, target = 0 } = options
    let found: string[] = []
    const same = () => {
      found = differences(source, destination, options)
      return found.length === 0
    }
    const settled = async () => {
      if (!same()) return false
      await this.reaches('nothing is owed', (status) => status.owed === 0 && status.failures.length === 0, target)
      return same()
    }
    await until(`${destination} equals ${source}`, settled, { patienceMs, problem: () => found.join('\n') })
  }
}

export interface Outcome {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs syncline to its end. */
export async function run(parameters: string[], env: Record<string, string> = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...parameters], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const outcome: Outcome = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    outcome.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    outcome.stderr += text
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  outcome.code = code
  return outcome
}
