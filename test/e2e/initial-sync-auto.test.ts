import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Daemon, urlOf } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { TcpProxy } from '../support/tcp-proxy.js'

// A listing of DIRECTORIES × FILES names takes the target this many bytes at least to hear; we send as many.
const [DIRECTORIES, FILES] = [50, 100]
const LISTING_BYTES = DIRECTORIES * FILES * 8

async function mirrored(stage: Stage) {
  const source = stage.dir('source')
  makeSmall(source)
  for (let d = 0; d < DIRECTORIES; d++) {
    fs.mkdirSync(`${source}/d${d}`)
    for (let i = 0; i < FILES; i++) fs.writeFileSync(`${source}/d${d}/a file ${i}`, content(50, d * FILES + i))
  }
  const module = stage.path('module')
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const proxy = await TcpProxy.start(stage, daemon.port)
  const state = stage.dir('state')
  const start = async (options: string[] = [], wait = true) => {
    const before = proxy.bytes.up
    const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'), { stateDir: state, options })
    if (wait) await syncline.equal(source, module)
    return { syncline, bytes: proxy.bytes.up - before }
  }
  const first = await start()
  return { source, module, state, daemon, first: first.syncline, start }
}

/** What a person does while nobody watches, the mean ways among it. */
function changeMuch(source: string): void {
  const { atime, mtime } = fs.statSync(`${source}/d1/a file 1`)
  fs.writeFileSync(`${source}/d1/a file 1`, content(50, 99_999)) // the same size, and below the same time
  fs.utimesSync(`${source}/d1/a file 1`, atime, mtime)
  fs.rmSync(`${source}/d2/a file 2`)
  fs.renameSync(`${source}/d3`, `${source}/d3 renamed`)
  fs.renameSync(`${source}/d4/a file 4`, `${source}/d5/a file 4 moved`)
  fs.chmodSync(`${source}/d6/a file 6`, 0o600)
  fs.chmodSync(`${source}/d7`, 0o700)
  fs.rmSync(`${source}/d8`, { recursive: true })
  fs.writeFileSync(`${source}/d8`, 'a file now')
  fs.rmSync(`${source}/d9/a file 9`)
  fs.mkdirSync(`${source}/d9/a file 9/deep`, { recursive: true })
  fs.writeFileSync(`${source}/d9/a file 9/deep/new\n\xff`, 'new')
  fs.linkSync(`${source}/d10/a file 1`, `${source}/d10/linked`)
  fs.symlinkSync('somewhere', `${source}/d11/link`)
}

test(
  'a second start lists nothing, and changes flow',
  staged(async (stage) => {
    const { source, module, first, start } = await mirrored(stage)
    assert.equal(await first.stop(), 0)
    const { syncline, bytes } = await start()
    assert.ok(bytes < LISTING_BYTES / 4, `${bytes} bytes were sent`)
    assert.match(syncline.stderr, /names compared with the snapshot in .* s: 0 differ/)
    fs.writeFileSync(`${source}/d1/new`, 'new')
    await syncline.equal(source, module)
  }),
)

for (const how of ['stop', 'kill'] as const) {
  test(
    `what changed while it did not run is found without a listing; after ${how}`,
    staged(async (stage) => {
      const { source, first, start } = await mirrored(stage)
      await first[how]()
      changeMuch(source)
      const { syncline, bytes } = await start()
      if (how === 'stop') assert.ok(bytes < LISTING_BYTES, `${bytes} bytes were sent: ${syncline.stderr}`)
      await syncline.stop()
      assert.match((await start()).syncline.stderr, /: 0 differ/)
    }),
  )
}

test(
  'kill -9 at any time after changes: the next start finds what it had not sent',
  staged(async (stage) => {
    const { source, first, start } = await mirrored(stage)
    let current = first
    for (const [round, pauseMs] of [0, 2, 30, 300, 6000].entries()) {
      for (let i = 0; i < 40; i++) fs.writeFileSync(`${source}/d${i}/a file ${i}`, content(50, pauseMs + i))
      fs.renameSync(`${source}/d4${round}`, `${source}/d4${round} renamed`)
      await sleep(pauseMs)
      await current.kill()
      fs.appendFileSync(`${source}/d30/a file 30`, 'while it was away')
      current = (await start()).syncline
    }
  }),
)

