import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon, occupy, oldRsync, STOCK, urlOf, versionOf } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { Random } from '../support/random.js'
import { content, makeSmall } from '../support/sample.js'
import { Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { type Direction, TcpProxy } from '../support/tcp-proxy.js'

const DIRECTIONS: readonly Direction[] = ['up', 'down']
const MIB = 1024 * 1024

/** Names that rsync's receiver gives to files that are not complete yet. */
const isTemporary = (path: string) => /(^|\/)\.[^/]*\.\w{6}$/.test(path)

describe('a daemon killed in mid-transfer', () => {
  async function killedInMidTransfer(stage: Stage): Promise<{ syncline: Syncline; source: string; module: string }> {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'), { options: ['--bwlimit=4m'] })
    writeFileSync(`${source}/large`, content(8 * MIB))
    await until('the transfer runs', () => readdirSync(module).some((name) => name.startsWith('.large.')))
    await daemon.kill()
    writeFileSync(`${source}/meanwhile`, 'meanwhile')
    rmSync(`${source}/sub/two`)
    await sleep(300)
    await daemon.start()
    return { syncline, source, module }
  }

  test(
    'and restarted gets everything',
    staged(async (stage) => {
      const { syncline, source, module } = await killedInMidTransfer(stage)
      await syncline.equal(source, module, { ignore: isTemporary, except: ['mtime'] })
    }),
  )

  test(
    'leaves no temporary file behind for good',
    staged(async (stage) => {
      const { syncline, source, module } = await killedInMidTransfer(stage)
      await syncline.equal(source, module)
    }),
  )
})

describe('a connection cut', () => {
  for (const direction of DIRECTIONS) {
    for (const bytes of [0, 1, 10, 40, 100, 200, 500, 5000]) {
      test(
        `after ${bytes} bytes ${direction} during the first full sync is made good`,
        staged(async (stage) => {
          const source = stage.dir('source')
          makeSmall(source)
          const module = stage.path('module')
          const daemon = await Daemon.start(stage, { modules: { m: module } })
          const proxy = await TcpProxy.start(stage, daemon.port)
          proxy.cutAfter(direction, bytes)
          const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
          await syncline.equal(source, module)
        }),
      )
    }

    test(`at any byte ${direction} while changes travel is made good`, async () => {
      const stage = new Stage()
      const seed = Math.floor(Math.random() * 0xffffffff)
      try {
        const random = new Random(seed)
        const source = stage.dir('source')
        makeSmall(source)
        const module = stage.path('module')
        const daemon = await Daemon.start(stage, { modules: { m: module } })
        const proxy = await TcpProxy.start(stage, daemon.port)
        const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
        for (let i = 0; i < 20; i++) {
          proxy.cutAfter(direction, random.below(direction === 'up' ? 15_000 : 600))
          mkdirSync(`${source}/d${i}/e`, { recursive: true })
          for (let f = 0; f < 5; f++) writeFileSync(`${source}/d${i}/e/f${f}`, random.bytes(random.below(4000)))
          if (i > 0) renameSync(`${source}/d${i - 1}`, `${source}/d${i}/e/moved`)
          if (i > 3 && i % 4 === 0) rmSync(`${source}/d${i}/e/moved/e/f1`)
          await syncline.equal(source, module)
        }
        assert.ok(proxy.cuts > 5, `only ${proxy.cuts} connections were cut`)
      } catch (error) {
        console.error(`seed ${seed}\n${stage.testimony()}`)
        throw error
      } finally {
        await stage.close()
      }
    })
  }

  test(
    'everywhere at once is made good',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const proxy = await TcpProxy.start(stage, daemon.port)
      const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
      for (let i = 0; i < 300; i++) {
        writeFileSync(`${source}/f${i}`, content(3000, i))
        if (i % 60 === 59) proxy.cutAll()
        await sleep(1)
      }
      await syncline.equal(source, module)
    }),
  )
})

test(
  'a daemon that is upgraded under hot sessions gets what changes before, while and after it is away',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.path('module')
    const old = oldRsync('3.2.7')
    const daemon = await Daemon.start(stage, { rsync: old, modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    writeFileSync(`${source}/before`, 'before')
    await syncline.equal(source, module)
    await daemon.stop()
    writeFileSync(`${source}/while`, 'while')
    rmSync(`${source}/before`)
    assert.notEqual(versionOf(old), versionOf(STOCK))
    await daemon.start(STOCK)
    await syncline.equal(source, module)
    writeFileSync(`${source}/after`, 'after')
    await syncline.equal(source, module)
  }),
)

test(
  'a daemon that closes idle connections (timeout) still gets the next change',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: { path: module, timeout: 2 } } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await sleep(5000)
    writeFileSync(`${source}/after a rest`, 'after')
    await syncline.equal(source, module)
    assert.equal(daemon.logged('timeout'), 0, 'no session ran into the timeout')
  }),
)

describe('max connections', () => {
  test(
    'reached: the refusal is backed off from, not hammered, and mirroring starts when a place is free',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: { path: module, 'max connections': 1 } } })
      const leave = await occupy(daemon.port, 'm')
      const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
      await syncline.reaches('backing off', (target) => target.state === 'backing-off')
      await sleep(4000)
      const refusals = daemon.logged('max connections')
      assert.ok(refusals >= 1 && refusals <= 12, `${refusals} attempts in about five seconds`)
      leave()
      await syncline.mirroring()
      await syncline.equal(source, module)
    }),
  )

  for (const limit of [1, 2]) {
    test(
      `= ${limit} is enough to mirror, without a stream of refusals`,
      staged(async (stage) => {
        const source = stage.dir('source')
        makeSmall(source)
        const module = stage.path('module')
        const daemon = await Daemon.start(stage, { modules: { m: { path: module, 'max connections': limit } } })
        const syncline = await Syncline.start(stage, source, daemon.url('m'))
        for (let i = 0; i < 60; i++) {
          writeFileSync(`${source}/f${i}`, content(2000, i))
          await sleep(20)
        }
        await syncline.equal(source, module)
        const refusals = daemon.logged('max connections')
        assert.ok(refusals <= 20, `${refusals} refusals for 60 changes`)
      }),
    )
  }

  test(
    'leaves room for others: while mirroring is idle, a stock rsync still gets in',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: { path: module, 'max connections': 4 } } })
      const syncline = await Syncline.start(stage, source, daemon.url('m'))
      await syncline.equal(source, module)
      await sleep(2000)
      const leave = await occupy(daemon.port, 'm')
      leave()
    }),
  )
})
