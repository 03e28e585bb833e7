import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { after, afterEach, before, describe, test } from 'node:test'
import { CHANGES } from '../support/changes.js'
import { Daemon } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { History } from '../support/history.js'
import { detachMount, growTmpfs, mountTmpfs, unmount } from '../support/mount.js'
import { content, makeEverything, makeSmall } from '../support/sample.js'
import { Stage, staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'
import { snapshot } from '../support/tree.js'

// A directory of this machine as DEST: our own server, in the same process.

describe('to a local directory', () => {
  let stage: Stage
  let syncline: Syncline
  let failed = true

  before(async () => {
    stage = new Stage()
    makeEverything(stage.dir('source'))
    syncline = await Syncline.start(stage, stage.path('source'), stage.path('copy'))
    await syncline.equal(stage.path('source'), stage.path('copy'))
  })
  afterEach(() => {
    if (failed) console.error(stage.testimony())
  })
  after(() => stage.close())

  for (const [name, change] of Object.entries(CHANGES)) {
    test(`${name}: arrives`, async () => {
      failed = true
      change(stage.path('source'), stage.dir('outside'))
      await syncline.equal(stage.path('source'), stage.path('copy'))
      failed = false
    })
  }
})

/** A mirror to a local directory, equal. */
async function mirrored(stage: Stage, copy = stage.path('copy'), options: string[] = []) {
  const source = stage.dir('source')
  makeSmall(source)
  const stateDir = stage.dir('state')
  const syncline = await Syncline.start(stage, source, copy, { stateDir, options })
  await syncline.equal(source, copy)
  return { source, copy, syncline, stateDir }
}

const waits = (syncline: Syncline, why: RegExp) =>
  syncline.reaches('it waits', ({ state, reason }) => state === 'backing-off' && why.test(reason ?? ''))

describe('a local directory', () => {
  test(
    'after a random history at full speed is equal, and nothing temporary is left',
    staged(async (stage) => {
      const source = stage.dir('source')
      const history = new History({ seed: Date.now() % 1e6, source, outside: stage.path('outside') })
      history.run(50)
      makeSmall(stage.dir('source/kept'))
      const syncline = await Syncline.start(stage, source, stage.path('copy'))
      for (let i = 0; i < 3000; i++) {
        history.step()
        if (i % 100 === 99) await sleep(1)
      }
      await syncline.equal(source, stage.path('copy'), { patienceMs: 60_000 })
    }),
  )

  test(
    'is given the new names of a directory without its content being written again',
    staged(async (stage) => {
      const { source, copy, syncline } = await mirrored(stage)
      fs.mkdirSync(`${source}/old`)
      for (let i = 0; i < 50; i++) fs.writeFileSync(`${source}/old/${i}`, content(10_000, i))
      await syncline.equal(source, copy)
      const before = inodes(`${copy}/old`)
      fs.renameSync(`${source}/old`, `${source}/sub/new`)
      await syncline.equal(source, copy)
      assert.deepEqual(inodes(`${copy}/sub/new`), before)
    }),
  )

  test(
    'is equal again after kill -9 in the middle and changes while nobody looked, without a new full sync',
    staged(async (stage) => {
      const { source, copy, syncline, stateDir } = await mirrored(stage)
      await sleep(500)
      fs.writeFileSync(`${source}/large`, content(200 << 20))
      for (let i = 0; i < 200; i++) fs.writeFileSync(`${source}/sub/${i}`, content(3000, i))
      await sleep(50)
      await syncline.kill()
      fs.rmSync(`${source}/sub/7`)
      fs.renameSync(`${source}/one`, `${source}/won`)
      fs.writeFileSync(`${source}/sub/8`, 'while it was down')
      const again = await Syncline.start(stage, source, copy, { stateDir })
      await again.equal(source, copy)
      assert.equal(await again.stop(), 0)
    }),
  )

  test(
    'and a daemon: one that hangs does not delay the other',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const copy = stage.path('copy')
      const syncline = await Syncline.start(stage, source, [copy, daemon.url('m')])
      await syncline.equal(source, copy)
      daemon.pause()
      fs.writeFileSync(`${source}/new`, 'new')
      fs.rmSync(`${source}/one`)
      await until('it is there', () => fs.existsSync(`${copy}/new`) && !fs.existsSync(`${copy}/one`))
      daemon.resume()
      await syncline.equal(source, module, { target: 1 })
      await syncline.equal(source, copy)
    }),
  )

  test(
    'that is full keeps the file in the failures until there is space, and gets it then',
    staged(async (stage) => {
      const copy = stage.path('copy')
      mountTmpfs(stage, copy, '1m')
      const { source, syncline } = await mirrored(stage, copy)
      fs.writeFileSync(`${source}/too large`, content(1_500_000, 2))
      const target = await syncline.reaches('the failure is shown', ({ failures }) => failures.length > 0)
      assert.deepEqual(
        target.failures.map(({ path }) => path),
        ['too large'],
      )
      assert.match(target.failures[0].reason, /No space left on device \(28\)/)
      fs.writeFileSync(`${source}/fits`, 'fits')
      await until('what fits goes through', () => fs.existsSync(`${copy}/fits`))
      growTmpfs(copy, '8m')
      await syncline.equal(source, copy)
    }),
  )

  test(
    'that is full during the first full sync is filled up once there is space',
    staged(async (stage) => {
      const [source, copy] = [stage.dir('source'), stage.path('copy')]
      mountTmpfs(stage, copy, '1m')
      for (let i = 0; i < 5; i++) fs.writeFileSync(`${source}/f${i}`, content(400_000, i))
      const syncline = await Syncline.start(stage, source, copy, { early: true })
      await syncline.reaches('something is owed', ({ lastError }) => /No space left/.test(lastError ?? ''))
      growTmpfs(copy, '8m')
      await syncline.mirroring()
      await syncline.equal(source, copy)
    }),
  )

  test(
    'with symlinks planted in it is left by none of them',
    staged(async (stage) => {
      const { source, copy, syncline } = await mirrored(stage)
      const outside = stage.dir('outside')
      makeSmall(outside)
      const kept = snapshot(outside)
      fs.renameSync(`${copy}/sub`, stage.path('aside'))
      fs.symlinkSync(`${outside}/sub`, `${copy}/sub`)
      fs.writeFileSync(`${source}/sub/two`, 'changed')
      fs.rmSync(`${source}/sub/below`, { recursive: true })
      await syncline.equal(source, copy)
      assert.equal(snapshot(outside), kept)
    }),
  )

  test(
    'keeps what it has when the source is gone or empty, or more is deleted than may be',
    staged(async (stage) => {
      const { source, copy, syncline } = await mirrored(stage, undefined, ['--max-delete=10'])
      for (let i = 0; i < 20; i++) fs.writeFileSync(`${source}/sub/${i}`, '')
      await syncline.equal(source, copy)
      const kept = snapshot(copy)
      fs.renameSync(`${source}/sub`, stage.path('gone')) // in one step: of a slow removal the first few may be deleted
      const target = await syncline.reaches('it is halted', ({ state }) => state === 'halted')
      assert.match(target.reason ?? '', /delete/)
      assert.equal(snapshot(copy), kept)
      await syncline.resume()
      await syncline.equal(source, copy)
      fs.renameSync(source, stage.path('elsewhere'))
      await syncline.reaches('it is halted', ({ state }) => state === 'halted')
      assert.ok(fs.existsSync(`${copy}/one`))
    }),
  )
})