test(
  'a target that is not as it was left is compared',
  staged(async (stage) => {
    const { module, first, start } = await mirrored(stage)
    await first.stop()
    for (let d = 0; d < DIRECTORIES; d++) fs.rmSync(`${module}/d${d}`, { recursive: true })
    const { syncline } = await start()
    assert.match(syncline.stderr, /is not as it was left: everything is compared/)
  }),
)

test(
  'other patterns, or --initial-sync=always: everything is compared',
  staged(async (stage) => {
    const { module, first, start } = await mirrored(stage)
    await first.stop()
    fs.writeFileSync(`${module}/intruder`, 'nobody but a full sync finds this')
    const always = await start(['--initial-sync=always'])
    assert.ok(!fs.existsSync(`${module}/intruder`))
    await always.syncline.stop()
    fs.writeFileSync(`${module}/intruder`, 'nobody but a full sync finds this')
    await start(['--exclude=*.tmp'])
    assert.ok(!fs.existsSync(`${module}/intruder`))
  }),
)

// --- the journal's own files

const DAMAGES: Record<string, (journal: string) => void> = {
  'its last write torn': (journal) => {
    const log = newestLog(journal)
    fs.truncateSync(log, Math.max(0, fs.statSync(log).size - 7))
  },
  'the last half of its log cut off': (journal) => {
    const log = newestLog(journal)
    fs.truncateSync(log, fs.statSync(log).size >> 1)
  },
  'garbage at the end of its log': (journal) => fs.appendFileSync(newestLog(journal), content(3000)),
  'garbage in the middle of its log': (journal) => overwrite(newestLog(journal)),
  'garbage in every file': (journal) => {
    for (const name of fs.readdirSync(journal)) overwrite(join(journal, name))
  },
  'its log removed': (journal) => fs.rmSync(newestLog(journal)),
  'all removed but what is current': (journal) => {
    for (const name of fs.readdirSync(journal)) if (name !== 'CURRENT') fs.rmSync(join(journal, name))
  },
  'all of it removed': (journal) => fs.rmSync(journal, { recursive: true }),
}

function newestLog(journal: string): string {
  const logs = fs.readdirSync(journal).filter((name) => name.endsWith('.log'))
  return join(journal, logs.sort().at(-1)!)
}

function overwrite(file: string): void {
  const size = fs.statSync(file).size
  const fd = fs.openSync(file, 'r+')
  fs.writeSync(fd, content(Math.min(400, size >> 1)), 0, undefined, size >> 1)
  fs.closeSync(fd)
}

for (const [what, damage] of Object.entries(DAMAGES)) {
  test(
    `a journal with ${what}: equal after the next start`,
    staged(async (stage) => {
      const { source, state, first, start, daemon } = await mirrored(stage)
      daemon.pause()
      for (let d = 0; d < DIRECTORIES; d++) {
        fs.writeFileSync(`${source}/d${d}/a file 1`, content(60, d))
        fs.rmSync(`${source}/d${d}/a file 2`)
        await sleep(4) // many small writes
      }
      await first.reaches('the changes are owed', ({ owed }) => owed > DIRECTORIES)
      await first.kill()
      daemon.resume()
      const [mirror] = fs.readdirSync(state)
      damage(join(state, mirror, 'journal'))
      await start()
    }),
  )
}

test(
  'the journal stays small while the same files change again and again',
  staged(async (stage) => {
    const { source, module, state, first } = await mirrored(stage)
    for (let round = 0; round < 200; round++) {
      for (let i = 0; i < 100; i++) fs.writeFileSync(`${source}/d1/a file ${i}`, `${round} ${i}`)
      await sleep(5)
    }
    await first.equal(source, module)
    const journal = join(state, fs.readdirSync(state)[0], 'journal')
    // While it is compacted, files go.
    const sizeOf = (name: string) => fs.statSync(join(journal, name), { throwIfNoEntry: false })?.size ?? 0
    const bytes = () => fs.readdirSync(journal).reduce((sum, name) => sum + sizeOf(name), 0)
    await until('it is compacted', () => bytes() < 8 << 20, { problem: () => `${bytes()} bytes` })
  }),
)
