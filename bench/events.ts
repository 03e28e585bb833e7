import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { elapsedMs } from './arrival.js'
import type { Account } from './event-watcher.js'
import { atLeast, atMost, type Benchmark, beside, type Figure, median, percentile } from './figure.js'
import { scratch } from './peers.js'
import type { Stage } from './support.js'

type Mode = 'touch' | 'stamp' | 'fill' | 'unpack'

const BACKENDS = ['inotify', 'fanotify'] as const
const SECONDS = 10
const RATE_GOAL = 400_000
/** In 1 s, of all producers; some time is lost until they are at work. */
const RATE = 450_000
const PRODUCERS = 2
const STAMPS = 1000
const LATENCY_ROUNDS = 5
const NEVER = 2n ** 62n
const UNRELATED = 200_000
/** Files made before anything is measured: by then the program is compiled, and knows where it is busy. */
const WARM_UP = 20_000

/** What a watcher takes in: at the rate that is the goal, and while others change as much as they can. */
const rate: Benchmark = async (stage, tell) => {
  const figures: Figure[] = []
  for (const backend of BACKENDS) {
    tell(`${backend}: ${PRODUCERS} producers for ${SECONDS} s, ${RATE} changes in 1 s`)
    const { taken, merged, lost } = await takeIn(stage, backend, RATE)
    figures.push(atLeast(`events/rate, ${backend}: changes taken in`, taken, RATE_GOAL, 'in 1 s'))
    figures.push(beside(`events/rate, ${backend}: events they were merged to`, merged, 'events'))
    figures.push(atMost(`events/rate, ${backend}: lost`, lost, 0, 'events'))
  }
  for (const backend of BACKENDS) {
    tell(`${backend}: ${PRODUCERS} producers for ${SECONDS} s, as fast as they can`)
    const { taken, lost } = await takeIn(stage, backend, Number.POSITIVE_INFINITY)
    figures.push(beside(`events/rate, ${backend}, flooded: changes taken in`, taken, 'in 1 s'))
    figures.push(beside(`events/rate, ${backend}, flooded: lost`, lost, 'events'))
  }
  return figures
}

async function takeIn(stage: Stage, backend: (typeof BACKENDS)[number], rate: number) {
  const root = directory(stage)
  const dirs = Array.from({ length: PRODUCERS }, (_, i) => `${root}/${i}`)
  for (const dir of dirs) mkdirSync(dir)
  const watcher = await Watcher.start(stage, root, backend)
  const began = process.hrtime.bigint()
  const made = sum(await Promise.all(dirs.map((dir) => produce('touch', dir, SECONDS, rate / PRODUCERS))))
  const { events, overflows } = await watcher.account()
  const seconds = elapsedMs(began) / 1000
  await watcher.stop()
  // inotify merges equal neighbours only, and there are none; the names themselves were made by two events each.
  const lost = backend === 'inotify' ? Math.max(made - events, 0) : overflows
  return { taken: (made - lost) / seconds, merged: events, lost }
}

/** From the change to the callback, when all were asleep. In several rounds: how soon a machine wakes up differs by the minute. */
const latency: Benchmark = async (stage, tell) => {
  const rounds = { inotify: [] as number[][], fanotify: [] as number[][] }
  for (let round = 1; round <= LATENCY_ROUNDS; round++) {
    for (const backend of BACKENDS) {
      tell(`${backend}: ${STAMPS} changes, round ${round} of ${LATENCY_ROUNDS}`)
      rounds[backend].push(await latencies(stage, backend))
    }
  }
  return BACKENDS.flatMap((backend) => {
    const [p50, p99] = [0.5, 0.99].map((share) => median(rounds[backend].map((us) => percentile(us, share))))
    return [
      atMost(`events/latency, ${backend}: p50`, p50!, 100, 'µs'),
      beside(`events/latency, ${backend}: p99`, p99!, 'µs'),
    ]
  })
}

/** Of one change after the other, in microseconds. */
async function latencies(stage: Stage, backend: (typeof BACKENDS)[number]): Promise<number[]> {
  const root = directory(stage)
  for (let name = 0; name < STAMPS; name++) writeFileSync(`${root}/stamp-${name}`, '')
  const watcher = await Watcher.start(stage, root, backend)
  await produce('fill', `${root}/before`, WARM_UP)
  const changedAt = JSON.parse(await output('stamp', root, STAMPS)) as string[]
  const told = new Map((await watcher.account()).names)
  await watcher.stop()
  return changedAt.map((at, name) => Number(BigInt(told.get(`stamp-${name}`) ?? NEVER) - BigInt(at)) / 1000)
}

/** What it costs who watches one tree that files are made elsewhere on its filesystem. */
const elsewhere: Benchmark = async (stage, tell) => {
  const figures: Figure[] = []
  const where = directory(stage)
  const root = `${where}/root`
  mkdirSync(root)
  const watcher = await Watcher.start(stage, root, 'fanotify')
  await produce('fill', `${where}/elsewhere`, WARM_UP)
  for (const [mode, directories] of [
    ['fill', 'ten directories'],
    ['unpack', 'new directories of 20'],
  ] as const) {
    tell(`${UNRELATED} files are made elsewhere, in ${directories}`)
    const before = await watcher.account()
    const tookMs = await produce(mode, `${where}/elsewhere`, UNRELATED)
    const after = await watcher.account()
    const what = `events/elsewhere, fanotify, in ${directories}`
    const cpu = (after.cpu - before.cpu) / UNRELATED
    figures.push(
      mode === 'fill'
        ? atMost(`${what}: CPU for each file`, cpu, 2, 'µs')
        : beside(`${what}: CPU for each file`, cpu, 'µs'),
    )
    figures.push(beside(`${what}: events for each file`, (after.events - before.events) / UNRELATED, 'events'))
    figures.push(beside(`${what}: made in 1 s`, (UNRELATED / tookMs) * 1000, 'files'))
  }
  await watcher.stop()
  return figures
}

export const events = {
  'events/rate': rate,
  'events/latency': latency,
  'events/elsewhere': elsewhere,
} satisfies Record<string, Benchmark>

class Watcher {
  private constructor(readonly child: ChildProcess) {}

  static async start(stage: Stage, root: string, backend: string): Promise<Watcher> {
    const child = fork(fileURLToPath(new URL('event-watcher.js', import.meta.url)), [root, backend])
    stage.defer(() => void child.kill('SIGKILL'))
    await message(child)
    return new Watcher(child)
  }

  async account(): Promise<Account> {
    this.child.send('account')
    return (await message(this.child)) as Account
  }

  async stop(): Promise<void> {
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }
}

async function message(child: ChildProcess): Promise<unknown> {
  const [said, signal] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => [undefined, 'exit']),
  ])
  if (signal === 'exit') throw new Error('the watcher has ended')
  return said
}

/** Runs a producer to its end. Returns the number that it says. */
const produce = async (mode: Mode, dir: string, ...amounts: number[]) => Number(await output(mode, dir, ...amounts))

async function output(mode: Mode, dir: string, ...amounts: number[]): Promise<string> {
  const producer = fileURLToPath(new URL('producer.js', import.meta.url))
  const child = spawn(process.execPath, [producer, mode, dir, ...amounts.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout.on('data', (text: Buffer) => {
    said += text
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`producer ${mode}: exit ${code}`)
  return said
}

function directory(stage: Stage): string {
  const dir = `${scratch(stage)}/events`
  mkdirSync(dir)
  return dir
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0)
