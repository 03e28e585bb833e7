import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { detachMount, mountTmpfs, unmount } from '../support/mount.js'
import { makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { differences, snapshot } from '../support/tree.js'

async function mirrored(stage: Stage, prepare: (source: string) => void, options: string[] = []) {
  const source = stage.path('source')
  prepare(source)
  const module = stage.path('module')
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'), { options })
  await syncline.equal(source, module)
  return { source, module, syncline, kept: snapshot(module) }
}

const small = (source: string) => {
  fs.mkdirSync(source)
  makeSmall(source)
}

async function assertHalted(syncline: Syncline): Promise<void> {
  const target = await syncline.reaches('the target is halted', ({ state }) => state === 'halted')
  assert.ok(target.reason, 'it says why')
  assert.ok(syncline.running)
}

/** Halted says nothing about a batch under way; a moment later nothing may have been touched either. */
async function assertKept(module: string, kept: string): Promise<void> {
  await sleep(500)
  assert.equal(snapshot(module), kept)
}

describe('a target halts and the destination keeps its data', () => {
  test(
    'when the source is moved away; after it is back, resume goes on',
    staged(async (stage) => {
      const { source, module, syncline, kept } = await mirrored(stage, small)
      fs.renameSync(source, stage.path('elsewhere'))
      await assertHalted(syncline)
      await assertKept(module, kept)
      fs.renameSync(stage.path('elsewhere'), source)
      fs.writeFileSync(`${source}/while halted`, 'x')
      await syncline.resume()
      await syncline.equal(source, module)
      fs.writeFileSync(`${source}/after`, 'after')
      await syncline.equal(source, module)
    }),
  )

  test(
    'when the source is moved away and another directory takes its place',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, small)
      fs.renameSync(source, stage.path('elsewhere'))
      await assertHalted(syncline)
      fs.mkdirSync(source)
      fs.writeFileSync(`${source}/only this`, 'x')
      await syncline.resume()
      await syncline.equal(source, module)
      fs.writeFileSync(`${source}/and this`, 'y')
      await syncline.equal(source, module)
    }),
  )

  test(
    'when the source is unmounted; after it is mounted again, resume goes on',
    staged(async (stage) => {
      const { source, module, syncline, kept } = await mirrored(stage, (path) => {
        mountTmpfs(stage, path, '8m')
        makeSmall(path)
      })
      detachMount(source)
      await assertHalted(syncline)
      await assertKept(module, kept)
      mountTmpfs(stage, source, '8m')
      makeSmall(source)
      fs.writeFileSync(`${source}/new`, 'new')
      await syncline.resume()
      await syncline.equal(source, module)
      fs.writeFileSync(`${source}/after`, 'after')
      await syncline.equal(source, module)
    }),
  )

  test(
    'when the source becomes empty in one step; resume accepts it',
    staged(async (stage) => {
      const { source, module, syncline, kept } = await mirrored(stage, (path) => {
        fs.mkdirSync(`${path}/all`, { recursive: true })
        makeSmall(`${path}/all`)
      })
      fs.renameSync(`${source}/all`, stage.path('away'))
      await assertHalted(syncline)
      await assertKept(module, kept)
      await syncline.resume()
      await syncline.equal(source, module)
      assert.deepEqual(fs.readdirSync(module), [])
    }),
  )

  test(
    'when the source is empty at the start and the destination is not; resume accepts it',
    staged(async (stage) => {
      const source = stage.dir('source')
      const module = stage.dir('module')
      makeSmall(module)
      const kept = snapshot(module)
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
      await assertHalted(syncline)
      await assertKept(module, kept)
      await syncline.resume()
      await syncline.mirroring()
      await syncline.equal(source, module)
      assert.deepEqual(fs.readdirSync(module), [])
    }),
  )

  test(
    'over a restart, until someone resumes',
    staged(async (stage) => {
      const { source, module, syncline, kept } = await mirrored(stage, (path) => {
        mountTmpfs(stage, path, '8m')
        makeSmall(path)
      })
      detachMount(source)
      await assertHalted(syncline)
      await syncline.stop()
      const next = await Syncline.start(stage, source, syncline.targets, { early: true })
      await assertHalted(next)
      await assertKept(module, kept)
    }),
  )
})

test(
  'an operator can unmount the source while it is mirrored and quiet',
  staged(async (stage) => {
    const { source, module, syncline, kept } = await mirrored(stage, (path) => {
      mountTmpfs(stage, path, '8m')
      makeSmall(path)
    })
    unmount(source)
    await assertHalted(syncline)
    await assertKept(module, kept)
  }),
)

test(
  'rm -rf of the source halts the target',
  staged(async (stage) => {
    const { source, syncline } = await mirrored(stage, small)
    fs.rmSync(source, { recursive: true })
    await assertHalted(syncline)
  }),
)

test(
  'an empty source and an empty destination are no reason to halt',
  staged(async (stage) => {
    const source = stage.dir('source')
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    fs.writeFileSync(`${source}/first`, 'first')
    await syncline.equal(source, module)
  }),
)

test(
  'a directory below the source that is emptied or removed is no reason to halt',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, small)
    fs.rmSync(`${source}/sub`, { recursive: true })
    await syncline.equal(source, module)
  }),
)

