import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { elapsedMs, Poller, rsyncMs } from './arrival.js'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { content, Daemon, differences, Syncline, sleep } from './support.js'

const FILES = 5000
const ROUNDS = 5

/** A directory of 5,000 small files is moved into the source; beside `rsync -a` of it to a fresh destination. */
export const batch: Benchmark = async (stage, tell) => {
  const [source, module, outside] = [stage.dir('source'), stage.dir('module'), stage.path('outside')]
  writeFileSync(`${source}/kept`, 'so that the source is never empty')
  const daemon = await Daemon.start(stage, { modules: { m: module, plain: stage.path('plain') } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'))
  const poller = new Poller(stage)
  const ours: number[] = []
  const theirs: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    tell(`round ${round + 1} of ${ROUNDS}: ${FILES} files`)
    // Nothing is deleted in between: ext4 looks at each inode that was freed lately before it takes another.
    mkdirSync(outside)
    for (let i = 0; i < FILES; i++) writeFileSync(`${outside}/file-${i}`, content(1024 + ((i * 7919) % 7169), i))
    await sleep(500)
    theirs.push(await rsyncMs(`${outside}/`, daemon.url('plain', `${round}/`)))
    await sleep(500)

    const moved = `${source}/batch-${round}`
    const began = process.hrtime.bigint()
    renameSync(outside, moved)
    const arrived = await poller.arrival(moved, `${module}/batch-${round}`, FILES)
    ours.push(elapsedMs(began, arrived))
    await syncline.equal(source, module)
    const found = differences(source, module)
    if (found.length > 0) throw new Error(found.join('\n'))
  }
  return [
    beside('5,000 files moved in: median', median(ours), 'ms'),
    beside('rsync -a of the same: median', median(theirs), 'ms'),
    atMost('5,000 files: share of the time of rsync -a', median(ours) / median(theirs), 0.8, '×'),
  ]
}
