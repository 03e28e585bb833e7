import { randomBytes } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  futimesSync,
  mkdirSync,
  openSync,
  rmSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { atMost, type Benchmark, beside, type Figure, median } from './figure.js'
import { PeakMemory } from './memory.js'
import { Daemons, mustBeEqual, PAIRS, type Run, run, type Side, scratch } from './peers.js'
import { content, type Stage, sleep, TcpProxy } from './support.js'

const MIB = 1024 * 1024
const ROUNDS = 5
const A_SECOND = 1_600_000_000

/** A part: our rsync at either end or at both, beside a stock one at both: in the same minutes, in turn. */
type Part = (world: World) => Promise<Figure[]>

const on =
  (part: Part): Benchmark =>
  async (stage, tell) => {
    const figures = await part(new World(stage, scratch(stage), tell))
    for (const { what, value } of figures) tell(`${what}: ${value}`)
    return figures
  }

/** Where it happens: `source` is sent, `module` is what the daemons write, `here` what clients write. */
class World {
  readonly source: string
  readonly module: string
  readonly here: string
  readonly #daemons: Promise<Daemons>

  constructor(
    readonly stage: Stage,
    readonly root: string,
    readonly tell: (progress: string) => void,
  ) {
    this.source = `${root}/source`
    this.module = `${root}/module`
    this.here = `${root}/here`
    this.clear()
    this.#daemons = Daemons.start(stage, { module: this.module, source: this.source })
  }

  get daemons(): Promise<Daemons> {
    return this.#daemons
  }

  /** What is there goes, and what was is forgotten. */
  clear(): void {
    for (const dir of [this.source, this.module, this.here]) {
      mkdirSync(dir, { recursive: true })
      rmSync(`${dir}/tree`, { recursive: true, force: true })
    }
    mkdirSync(`${this.source}/tree`)
  }
}

// Time

interface Goal {
  /** Of the time of a stock rsync at both ends. */
  both: number
  one: number
}

/** 5,000 files of 1 to 8 KiB, none of them there. */
async function small(world: World): Promise<Figure[]> {
  for (let i = 0; i < 5000; i++) writeFileSync(`${world.source}/tree/file-${i}`, content(1024 + ((i * 7919) % 7169), i))
  return compare(world, '5,000 small files, new', { both: 1, one: 0.8 }, remove)
}

async function large(world: World): Promise<Figure[]> {
  writeRandom(`${world.source}/tree/large`, 1024)
  return compare(world, '1 GiB, new', { both: 1.15, one: 1.15 }, remove)
}

async function delta(world: World): Promise<Figure[]> {
  const file = `${world.source}/tree/large`
  writeRandom(file, 256)
  return compare(world, '1 byte in 256 MiB', { both: 1.2, one: 1.2 }, (tree, round) => {
    mkdirSync(tree, { recursive: true })
    copyFileSync(file, `${tree}/large`)
    changeOneByte(`${tree}/large`, round)
  })
}

const remove = (tree: string) => rmSync(tree, { recursive: true, force: true })

/** Every pair pushes and pulls, and each program copies, in turn; `prepare` puts the destination back. */
async function compare(
  world: World,
  what: string,
  goal: Goal,
  prepare: (tree: string, round: number) => void,
): Promise<Figure[]> {
  const ways = waysOf(world, await world.daemons)
  for (let round = 0; round < ROUNDS; round++) {
    world.tell(`${what}: round ${round + 1} of ${ROUNDS}`)
    for (const { client, args, tree, times } of ways) {
      prepare(tree, round)
      times.push((await run(client, '-a', '--no-whole-file', ...args)).ms)
      if (round === 0) await mustBeEqual(`${world.source}/tree`, tree)
    }
  }
  world.clear()
  return ways.map(({ name, ours, times }, i) => {
    const label = `${what}: ${name}`
    if (ours === 0) return beside(label, median(times), 'ms')
    const stock = ways.slice(0, i).findLast((way) => way.ours === 0) as Way
    return atMost(label, median(times) / median(stock.times), ours === 2 ? goal.both : goal.one, '×')
  })
}

interface Way {
  name: string
  client: Side
  args: string[]
  tree: string
  /** How many of its ends are ours. */
  ours: number
  times: number[]
}

function waysOf({ source, module, here }: World, daemons: Daemons): Way[] {
  const ends = (...sides: Side[]) => sides.filter((side) => side === 'ours').length
  const from = `${source}/tree/`
  const pushes = PAIRS.map(([client, daemon]) => ({
    name: `${client} pushes to ${daemon}`,
    client,
    args: [from, daemons.url(daemon, 'module', 'tree/')],
    tree: `${module}/tree`,
    ours: ends(client, daemon),
    times: [],
  }))
  const pulls = PAIRS.map(([client, daemon]) => ({
    name: `${client} pulls from ${daemon}`,
    client,
    args: [daemons.url(daemon, 'source', 'tree/'), `${here}/tree/`],
    tree: `${here}/tree`,
    ours: ends(client, daemon),
    times: [],
  }))
  const copies = (['stock', 'ours'] as const).map((client) => ({
    name: `${client} copies`,
    client,
    args: [from, `${here}/tree/`],
    tree: `${here}/tree`,
    ours: ends(client, client),
    times: [],
  }))
  return [...pushes, ...pulls, ...copies]
}

