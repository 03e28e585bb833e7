import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { elapsedMs, Poller, rsyncMs } from './arrival.js'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { Daemons, scratch } from './peers.js'
import { content, Daemon, differences, type Stage, Syncline, sleep } from './support.js'

const FILES = 5000
/** Before V8 has compiled what runs often: measured, too, but apart. */
const FIRST = 4
const ROUNDS = FIRST + 5

/** A directory of 5,000 small files is moved into the source; beside `rsync -a` of it to a fresh destination. */
export const batch: Benchmark = async (stage, tell) => {
  const place = scratch(stage)
  const outside = `${place}/outside`
  const [m, plain, module] = ['m', 'plain', 'module'].map((name) => `${place}/${name}`)
  const daemon = await Daemon.start(stage, { modules: { m, plain } })
  const ours = (await Daemons.start(stage, { module, source: plain })).url('ours', 'module')
  const mirrors = {
    stock: await Mirror.start(stage, made(`${place}/for stock`), daemon.url('m'), m),
    ours: await Mirror.start(stage, made(`${place}/for ours`), ours, module),
  }
  const spawned: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    tell(`round ${round + 1} of ${ROUNDS}: ${FILES} files`)
    await fill(outside)
    spawned.push(await rsyncMs(`${outside}/`, daemon.url('plain', `${round}/`)))
    await sleep(500)
    await mirrors.stock.moveIn(outside, `batch-${round}`)
    await fill(outside)
    await mirrors.ours.moveIn(outside, `batch-${round}`)
  }
  const share = (of: Mirror, from: number, to: number) => median(of.took.slice(from, to)) / median(spawned)
  const { stock: toStock, ours: toOurs } = mirrors
  return [
    beside('5,000 files moved in: median', median(toStock.took), 'ms'),
    beside('rsync -a of the same: median', median(spawned), 'ms'),
    atMost('5,000 files: share of the time of rsync -a', share(toStock, FIRST, ROUNDS), 0.8, '×'),
    beside('the first 5,000', share(toStock, 0, 1), '×'),
    atMost('5,000 files, to a daemon of ours: share of the time of rsync -a', share(toOurs, FIRST, ROUNDS), 1, '×'),
    beside('the first 5,000, to a daemon of ours', share(toOurs, 0, 1), '×'),
  ]
}

function made(directory: string): string {
  mkdirSync(directory)
  return directory
}

async function fill(outside: string): Promise<void> {
  mkdirSync(outside)
  for (let i = 0; i < FILES; i++) writeFileSync(`${outside}/file-${i}`, content(1024 + ((i * 7919) % 7169), i))
  await sleep(500)
}

/** A mirror, and how many milliseconds each directory took that was moved into its source. */
class Mirror {
  readonly took: number[] = []

  private constructor(
    readonly source: string,
    readonly module: string,
    readonly syncline: Syncline,
    readonly poller: Poller,
  ) {}

  static async start(stage: Stage, source: string, url: string, module: string): Promise<Mirror> {
    writeFileSync(`${source}/kept`, 'so that the source is never empty')
    const options = { stateDir: stage.dir(`state for ${basename(source)}`) }
    return new Mirror(source, module, await Syncline.start(stage, source, url, options), new Poller(stage))
  }

  async moveIn(outside: string, name: string): Promise<void> {
    const began = process.hrtime.bigint()
    renameSync(outside, `${this.source}/${name}`)
    const arrived = await this.poller.arrival(`${this.source}/${name}`, `${this.module}/${name}`, FILES)
    this.took.push(elapsedMs(began, arrived))
    await this.syncline.equal(this.source, this.module)
    const found = differences(this.source, this.module)
    if (found.length > 0) throw new Error(found.join('\n'))
    await sleep(500)
  }
}
