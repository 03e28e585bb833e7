import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readdirSync, renameSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { atLeast, atMost, type Benchmark, beside, median, percentile } from './figure.js'
import { writeNumbered } from './numbered.js'
import { Daemons } from './peers.js'
import { Daemon, type Stage, Syncline, sleep, until } from './support.js'

/**
 * From the writer's close to the complete file at the destination: by a stock daemon, by ours, in a local directory, and
 * beside one `rsync -a` spawned for each change.
 */
export const latency: Benchmark = async (stage, tell) => {
  const [oursSource, oursModule] = [stage.dir('source for ours'), stage.dir('module of ours')]
  const daemons = await Daemons.start(stage, { module: oursModule, source: oursSource })
  await Syncline.start(stage, oursSource, daemons.url('ours', 'module'))
  const oursObserver = await Observer.start(stage, oursModule)
  tell('500 changes of 4 KiB at 20 a second, to a daemon of ours, both just started')
  const fresh = await measure(oursObserver, oursSource, { count: 500, perSecond: 20 })
  tell('3,000 changes of 4 KiB at 200 a second: V8 compiles what runs often')
  await measure(oursObserver, oursSource, { count: 3000, perSecond: 200 })
  tell('500 changes of 4 KiB at 20 a second, to a daemon of ours')
  const ours = await measure(oursObserver, oursSource, { count: 500, perSecond: 20 })

  const [localSource, local] = [stage.dir('source for local'), stage.dir('local')]
  await Syncline.start(stage, localSource, local)
  const localObserver = await Observer.start(stage, local)
  tell('500 changes of 4 KiB at 20 a second, to a local directory')
  const toLocal = await measure(localObserver, localSource, { count: 500, perSecond: 20 })

  const [source, module] = [stage.dir('source'), stage.dir('module')]
  const [plainSource, plainModule] = [stage.dir('plain source'), stage.dir('plain module')]
  const daemon = await Daemon.start(stage, { modules: { m: module, plain: plainModule } })
  await Syncline.start(stage, source, daemon.url('m'))
  const observer = await Observer.start(stage, module)
  const plainObserver = await Observer.start(stage, plainModule)

  tell('500 changes of 4 KiB at 20 a second')
  const calm = await measure(observer, source, { count: 500, perSecond: 20 })
  tell('100 changes, rsync -a spawned for each')
  const spawned = await measure(plainObserver, plainSource, {
    count: 100,
    perSecond: 20,
    carry: async (path) => {
      await once(spawn('rsync', ['-a', path, daemon.url('plain', '')], { stdio: 'inherit' }), 'exit')
    },
  })
  tell('100 changes, copied and renamed by hand: what the observer itself adds')
  const byHand = await measure(plainObserver, plainSource, {
    count: 100,
    perSecond: 20,
    carry: async (path) => copyByHand(path, plainModule),
  })
  tell('1,000 changes of 4 KiB at 100 a second')
  const busy = await measure(observer, source, { count: 1000, perSecond: 100 })
  return [
    atMost('20 changes/s: p50', median(calm), 2, 'ms'),
    atMost('20 changes/s: p99', percentile(calm, 0.99), 15, 'ms'),
    atMost('20 changes/s, to a daemon of ours, after 3,500 changes: p50', median(ours), 1.2, 'ms'),
    beside('20 changes/s, to a daemon of ours: p99', percentile(ours, 0.99), 'ms'),
    beside('20 changes/s, to a daemon of ours, the first 500 of both: p50', median(fresh), 'ms'),
    beside('20 changes/s, to a local directory: p50', median(toLocal), 'ms'),
    beside('20 changes/s: longest', Math.max(...calm), 'ms'),
    beside('rsync -a per change: p50', median(spawned), 'ms'),
    beside('rsync -a per change: p99', percentile(spawned, 0.99), 'ms'),
    atLeast('20 changes/s: p50 is better by', median(spawned) / median(calm), 25, 'times'),
    atMost('100 changes/s: p50', median(busy), 3, 'ms'),
    beside('100 changes/s: p99', percentile(busy, 0.99), 'ms'),
    beside('a copy and a rename instead of a network, seen by the same observer: p50', median(byHand), 'ms'),
  ]
}

/** A file, or all files of a directory whose path ends with a slash. */
function copyByHand(path: string, destination: string): void {
  const names = path.endsWith('/') ? readdirSync(path) : [basename(path)]
  for (const name of names) {
    copyFileSync(join(dirname(`${path}x`), name), join(destination, `.${name}`))
    renameSync(join(destination, `.${name}`), join(destination, name))
  }
}

/** The other process, and what it saw. */
export class Observer {
  readonly #arrivals = new Map<string, bigint>()
  readonly #child: ChildProcess
  #ready = false

  private constructor(directory: string) {
    const program = fileURLToPath(new URL('observer.js', import.meta.url))
    const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface(child.stdout).on('line', (line) => this.#note(line))
    this.#child = child
  }

  static async start(stage: Stage, directory: string): Promise<Observer> {
    const observer = new Observer(directory)
    stage.defer(() => void observer.#child.kill('SIGKILL'))
    await until('the observer watches', () => observer.#ready)
    return observer
  }

  arrival(name: string, serial: number): bigint | undefined {
    return this.#arrivals.get(`${name} ${serial}`)
  }

  #note(line: string): void {
    const [name, serial, atNs] = line.split(' ')
    if (name === 'ready') this.#ready = true
    else this.#arrivals.set(`${name} ${serial}`, BigInt(atNs))
  }
}

interface Load {
  count: number
  perSecond: number
  /** What carries the change over, where nothing does so by itself. */
  carry?: (path: string) => Promise<void>
}

/** Writes at that pace, new files and overwritten ones in turn; returns each change's milliseconds to its arrival. */
export async function measure(
  observer: Observer,
  source: string,
  { count, perSecond, carry }: Load,
): Promise<number[]> {
  const base = nextSerial + FILES
  nextSerial = base + count
  for (let i = 0; i < FILES; i++) writeNumbered(`${source}/overwritten-${i}`, base - FILES + i)
  await carry?.(`${source}/`)
  await until('the files to overwrite are there', () => {
    return Array.from({ length: FILES }, (_, i) => observer.arrival(`overwritten-${i}`, base - FILES + i)).every(
      Boolean,
    )
  })
  await sleep(1_100) // rsync -a takes a file of the same size and second for the same one
  const written: { name: string; serial: number; atNs: bigint }[] = []
  const beganMs = performance.now()
  for (let i = 0; i < count; i++) {
    await sleep(Math.max(0, beganMs + (i * 1000) / perSecond - performance.now()))
    const name = i % 2 === 0 ? `overwritten-${(i / 2) % FILES}` : `new-${base + i}`
    const serial = base + i
    written.push({ name, serial, atNs: writeNumbered(`${source}/${name}`, serial) })
    await carry?.(`${source}/${name}`)
  }
  await until('every change has arrived', () => written.every(({ name, serial }) => observer.arrival(name, serial)))
  return written.map(({ name, serial, atNs }) => Number(observer.arrival(name, serial)! - atNs) / 1e6)
}

const FILES = 100
let nextSerial = 1