// Memory

const DIRECTORIES = 1000
const FILES_EACH = 1000

/** A million empty files, all of them there: time, and memory of either side. */
async function nothingToDo(world: World): Promise<Figure[]> {
  world.tell('1,000,000 files at both ends')
  for (const tree of [`${world.source}/tree`, `${world.module}/tree`]) makeMillion(tree)
  const figures: Figure[] = []
  for (const [how, rounds] of [
    ['--inc-recursive', 3],
    ['--no-inc-recursive', 1],
  ] as const)
    figures.push(...(await secondRun(world, how, rounds)))
  await mustBeEqual(`${world.source}/tree`, `${world.module}/tree`)
  world.clear()
  return figures
}

interface Second extends Run {
  daemonMemory: number
}

async function secondRun(world: World, how: string, rounds: number): Promise<Figure[]> {
  const runs = PAIRS.map((): Second[] => [])
  for (let round = 0; round < rounds; round++)
    for (const [i, [client, daemon]] of PAIRS.entries()) {
      world.tell(`1,000,000 files, ${how}: ${client} to ${daemon}, round ${round + 1} of ${rounds}`)
      runs[i].push(await second(world, how, client, daemon))
    }
  const of = (i: number, key: 'ms' | 'memory' | 'daemonMemory') => median(runs[i].map((each) => each[key]))
  return PAIRS.flatMap(([client, daemon], i) => {
    const label = `1,000,000 files, nothing to do, ${how}: ${client} to ${daemon}`
    if (i === 0)
      return [
        beside(label, of(i, 'ms'), 'ms'),
        beside(`${label}: client`, of(i, 'memory'), 'MB'),
        beside(`${label}: daemon`, of(i, 'daemonMemory'), 'MB'),
      ]
    const figures = [atMost(label, of(i, 'ms') / of(0, 'ms'), 2, '×')]
    const memory = (side: string, key: 'memory' | 'daemonMemory') =>
      figures.push(
        beside(`${label}: ${side}`, of(i, key), 'MB'),
        atMost(`${label}: ${side}, memory`, of(i, key) / of(0, key), 2, '×'),
      )
    if (client === 'ours') memory('client', 'memory')
    if (daemon === 'ours') memory('daemon', 'daemonMemory')
    return figures
  })
}

/** A daemon of its own, whose memory nobody has used before. */
async function second(world: World, how: string, client: Side, daemon: Side): Promise<Second> {
  const daemons = await Daemons.start(world.stage, { module: world.module, source: world.source })
  try {
    const peak = new PeakMemory(daemons.pid(daemon))
    const done = await run(client, '-a', how, `${world.source}/tree/`, daemons.url(daemon, 'module', 'tree/'))
    return { ...done, daemonMemory: peak.stop() }
  } finally {
    await daemons.stop()
  }
}

function makeMillion(tree: string): void {
  mkdirSync(tree, { recursive: true })
  for (let d = 0; d < DIRECTORIES; d++) {
    const dir = `${tree}/directory-${d}`
    mkdirSync(dir)
    for (let f = 0; f < FILES_EACH; f++) {
      const file = openSync(`${dir}/file-${f}`, 'w')
      futimesSync(file, A_SECOND, A_SECOND)
      closeSync(file)
    }
    utimesSync(dir, A_SECOND, A_SECOND)
  }
  utimesSync(tree, A_SECOND, A_SECOND)
}

// Many at once

const CLIENTS = 200

/** 200 stock clients at once, each with a small tree of its own. */
async function crowd(world: World): Promise<Figure[]> {
  for (let i = 0; i < 20; i++) writeFileSync(`${world.source}/tree/file-${i}`, content(i * 400, i))
  const figures: Figure[] = []
  for (const side of ['stock', 'ours'] as const) {
    world.tell(`${CLIENTS} clients push to ${side}`)
    const { times, refused, memory } = await together(world, side)
    const label = `${CLIENTS} clients push to ${side}`
    figures.push(
      beside(`${label}: median`, median(times), 'ms'),
      atMost(`${label}: the slowest, of the median`, Math.max(...times) / median(times), 3, '×'),
      atMost(`${label}: refused or failed`, refused, 0, ''),
      beside(`${label}: the daemon's memory`, memory, 'MB'),
    )
  }
  world.clear()
  return figures
}