describe('a local directory whose filesystem', () => {
  test(
    'is unmounted: nothing is written below it; it goes on when it is back',
    staged(async (stage) => {
      const [copy, real] = [stage.dir('copy'), stage.dir('real')]
      bind(stage, real, copy)
      const { source, syncline } = await mirrored(stage, copy)
      unmount(copy)
      fs.writeFileSync(`${source}/while it was away`, 'x')
      fs.rmSync(`${source}/sub/two`)
      fs.renameSync(`${source}/sub/below`, `${source}/above`)
      await waits(syncline, /not on the filesystem that it was on, at .*copy.*: nothing is written/)
      await sleep(1500)
      assert.deepEqual(fs.readdirSync(copy), [])
      bind(stage, real, copy)
      await syncline.equal(source, copy)
      await until('it says so', () => /not on the filesystem/.test(syncline.stderr))
    }),
  )

  test(
    'is detached while a large file is on its way: nothing is written below it',
    staged(async (stage) => {
      const [copy, real] = [stage.dir('copy'), stage.dir('real')]
      bind(stage, real, copy)
      const { source, syncline } = await mirrored(stage, copy)
      fs.writeFileSync(`${source}/large`, content(300 << 20))
      await sleep(100)
      detachMount(copy)
      fs.writeFileSync(`${source}/after`, 'x')
      await waits(syncline, /nothing is written/)
      assert.deepEqual(fs.readdirSync(copy), [])
      bind(stage, real, copy)
      await syncline.equal(source, copy)
    }),
  )

  test(
    'is not mounted at the start, after it was once: it waits, and goes on when it is',
    staged(async (stage) => {
      const [copy, real] = [stage.dir('copy'), stage.dir('real')]
      bind(stage, real, copy)
      const { source, syncline, stateDir } = await mirrored(stage, copy)
      await syncline.stop()
      unmount(copy)
      const again = await Syncline.start(stage, source, copy, { stateDir, early: true })
      fs.writeFileSync(`${source}/new`, 'new')
      await waits(again, /nothing is written/)
      assert.deepEqual(fs.readdirSync(copy), [])
      bind(stage, real, copy)
      await again.mirroring()
      await again.equal(source, copy)
    }),
  )

  test(
    'is another one is not written to until somebody says that it is right',
    staged(async (stage) => {
      const copy = stage.path('copy')
      mountTmpfs(stage, copy, '8m')
      const { source, syncline } = await mirrored(stage, copy)
      unmount(copy)
      mountTmpfs(stage, copy, '8m')
      fs.writeFileSync(`${copy}/of somebody else`, 'x')
      fs.writeFileSync(`${source}/new`, 'new')
      await waits(syncline, /run "syncline resume"/)
      assert.deepEqual(fs.readdirSync(copy), ['of somebody else'])
      await syncline.resume()
      await syncline.equal(source, copy)
    }),
  )

  test(
    'stays, but that is deleted: it is not made anew unasked, and filled when it is there again',
    staged(async (stage) => {
      const { source, copy, syncline } = await mirrored(stage)
      fs.rmSync(copy, { recursive: true })
      fs.writeFileSync(`${source}/new`, 'new')
      await waits(syncline, /is gone: nothing is written/)
      await sleep(700)
      assert.ok(!fs.existsSync(copy))
      fs.mkdirSync(copy)
      await syncline.equal(source, copy)
      fs.rmSync(copy, { recursive: true })
      fs.writeFileSync(`${source}/newer`, 'newer')
      await waits(syncline, /is gone/)
      await syncline.resume()
      await syncline.equal(source, copy)
    }),
  )
})

