import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon, urlOf } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall, raw } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { differences, paths, snapshot } from '../support/tree.js'

const MIB = 1024 * 1024

async function scene(stage: Stage) {
  const source = stage.dir('source')
  makeSmall(source)
  const module = stage.dir('module')
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  return { source, module, daemon, url: daemon.url('m') }
}

describe('--exclude', () => {
  const OPTIONS = ['--exclude=*.tmp', '--exclude=/cache', '--exclude=logs/']
  const isExcluded = (path: string) => /\.tmp$|^cache($|\/)|(^|\/)logs($|\/)/.test(path)

  async function excluding(stage: Stage) {
    const setting = await scene(stage)
    const { source, module } = setting
    for (const root of [source, module]) {
      fs.mkdirSync(`${root}/cache`)
      fs.mkdirSync(`${root}/sub/logs`, { recursive: true })
    }
    fs.writeFileSync(`${source}/a.tmp`, 'not sent')
    fs.writeFileSync(`${source}/cache/c`, 'not sent')
    fs.writeFileSync(`${source}/sub/logs/l`, 'not sent')
    fs.writeFileSync(`${module}/b.tmp`, 'protected')
    fs.writeFileSync(`${module}/cache/d`, 'protected')
    fs.writeFileSync(`${module}/sub/logs/m`, 'protected')
    fs.writeFileSync(`${module}/sub/extra`, 'removed')
    const syncline = await Syncline.start(stage, source, setting.url, { options: OPTIONS })
    return { ...setting, syncline }
  }

  const kept = (module: string) =>
    ['b.tmp', 'cache/d', 'sub/logs/m'].filter((path) => fs.existsSync(`${module}/${path}`))

  test(
    'entries are not sent by the full sync, and those at the destination are protected from deletion',
    staged(async (stage) => {
      const { source, module, syncline } = await excluding(stage)
      await syncline.equal(source, module, { ignore: isExcluded, except: ['mtime'] })
      assert.deepEqual(kept(module), ['b.tmp', 'cache/d', 'sub/logs/m'])
      for (const path of ['a.tmp', 'cache/c', 'sub/logs/l']) assert.ok(!fs.existsSync(`${module}/${path}`), path)
    }),
  )

  test(
    'entries are not sent when they change, are made, or are renamed to an excluded name',
    staged(async (stage) => {
      const { source, module, syncline } = await excluding(stage)
      fs.writeFileSync(`${source}/a.tmp`, 'changed')
      fs.writeFileSync(`${source}/sub/new.tmp`, 'new')
      fs.writeFileSync(`${source}/cache/new`, 'new')
      fs.mkdirSync(`${source}/fresh/logs`, { recursive: true })
      fs.writeFileSync(`${source}/fresh/logs/l`, 'new')
      fs.writeFileSync(`${source}/fresh/sent`, 'sent')
      fs.renameSync(`${source}/one`, `${source}/one.tmp`)
      await syncline.equal(source, module, { ignore: isExcluded, except: ['mtime'] })
      await sleep(300)
      const arrived = paths(module).filter(isExcluded)
      assert.deepEqual(arrived, ['b.tmp', 'cache', 'cache/d', 'sub/logs', 'sub/logs/m'])
    }),
  )

  test(
    'a file renamed from an excluded name arrives',
    staged(async (stage) => {
      const { source, module, syncline } = await excluding(stage)
      fs.renameSync(`${source}/a.tmp`, `${source}/a`)
      fs.renameSync(`${source}/cache`, `${source}/not cache`)
      await syncline.equal(source, module, { ignore: isExcluded, except: ['mtime'] })
    }),
  )

  test(
    'protects entries at the destination also when their directory is removed at the source',
    staged(async (stage) => {
      const { source, module, syncline } = await excluding(stage)
      await syncline.equal(source, module, { ignore: isExcluded, except: ['mtime'] })
      fs.rmSync(`${source}/sub`, { recursive: true })
      fs.writeFileSync(`${source}/after`, 'after')
      await until('the change after it has arrived', () => fs.existsSync(`${module}/after`))
      await until('what is not excluded is gone', () => !fs.existsSync(`${module}/sub/two`))
      await sleep(500)
      assert.deepEqual(kept(module), ['b.tmp', 'cache/d', 'sub/logs/m'])
      await syncline.reaches('nothing is owed', ({ owed, failures }) => owed === 0 && failures.length === 0)
    }),
  )

  test(
    '--include before it makes exceptions, and --exclude-from reads patterns from a file',
    staged(async (stage) => {
      const { source, module, url } = await scene(stage)
      fs.writeFileSync(stage.path('patterns'), '# a comment\n*.bak\n\n; another\n*.old\n')
      const options = ['--include=keep.tmp', '--exclude=*.tmp', `--exclude-from=${stage.path('patterns')}`]
      const names = ['keep.tmp', 'x.tmp', 'x.bak', 'x.old', 'x']
      for (const name of names) fs.writeFileSync(`${source}/${name}`, name)
      const ignore = (path: string) => /^x\./.test(path) || /later\./.test(path)
      const syncline = await Syncline.start(stage, source, url, { options })
      fs.writeFileSync(`${source}/sub/later.bak`, 'later')
      fs.writeFileSync(`${source}/sub/keep.tmp`, 'later')
      await syncline.equal(source, module, { ignore, except: ['mtime'] })
      await sleep(200)
      assert.deepEqual(paths(module).filter(ignore), [])
    }),
  )
})

