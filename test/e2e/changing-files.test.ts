import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { Daemon, urlOf } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { content } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { TcpProxy } from '../support/tcp-proxy.js'

const MIB = 1024 * 1024

async function mirrored(stage: Stage, options: string[] = []) {
  const source = stage.dir('source')
  fs.writeFileSync(`${source}/first`, 'first')
  const module = stage.path('module')
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'), { options })
  const started = () => until('the transfer runs', () => fs.readdirSync(module).some((name) => /^\.large\./.test(name)))
  return { source, module, daemon, syncline, started }
}

test(
  'a file that changes all the time while it travels is equal in the end',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage)
    const file = fs.openSync(`${source}/busy`, 'w+')
    for (let i = 0; i < 400; i++) {
      fs.writeSync(file, content(20_000, i), 0, 20_000, (i * 7919) % (4 * MIB))
      if (i % 50 === 49) fs.ftruncateSync(file, MIB)
      if (i % 10 === 9) await sleep(5)
    }
    fs.closeSync(file)
    await syncline.equal(source, module)
  }),
)

test(
  'a file that is opened, written and closed all the time is equal in the end',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage)
    for (let i = 0; i < 400; i++) {
      fs.writeFileSync(`${source}/busy`, content((i * 37) % 300_000, i))
      if (i % 3 === 0) await sleep(1)
    }
    await syncline.equal(source, module)
  }),
)

test(
  'a file that is replaced all the time never is half of one version and half of another',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage)
    const seen = new Set<string>()
    for (let i = 0; i < 300 || (seen.size === 0 && i < 10_000); i++) {
      fs.writeFileSync(`${stage.root}/next`, Buffer.alloc(200_000, i % 251))
      fs.renameSync(`${stage.root}/next`, `${source}/replaced`)
      await sleep(2)
      if (!fs.existsSync(`${module}/replaced`)) continue
      const there = fs.readFileSync(`${module}/replaced`)
      seen.add(`${there.length} ${new Set(there).size}`)
    }
    await syncline.equal(source, module)
    assert.deepEqual([...seen], ['200000 1'])
  }),
)

test(
  'a file deleted while it is being sent is nowhere in the end',
  staged(async (stage) => {
    const { source, module, syncline, started } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(12 * MIB))
    await started()
    fs.unlinkSync(`${source}/large`)
    await syncline.equal(source, module)
    assert.deepEqual(fs.readdirSync(module), ['first'])
  }),
)

test(
  'a file cut short while it is being sent arrives as it then is',
  staged(async (stage) => {
    const { source, module, syncline, started } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(12 * MIB))
    await started()
    fs.truncateSync(`${source}/large`, 1000)
    await syncline.equal(source, module)
  }),
)

test(
  'a file renamed while it is being sent is at its new name only',
  staged(async (stage) => {
    const { source, module, syncline, started } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(8 * MIB))
    await started()
    fs.renameSync(`${source}/large`, `${source}/renamed`)
    await syncline.equal(source, module)
  }),
)

test(
  'the last of two versions wins, although the first one is slow',
  staged(async (stage) => {
    const { source, module, syncline, started } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(8 * MIB))
    fs.writeFileSync(`${source}/second`, 'the second version')
    await started()
    fs.renameSync(`${source}/second`, `${source}/large`)
    await syncline.equal(source, module)
  }),
)

test(
  'a directory deleted while its files are being sent is nowhere in the end',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, ['--bwlimit=4m'])
    fs.mkdirSync(`${stage.root}/in/sub`, { recursive: true })
    for (let i = 0; i < 40; i++) fs.writeFileSync(`${stage.root}/in/sub/${i}`, content(200_000, i))
    fs.renameSync(`${stage.root}/in`, `${source}/in`)
    await until('some have arrived', () => fs.existsSync(`${module}/in/sub/1`))
    fs.rmSync(`${source}/in`, { recursive: true })
    await syncline.equal(source, module)
  }),
)

/** Small files are written while a large one is under way; they must be there before it is. */
async function assertOvertaken(syncline: Syncline, source: string, module: string): Promise<void> {
  fs.writeFileSync(`${source}/large`, content(16 * MIB))
  await until('the transfer runs', () => fs.readdirSync(module).some((name) => /^\.large\./.test(name)))
  for (let i = 0; i < 5; i++) fs.writeFileSync(`${source}/small ${i}`, `${i}`)
  await until('the small files are there', () => fs.existsSync(`${module}/small 4`))
  assert.ok(!fs.existsSync(`${module}/large`), 'the large one is still under way')
  await syncline.equal(source, module)
}

test(
  'small files do not wait for a large one on a slow connection',
  staged(async (stage) => {
    const source = stage.dir('source')
    fs.writeFileSync(`${source}/first`, 'first')
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const proxy = await TcpProxy.start(stage, daemon.port)
    const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
    proxy.throttle(3 * MIB)
    await assertOvertaken(syncline, source, module)
  }),
)

test(
  'small files do not wait for a large one under --bwlimit',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, ['--bwlimit=3m'])
    await assertOvertaken(syncline, source, module)
  }),
)

test(
  'a name that is now a file and now a FIFO blocks nothing',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage)
    const fifos = Array.from({ length: 200 }, (_, i) => stage.path(`fifo ${i}`))
    execFileSync('mkfifo', fifos)
    for (const fifo of fifos) {
      fs.writeFileSync(stage.path('file'), content(100_000))
      fs.renameSync(stage.path('file'), `${source}/turncoat`)
      await sleep(1)
      fs.renameSync(fifo, `${source}/turncoat`)
    }
    fs.writeFileSync(`${source}/after`, 'after')
    await syncline.equal(source, module)
  }),
)
