import { chmodSync, linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

/**
 * A change through one name of a file, and then that name goes before the target has been told of either: the event
 * named a name that is no more. `act` runs while the target stands still; each of its steps is noticed before the next.
 */
function whileTheTargetStands(
  prepare: (source: string) => void,
  ...steps: ((source: string) => void)[]
): () => Promise<void> {
  return staged(async (stage: Stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    mkdirSync(`${source}/d`)
    writeFileSync(`${source}/kept`, 'as it was')
    prepare(source)
    const daemon = await Daemon.start(stage, { modules: { m: stage.path('module') } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await syncline.equal(source, stage.path('module'))
    daemon.pause()
    // The first change is under way and stays there; what follows waits behind it, and is looked at in the end.
    for (const [i, step] of [() => {}, ...steps].entries()) {
      step(source)
      writeFileSync(`${source}/witness-${i}`, '')
      await syncline.reaches(`step ${i} is noticed`, (target) => target.owed > i)
    }
    daemon.resume()
    await syncline.equal(source, stage.path('module'))
  })
}

const twoNames = (source: string) => linkSync(`${source}/kept`, `${source}/d/other`)

test(
  'a change through a name that is removed at once reaches the other name',
  whileTheTargetStands(
    twoNames,
    (source) => chmodSync(`${source}/d/other`, 0o600),
    (source) => rmSync(`${source}/d/other`),
  ),
)

test(
  'a write through a name that something else is moved over at once reaches the other name',
  whileTheTargetStands(
    twoNames,
    (source) => {
      writeFileSync(`${source}/d/other`, 'written through the other name')
      writeFileSync(`${source}/d/new`, 'a new file')
    },
    (source) => renameSync(`${source}/d/new`, `${source}/d/other`),
  ),
)

test(
  'a write through a name whose directory is renamed, then removed, reaches the other name',
  whileTheTargetStands(
    twoNames,
    (source) => renameSync(`${source}/d`, `${source}/e`),
    (source) => writeFileSync(`${source}/e/other`, 'written through the other name'),
    (source) => rmSync(`${source}/e`, { recursive: true }),
  ),
)

test(
  'a write through a name whose directory is moved out of the source reaches the other name',
  whileTheTargetStands(
    twoNames,
    (source) => writeFileSync(`${source}/d/other`, 'written through the other name'),
    (source) => renameSync(`${source}/d`, `${source}/../moved-out`),
  ),
)

test(
  'a write through a name that is renamed, then removed at once, reaches the other name',
  whileTheTargetStands(twoNames, (source) => {
    renameSync(`${source}/d/other`, `${source}/d/renamed`)
    writeFileSync(`${source}/d/renamed`, 'written through the new name')
    rmSync(`${source}/d/renamed`)
  }),
)

test(
  'a write through a name that another file is moved over while a batch looks reaches the other name',
  staged(async (stage: Stage) => {
    const source = stage.dir('source')
    for (let i = 0; i < 150; i++) {
      writeFileSync(`${source}/kept-${i}`, 'as it was')
      linkSync(`${source}/kept-${i}`, `${source}/other-${i}`)
      writeFileSync(`${source}/new-${i}`, 'a new file')
    }
    const daemon = await Daemon.start(stage, { modules: { m: stage.path('module') } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    for (let i = 0; i < 150; i++) {
      writeFileSync(`${source}/other-${i}`, 'written through the other name')
      await sleep((i % 5) / 2)
      renameSync(`${source}/new-${i}`, `${source}/other-${i}`)
      await sleep(2)
    }
    await syncline.equal(source, stage.path('module'))
  }),
)

test(
  'a file with thousands of names is no reason to stand still, nor is a rename of their directory',
  staged(async (stage: Stage) => {
    const source = stage.dir('source')
    mkdirSync(`${source}/d`)
    writeFileSync(`${source}/kept`, 'kept')
    const daemon = await Daemon.start(stage, { modules: { m: stage.path('module') } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    for (let i = 0; i < 4000; i++) linkSync(`${source}/kept`, `${source}/d/${i}`)
    await syncline.equal(source, stage.path('module'))
    renameSync(`${source}/d`, `${source}/e`)
    await syncline.equal(source, stage.path('module'))
  }),
)

test(
  'a write through a name that no target has ever been told of reaches the other name',
  whileTheTargetStands(
    () => {},
    (source) => linkSync(`${source}/kept`, `${source}/d/new`),
    (source) => writeFileSync(`${source}/d/new`, 'written through the new name'),
    (source) => rmSync(`${source}/d/new`),
  ),
)