test(
  '--no-delete: what is deleted or renamed at the source stays at the destination',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage)
    fs.writeFileSync(`${module}/extra`, 'extra')
    const syncline = await Syncline.start(stage, source, url, { options: ['--no-delete'] })
    fs.rmSync(`${source}/one`)
    fs.rmSync(`${source}/sub/below`, { recursive: true })
    fs.renameSync(`${source}/link`, `${source}/link renamed`)
    fs.writeFileSync(`${source}/after`, 'after')
    await until('the change after it has arrived', () => fs.existsSync(`${module}/after`))
    await syncline.reaches('nothing is owed', ({ owed }) => owed === 0)
    await sleep(300)
    const found = paths(module)
    assert.deepEqual(found, [
      'after',
      'extra',
      'link',
      'link renamed',
      'one',
      'sub',
      'sub/below',
      'sub/below/three',
      'sub/two',
    ])
  }),
)

test(
  '-n prints what it would do, changes nothing and ends',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage)
    fs.writeFileSync(`${module}/extra`, 'extra')
    const before = snapshot(module)
    const { code, stdout, stderr } = await run(['-n', `--state-dir=${stage.path('state')}`, '--http=off', source, url])
    assert.equal(code, 0, stderr)
    for (const name of ['one', 'sub/two', 'sub/below/three', 'extra']) assert.ok(stdout.includes(name), stdout)
    assert.equal(snapshot(module), before)
  }),
)

test(
  '--no-initial-sync: only what changes from now on is sent',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage)
    fs.writeFileSync(`${module}/extra`, 'extra')
    const syncline = await Syncline.start(stage, source, url, { options: ['--no-initial-sync'] })
    fs.writeFileSync(`${source}/sub/new`, 'new')
    await until('the change has arrived', () => fs.existsSync(`${module}/sub/new`))
    await syncline.reaches('nothing is owed', ({ owed }) => owed === 0)
    assert.deepEqual(paths(module), ['extra', 'sub', 'sub/new'])
  }),
)

test(
  '-z: the same arrives, in fewer bytes',
  staged(async (stage) => {
    const { source, module, daemon } = await scene(stage)
    fs.writeFileSync(`${source}/text`, 'all work and no play makes jack a dull boy\n'.repeat(50_000))
    fs.writeFileSync(`${source}/noise`, content(MIB))
    const proxy = await TcpProxy.start(stage, daemon.port)
    const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'), { options: ['-z'] })
    await syncline.equal(source, module)
    assert.ok(proxy.bytes.up < 1.4 * MIB, `${proxy.bytes.up} bytes for 1 MiB of noise and 2 MiB of text`)
    fs.appendFileSync(`${source}/text`, 'and more')
    fs.appendFileSync(`${source}/noise`, content(200_000, 5))
    fs.writeFileSync(`${source}/more text`, 'more '.repeat(100_000))
    await syncline.equal(source, module)
  }),
)

test(
  '--bwlimit: the bytes do not flow faster than that',
  staged(async (stage) => {
    const { source, module, daemon } = await scene(stage)
    fs.writeFileSync(`${source}/large`, content(4 * MIB))
    const proxy = await TcpProxy.start(stage, daemon.port)
    const began = Date.now()
    const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'), { options: ['--bwlimit=1024'] })
    const seconds = (Date.now() - began) / 1000
    assert.ok(seconds > 3, `4 MiB at 1 MiB/s took ${seconds} s`)
    await syncline.equal(source, module)
  }),
)

for (const sessions of [1, 2, 8]) {
  test(
    `--sessions=${sessions}: bounds the connections to the daemon`,
    staged(async (stage) => {
      const { source, module, daemon } = await scene(stage)
      const proxy = await TcpProxy.start(stage, daemon.port)
      const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'), {
        options: [`--sessions=${sessions}`],
      })
      for (let i = 0; i < 100; i++) {
        fs.writeFileSync(`${source}/f${i}`, content(1000, i))
        if (i % 10 === 0) fs.writeFileSync(`${source}/large${i}`, content(2 * MIB, i))
        await sleep(2)
      }
      await syncline.equal(source, module)
      // That many are kept ready; while the next ones open, those in use are still there.
      assert.ok(proxy.openMost <= 2 * sessions + 2, `${proxy.openMost} at once`)
    }),
  )
}

test(
  '-q prints nothing but errors; the ready line is no error',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage)
    const syncline = await Syncline.start(stage, source, url, { options: ['-q'], early: true })
    await until('the full sync is done', () => differences(source, module, { limit: 1 }).length === 0)
    assert.equal(syncline.stderr, '')
  }),
)

test(
  '--log-file and --log-format=json: one JSON object a line',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage)
    const log = stage.path('log')
    const options = ['-v', `--log-file=${log}`, '--log-format=json']
    const syncline = await Syncline.start(stage, source, url, { options })
    fs.writeFileSync(raw(source, 'new\n"\xff'), 'new')
    await syncline.equal(source, module)
    await syncline.stop()
    const lines = fs.readFileSync(log, 'utf8').trimEnd().split('\n')
    assert.ok(lines.length > 0)
    for (const line of lines) assert.equal(typeof JSON.parse(line), 'object')
  }),
)

test(
  'two instances with state directories of their own do not meet',
  staged(async (stage) => {
    const daemon = await Daemon.start(stage, { modules: { a: stage.path('a'), b: stage.path('b') } })
    const start = async (name: string) => {
      makeSmall(stage.dir(`source ${name}`))
      return Syncline.start(stage, stage.path(`source ${name}`), daemon.url(name), {
        stateDir: stage.path(`state ${name}`),
      })
    }
    const [a, b] = await Promise.all([start('a'), start('b')])
    fs.writeFileSync(stage.path('source a/only a'), 'a')
    await a.equal(stage.path('source a'), stage.path('a'))
    await b.equal(stage.path('source b'), stage.path('b'))
  }),
)
