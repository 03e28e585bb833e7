import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { eventually, sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

const MIB = 1024 * 1024

async function mirrored(stage: Stage, options: string[] = []) {
  const source = stage.dir('source')
  makeSmall(source)
  const module = stage.path('module')
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'), { options })
  await syncline.equal(source, module)
  return { source, module, daemon, syncline, url: daemon.url('m') }
}

function change(source: string): void {
  fs.writeFileSync(`${source}/one`, 'changed')
  fs.writeFileSync(`${source}/new\n\xff`, 'new')
  fs.mkdirSync(`${source}/directory/deep`, { recursive: true })
  fs.writeFileSync(`${source}/directory/deep/leaf`, 'leaf')
  fs.rmSync(`${source}/sub/below`, { recursive: true })
}

test(
  'SIGTERM: exit 0, and the daemon sees a clean end',
  staged(async (stage) => {
    const { daemon, syncline } = await mirrored(stage)
    assert.equal(await syncline.stop(), 0)
    assert.equal(daemon.logged('rsync error'), 0, daemon.log())
  }),
)

test(
  'SIGINT: exit 0',
  staged(async (stage) => {
    const { syncline } = await mirrored(stage)
    syncline.signal('SIGINT')
    assert.deepEqual(await syncline.exited(), { code: 0, signal: null })
  }),
)

test(
  'SIGTERM while a file is being sent: it is finished first, exit 0',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(8 * MIB))
    await until('the transfer runs', () => fs.readdirSync(module).some((name) => name.startsWith('.large.')))
    assert.equal(await syncline.stop(), 0)
    assert.equal(fs.statSync(`${module}/large`).size, 8 * MIB)
  }),
)

test(
  'a second SIGTERM does not wait for what is being sent',
  staged(async (stage) => {
    const { source, module, syncline } = await mirrored(stage, ['--bwlimit=1m'])
    fs.writeFileSync(`${source}/large`, content(64 * MIB)) // a minute
    await until('the transfer runs', () => fs.readdirSync(module).some((name) => name.startsWith('.large.')))
    syncline.signal('SIGTERM')
    await sleep(300)
    assert.ok(syncline.running, 'it finishes what is in flight')
    syncline.signal('SIGTERM')
    await until('it has ended', () => !syncline.running)
  }),
)

test(
  'SIGTERM while the daemon is away: exit 0, and the changes are sent after the next start, without a full sync',
  staged(async (stage) => {
    const { source, module, daemon, syncline, url } = await mirrored(stage)
    await daemon.stop()
    change(source)
    await syncline.reaches('the changes are owed', ({ owed }) => owed > 0)
    assert.equal(await syncline.stop(), 0)
    await daemon.start()
    const next = await Syncline.start(stage, source, url, { options: ['--no-initial-sync'] })
    await next.equal(source, module)
  }),
)

test(
  'kill -9 with changes pending: they are sent after the next start, without a full sync',
  staged(async (stage) => {
    const { source, module, daemon, syncline, url } = await mirrored(stage)
    daemon.pause()
    change(source)
    await syncline.reaches('the changes are owed', ({ owed }) => owed > 0)
    await sleep(1000)
    await syncline.kill()
    daemon.resume()
    const next = await Syncline.start(stage, source, url, { options: ['--no-initial-sync'] })
    await next.equal(source, module)
  }),
)

test(
  'kill -9 again and again under changes: equal after the last start',
  staged(async (stage) => {
    const { source, module, syncline, url } = await mirrored(stage)
    let current = syncline
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 100; i++) {
        fs.writeFileSync(`${source}/f${(round * 37 + i) % 90}`, content(3000, i))
        if (i % 9 === 0) fs.rmSync(`${source}/f${i}`, { force: true })
        if (i % 20 === 0) await sleep(1)
      }
      await current.kill()
      fs.writeFileSync(`${source}/while away ${round}`, `${round}`)
      fs.rmSync(`${source}/while away ${round - 1}`, { force: true })
      current = await Syncline.start(stage, source, url)
    }
    await current.equal(source, module)
  }),
)

test(
  'kill -9 in mid-transfer: nothing half-written stays',
  staged(async (stage) => {
    const { source, module, syncline, url } = await mirrored(stage, ['--bwlimit=4m'])
    fs.writeFileSync(`${source}/large`, content(12 * MIB))
    await until('the transfer runs', () => fs.readdirSync(module).some((name) => name.startsWith('.large.')))
    await syncline.kill()
    const next = await Syncline.start(stage, source, url)
    await next.equal(source, module)
  }),
)

test(
  'what changed while it did not run is found by the next start',
  staged(async (stage) => {
    const { source, module, syncline, url } = await mirrored(stage)
    await syncline.stop()
    change(source)
    const next = await Syncline.start(stage, source, url)
    await next.equal(source, module)
  }),
)

test(
  '-d returns when it is mirroring in the background, and --pid-file names it until it ends',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const [pidFile, logFile, state] = [stage.path('pid'), stage.path('log'), stage.path('state')]
    stage.witness('log file', () => (fs.existsSync(logFile) ? fs.readFileSync(logFile, 'utf8') : 'none'))
    const { code, stderr } = await run([
      '-d',
      `--pid-file=${pidFile}`,
      `--log-file=${logFile}`,
      `--state-dir=${state}`,
      '--http=off',
      source,
      daemon.url('m'),
    ])
    assert.equal(code, 0, stderr)
    const pid = await eventually('the pid file is written', () => {
      const text = fs.existsSync(pidFile) ? fs.readFileSync(pidFile, 'utf8').trim() : ''
      return text === '' ? undefined : Number(text)
    })
    stage.defer(() => {
      if (alive(pid)) process.kill(pid, 'SIGKILL')
    })
    await until('the file is there', () => fs.existsSync(`${module}/one`))
    const { stdout } = await run(['status', '--json', `--state-dir=${state}`])
    assert.equal(JSON.parse(stdout).instances[0].pid, pid)
    process.kill(pid, 'SIGTERM')
    await until('it has ended', () => !alive(pid))
    assert.ok(!fs.existsSync(pidFile), 'the pid file is gone')
  }),
)

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
