import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { until } from '../support/eventually.js'
import { freeze, growTmpfs, mountTmpfs } from '../support/mount.js'
import { content, makeSmall } from '../support/sample.js'
import { staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { differences } from '../support/tree.js'

/** Anyone but root. */
const USER = 1000

test(
  'a full module keeps the file in the failures until there is space, and gets it then',
  staged(async (stage) => {
    const source = stage.dir('source')
    const module = stage.path('module')
    mountTmpfs(stage, module, '1m')
    writeFileSync(`${source}/first`, content(500_000))
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await syncline.equal(source, module)
    writeFileSync(`${source}/too large`, content(800_000, 2))
    const target = await syncline.reaches('the failure is shown', ({ failures }) => failures.length > 0)
    assert.ok(target.failures.some(({ path }) => path === 'too large'))
    assert.match(target.failures[0].reason, /space/i)
    assert.ok(target.owed > 0, 'it is still owed')
    assert.ok(syncline.running)
    writeFileSync(`${source}/fits`, 'fits')
    await syncline.reaches('it was tried again', ({ failures }) => failures.some(({ attempts }) => attempts > 1))
    await until(
      'what fits goes through meanwhile',
      () => existsSync(`${module}/fits`) && readFileSync(`${module}/fits`, 'utf8') === 'fits',
    )
    growTmpfs(module, '8m')
    await syncline.equal(source, module)
  }),
)

test(
  'a module that is full during the first full sync is filled up once there is space',
  staged(async (stage) => {
    const source = stage.dir('source')
    const module = stage.path('module')
    mountTmpfs(stage, module, '1m')
    for (let i = 0; i < 5; i++) writeFileSync(`${source}/f${i}`, content(400_000, i))
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
    await syncline.reaches('something is owed', ({ failures, lastError }) => failures.length > 0 || lastError !== null)
    growTmpfs(module, '8m')
    await syncline.mirroring()
    await syncline.equal(source, module)
  }),
)

test(
  'a daemon that may not write is owed everything, and gets it when it may',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.dir('module')
    const [nobody, nogroup] = [65534, 65534]
    const daemon = await Daemon.start(stage, {
      modules: { m: { path: module, uid: nobody, gid: nogroup, 'use chroot': false } },
    })
    // mkdtemp makes the stage 0700: the daemon must at least be able to enter.
    chownSync(stage.root, nobody, nogroup)
    const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
    await syncline.reaches(
      'the failure is shown',
      ({ failures, lastError }) => failures.length > 0 || lastError !== null,
    )
    assert.ok(syncline.running)
    chownSync(module, nobody, nogroup)
    // It is not root, so that the owners cannot be the same.
    await syncline.equal(source, module, { except: ['uid', 'gid'] })
  }),
)

test(
  'one path that cannot be replaced is named in the failures, holds up no other, and is retried until it can',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await syncline.equal(source, module)
    const thaw = freeze(stage, `${module}/one`)
    writeFileSync(`${source}/one`, 'changed')
    writeFileSync(`${source}/other`, 'other')
    const target = await syncline.reaches('the failure is shown', ({ failures }) => failures.length > 0)
    assert.deepEqual(
      target.failures.map(({ path }) => path),
      ['one'],
    )
    writeFileSync(`${source}/later`, 'later')
    await syncline.reaches('it was tried again', ({ failures }) => failures.some(({ attempts }) => attempts > 1))
    const others = () => differences(source, module, { except: ['mtime'] }).filter((line) => !line.startsWith('one:'))
    await until('all else is there', () => others().length === 0, { problem: () => others().join('\n') })
    thaw()
    await syncline.equal(source, module)
  }),
)

test(
  'one path that cannot be deleted is named in the failures and deleted when it can be',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    mkdirSync(`${source}/doomed`)
    writeFileSync(`${source}/doomed/inside`, 'inside')
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await syncline.equal(source, module)
    const thaw = freeze(stage, `${module}/one`)
    rmSync(`${source}/one`)
    rmSync(`${source}/doomed`, { recursive: true })
    const target = await syncline.reaches('the failure is shown', ({ failures }) => failures.length > 0)
    assert.deepEqual(
      target.failures.map(({ path }) => path),
      ['one'],
    )
    thaw()
    await syncline.equal(source, module)
  }),
)

test(
  'a source file that its user may not read is named in the failures, and sent when it may be read',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    writeFileSync(`${source}/secret`, 'secret', { mode: 0o000 })
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    for (const path of [stage.root, stage.dir('state')]) chownSync(path, USER, USER)
    const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true, user: USER })
    const target = await syncline.reaches('the failure is shown', ({ failures }) => failures.length > 0)
    assert.ok(
      target.failures.some(({ path }) => path === 'secret'),
      JSON.stringify(target.failures),
    )
    chmodSync(`${source}/secret`, 0o644)
    await syncline.equal(source, module)
  }),
)