interface Refusal {
  dest: (stage: Stage, source: string) => string[]
  code: number
  says: RegExp
}

const REFUSALS: Record<string, Refusal> = {
  'SRC itself': { dest: (_, source) => [`${source}/`], code: 1, says: /is SRC, or below it/ },
  'below SRC': { dest: (_, source) => [`${source}/sub/not/there`], code: 1, says: /is SRC, or below it/ },
  'below SRC by a symlink': {
    dest: (stage, source) => {
      fs.symlinkSync(`${source}/sub`, stage.path('link'))
      return [stage.path('link/x')]
    },
    code: 1,
    says: /is SRC, or below it/,
  },
  'below SRC by a bind mount': {
    dest: (stage, source) => {
      bind(stage, source, stage.dir('bound'))
      return [stage.path('bound/sub')]
    },
    code: 1,
    says: /is SRC, or below it/,
  },
  'above SRC': { dest: (stage) => [stage.root], code: 1, says: /above SRC/ },
  'the root directory': { dest: () => ['/'], code: 1, says: /root directory/ },
  'a word that is no directory': { dest: () => ['nosuch'], code: 1, says: /\.\/nosuch/ },
  'in a directory that is not there': {
    dest: (stage) => [stage.path('not/there')],
    code: 11,
    says: /there is no directory to make it in/,
  },
  'a file': { dest: (_, source) => [`${source}/../file`], code: 3, says: /not a directory/ },
  'a directory, and one below it': {
    dest: (stage) => [stage.path('a'), stage.path('a/b')],
    code: 1,
    says: /each would delete/,
  },
  'above the state directory': { dest: (stage) => [stage.dir('keeps')], code: 1, says: /state directory/ },
}

describe('refused as DEST, with one line: ', () => {
  for (const [name, { dest, code, says }] of Object.entries(REFUSALS)) {
    test(
      name,
      staged(async (stage) => {
        const source = stage.dir('source')
        makeSmall(source)
        fs.writeFileSync(stage.path('file'), '')
        const kept = snapshot(source)
        const outcome = await run([`--state-dir=${stage.path('keeps/state')}`, source, ...dest(stage, source)])
        assert.match(outcome.stderr, says)
        assert.equal(outcome.stderr.trimEnd().split('\n').length, 1, outcome.stderr)
        assert.equal(outcome.code, code, outcome.stderr)
        assert.equal(snapshot(source), kept)
      }),
    )
  }

  test(
    'a configuration, with line and column',
    staged(async (stage) => {
      const source = stage.dir('source')
      const file = stage.path('config.yaml')
      const check = async (...targets: string[]) => {
        fs.writeFileSync(file, `sources:\n  - path: ${source}\n    targets: ${JSON.stringify(targets)}\n`)
        return (await run(['check', file])).stderr
      }
      assert.match(await check(`${source}/x`), /config\.yaml:3:15: .*is SRC, or below it/)
      assert.match(await check(stage.path('a'), stage.path('b/../a/x')), /the same place, or one within the other/)
      assert.equal(await check(stage.path('a'), stage.path('b')), '')
    }),
  )
})

test(
  'a dry run to a local directory says what it would do, and makes nothing',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const dry = () => run(['-n', source, stage.path('copy')])
    const { code, stdout } = await dry()
    assert.equal(code, 0)
    assert.match(stdout, /^<f\+{9} sub\/below\/three$/m)
    assert.ok(!fs.existsSync(stage.path('copy')))
    fs.cpSync(source, stage.path('copy'), { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    fs.writeFileSync(stage.path('copy/extra'), '')
    assert.match((await dry()).stdout, /^\*deleting {3}extra$/m)
    assert.ok(fs.existsSync(stage.path('copy/extra')))
  }),
)

const inodes = (dir: string) =>
  fs
    .readdirSync(dir)
    .sort()
    .map((name) => fs.statSync(`${dir}/${name}`).ino)

function bind(stage: Stage, from: string, to: string): void {
  execFileSync('mount', ['--bind', from, to])
  stage.defer(() => void spawnSync('umount', ['-l', to]))
}