test(
  'every target halts when the source is gone',
  staged(async (stage) => {
    const source = stage.path('source')
    small(source)
    const daemon = await Daemon.start(stage, { modules: { a: stage.path('a'), b: stage.path('b') } })
    const syncline = await Syncline.start(stage, source, [daemon.url('a'), daemon.url('b')])
    fs.renameSync(source, stage.path('elsewhere'))
    await assertHalted(syncline)
    await syncline.reaches('the second is halted', ({ state }) => state === 'halted', 1)
    assert.deepEqual(differences(stage.path('a'), stage.path('b')), [])
    assert.ok(fs.existsSync(stage.path('a/one')))
  }),
)

describe('rm -rf of all that is in the source', () => {
  const FILES = 5_000
  const nested = (source: string) => {
    small(source)
    fs.writeFileSync(`${source}/.hidden`, 'hidden')
    for (let i = 0; i < FILES; i++) {
      const dir = `${source}/${i % 2 === 0 ? 'even' : '.odd'} ${i % 20}/d${i % 100}/below`
      if (i < 100) fs.mkdirSync(dir, { recursive: true })
      fs.writeFileSync(`${dir}/${i}`, `${i}`)
    }
  }
  const REMOVALS = {
    'by one rm': 'rm -rf -- "$1"/* "$1"/.[!.]*',
    'by two at once': 'rm -rf -- "$1"/* & rm -rf -- "$1"/.[!.]* & wait',
    'by two that rest between directories':
      'for d in "$1"/*; do rm -rf -- "$d"; sleep 0.02; done & for d in "$1"/.[!.]*; do rm -rf -- "$d"; sleep 0.03; done & wait',
  }
  for (const [name, script] of Object.entries(REMOVALS)) {
    test(
      `${name}: the target halts and keeps everything; resume empties it`,
      staged(async (stage) => {
        const { source, module, syncline } = await mirrored(stage, nested)
        execFileSync('cp', ['-a', module, stage.path('former')])
        execFileSync('sh', ['-c', script, 'sh', source])
        await assertHalted(syncline)
        const [{ reason }] = await syncline.status()
        assert.match(reason ?? '', /source is empty.*syncline resume/)
        await sleep(2000)
        assert.deepEqual(differences(stage.path('former'), module, { except: ['mtime'] }), [])
        await syncline.resume()
        await syncline.equal(source, module)
        assert.deepEqual(fs.readdirSync(module), [])
      }),
    )
  }
})

test(
  'rm -rf of a directory of 3,000 files arrives',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, (path) => {
      small(path)
      for (let i = 0; i < 3_000; i++) {
        if (i < 30) fs.mkdirSync(`${path}/many/${i}`, { recursive: true })
        fs.writeFileSync(`${path}/many/${i % 30}/${i}`, `${i}`)
      }
    })
    execFileSync('rm', ['-rf', `${source}/many`])
    await syncline.equal(source, module)
    assert.ok(!fs.existsSync(`${module}/many`))
  }),
)

describe('--max-delete', () => {
  const many = (source: string) => {
    small(source)
    for (let d = 0; d < 20; d++) {
      fs.mkdirSync(`${source}/d${d}`)
      for (let i = 0; i < 50; i++) fs.writeFileSync(`${source}/d${d}/${i}`, `${i}`)
    }
  }
  const entries = (dir: string) => fs.readdirSync(dir, { recursive: true }).length

  test(
    'a removal of everything halts before more than that is deleted; resume lets it go on, and the limit holds again',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, many, ['--max-delete=30'])
      const before = entries(module)
      for (let d = 0; d < 20; d++) fs.rmSync(`${source}/d${d}`, { recursive: true })
      await assertHalted(syncline)
      await sleep(500)
      assert.ok(before - entries(module) <= 30, `${before - entries(module)} names were deleted`)
      const [{ reason }] = await syncline.status()
      assert.match(reason ?? '', /max-delete is 30.*syncline resume/)
      await syncline.resume()
      await syncline.equal(source, module)
      many(stage.path('more'))
      fs.renameSync(stage.path('more'), `${source}/more`)
      await syncline.equal(source, module)
      fs.renameSync(`${source}/more/d1`, stage.path('gone')) // one name for us, 51 for the receiver
      await assertHalted(syncline)
      assert.equal(entries(`${module}/more/d1`), 50)
    }),
  )

  test(
    'a few deletions at a time never halt',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, many, ['--max-delete=30'])
      for (let i = 0; i < 25; i++) fs.rmSync(`${source}/d1/${i}`)
      await syncline.equal(source, module)
    }),
  )

  test(
    'a full sync that would delete too much halts before it deletes anything',
    staged(async (stage) => {
      const source = stage.path('source')
      small(source)
      const module = stage.path('module')
      many(module)
      fs.writeFileSync(`${module}/only here`, 'precious')
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const options = ['--max-delete=30']
      const syncline = await Syncline.start(stage, source, daemon.url('m'), { options, early: true })
      await assertHalted(syncline)
      assert.ok(fs.existsSync(`${module}/d19/49`) && fs.existsSync(`${module}/only here`))
      await syncline.resume()
      await syncline.equal(source, module)
    }),
  )
})