async function together(world: World, side: Side): Promise<{ times: number[]; refused: number; memory: number }> {
  rmSync(`${world.module}/tree`, { recursive: true, force: true })
  mkdirSync(`${world.module}/tree`)
  const daemons = await Daemons.start(world.stage, { module: world.module, source: world.source })
  const peak = new PeakMemory(daemons.pid(side))
  const push = (i: number) => run('stock', '-a', `${world.source}/tree/`, daemons.url(side, 'module', `tree/${i}/`))
  const ended = await Promise.allSettled(Array.from({ length: CLIENTS }, (_, i) => push(i)))
  const memory = peak.stop()
  await daemons.stop()
  const times = ended.flatMap((end) => (end.status === 'fulfilled' ? end.value.ms : []))
  for (let i = 0; i < CLIENTS; i += 20) await mustBeEqual(`${world.source}/tree`, `${world.module}/tree/${i}`)
  return { times, refused: CLIENTS - times.length, memory }
}

// Limits and breaks

const LIMITED_BYTES = 20_000_000
const LIMIT_KIB = 1024

/** --bwlimit: how far the time is from what it must be, in percent; either end may be the one that sends. */
async function bandwidth(world: World): Promise<Figure[]> {
  world.tell(`--bwlimit=${LIMIT_KIB}`)
  writeFileSync(`${world.source}/tree/file`, randomBytes(LIMITED_BYTES))
  const daemons = await world.daemons
  const sends: [string, Side, ...string[]][] = [
    ['stock', 'stock', `${world.source}/tree/`, daemons.url('stock', 'module', 'tree/0/')],
    ['our client', 'ours', `${world.source}/tree/`, daemons.url('stock', 'module', 'tree/1/')],
    ['our daemon', 'stock', daemons.url('ours', 'source', 'tree/'), `${world.here}/tree/0/`],
    ['our copy', 'ours', `${world.source}/tree/`, `${world.here}/tree/1/`],
  ]
  for (const dir of [world.module, world.here]) mkdirSync(`${dir}/tree`, { recursive: true })
  const expectedMs = (LIMITED_BYTES / (LIMIT_KIB * 1024)) * 1000
  const figures = await Promise.all(
    sends.map(async ([who, side, ...args]) => {
      const { ms } = await run(side, '-a', '--no-whole-file', `--bwlimit=${LIMIT_KIB}`, ...args)
      return atMost(`--bwlimit=${LIMIT_KIB}, 20 MB, ${who}: off by`, 100 * Math.abs(ms / expectedMs - 1), 5, '%')
    }),
  )
  world.clear()
  return figures
}

const UPLOAD_MIB = 1240 // 1.3 GB

/** A long upload is cut somewhere; the next one must not send again what has arrived. */
async function resumed(world: World): Promise<Figure[]> {
  writeRandom(`${world.source}/tree/large`, UPLOAD_MIB)
  const cutAt = Math.round((0.2 + 0.6 * Math.random()) * UPLOAD_MIB * MIB)
  const figures: Figure[] = []
  for (const [client, daemon] of PAIRS) {
    world.tell(`1.3 GB, cut after ${Math.round(cutAt / MIB)} MiB: ${client} to ${daemon}`)
    rmSync(`${world.module}/tree`, { recursive: true, force: true })
    const bytes = await cutAndRepeat(world, client, daemon, cutAt)
    const missing = UPLOAD_MIB * MIB - cutAt
    const label = `1.3 GB, cut after ${Math.round(cutAt / MIB)} MiB, ${client} to ${daemon}: second run`
    figures.push(beside(label, bytes, 'bytes'), atMost(`${label}, of what was missing`, bytes / missing, 1.02, '×'))
  }
  world.clear()
  return figures
}

/** Returns the bytes of the second run, both directions. */
async function cutAndRepeat({ stage, source, module, daemons }: World, client: Side, daemon: Side, cutAt: number) {
  const proxy = await TcpProxy.start(stage, (await daemons).of[daemon].port)
  const url = `rsync://127.0.0.1:${proxy.port}/module/tree/`
  const upload = () => run(client, '-a', '--partial-dir=.rsync-partial', `${source}/tree/`, url)
  proxy.cutAfter('up', cutAt)
  const cut = await upload().catch((error: Error) => error)
  if (!(cut instanceof Error)) throw new Error('the upload was not cut')
  await sleep(1000) // the daemon puts the part away
  const before = proxy.bytes.up + proxy.bytes.down
  await upload()
  const bytes = proxy.bytes.up + proxy.bytes.down - before
  await proxy.close()
  await mustBeEqual(`${source}/tree`, `${module}/tree`)
  return bytes
}

// Files

function writeRandom(path: string, mib: number): void {
  const file = openSync(path, 'w')
  for (let i = 0; i < mib; i++) writeSync(file, randomBytes(MIB))
  closeSync(file)
}

/** A byte somewhere, and a time of its own: the quick check looks at whole seconds only. */
function changeOneByte(path: string, round: number): void {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.from([round + 1]), 0, 1, (round * 53 + 17) * MIB + 12_345)
  futimesSync(file, A_SECOND + round, A_SECOND + round)
  closeSync(file)
}

/** `npm run bench -- peer`, or a part of it: `peer/small`. */
export const peer = Object.fromEntries(
  Object.entries({ small, large, delta, 'nothing-to-do': nothingToDo, crowd, bandwidth, resumed }).map(
    ([name, part]): [string, Benchmark] => [`peer/${name}`, on(part)],
  ),
)
