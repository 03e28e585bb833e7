import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon, EVERY_RSYNC, urlOf, versionOf } from '../support/daemon.js'
import { PATIENCE_MS, sleep } from '../support/eventually.js'
import { content, makeEverything, makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline, type SynclineOptions } from '../support/syncline.js'
import { TcpProxy } from '../support/tcp-proxy.js'
import { differences } from '../support/tree.js'

// What has another name at the source gets it at the target, without its content crossing the wire again.

const MANY = 300
const FILE_BYTES = 40_000
const MANY_BYTES = MANY * FILE_BYTES
const LONG_AGO = 1_234_567_890

/** Old enough that a receiver which compares whole seconds has no doubt. */
function writeOld(path: string, data: string | Buffer): void {
  fs.writeFileSync(path, data)
  fs.utimesSync(path, LONG_AGO, LONG_AGO)
}

function makeMany(dir: string, { files = MANY, bytes = FILE_BYTES, seed = 1 } = {}): void {
  const block = content(bytes, seed)
  fs.mkdirSync(`${dir}/inner`, { recursive: true })
  for (let i = 0; i < files; i++) {
    block.writeUInt32LE(i)
    writeOld(i % 3 === 0 ? `${dir}/inner/${i}` : `${dir}/${i}`, block)
  }
}

interface Scene {
  source: string
  module: string
  daemon: Daemon
  proxy: TcpProxy
  syncline: Syncline
  stateDir: string
  /** Bytes sent to the daemon since the first full sync was over. */
  sent: () => number
}

interface Setting extends SynclineOptions {
  rsync?: string
  /** What the target has before, and the source has not. */
  before?: (module: string) => void
}

async function mirrored(stage: Stage, prepare: (source: string) => void, setting: Setting = {}): Promise<Scene> {
  const { rsync, before, ...options } = setting
  const source = stage.dir('source')
  makeSmall(source)
  prepare(source)
  const module = stage.dir('module')
  before?.(module)
  const daemon = await Daemon.start(stage, { modules: { m: module }, ...(rsync !== undefined && { rsync }) })
  const proxy = await TcpProxy.start(stage, daemon.port)
  const stateDir = stage.dir('state')
  const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'), { ...options, stateDir })
  if (before === undefined && options.options === undefined) await syncline.equal(source, module)
  await syncline.reaches('nothing is owed', ({ owed }) => owed === 0)
  const earlier = proxy.bytes.up
  return { source, module, daemon, proxy, syncline, stateDir, sent: () => proxy.bytes.up - earlier }
}

function assertFarBelow(sent: number, whole: number): void {
  assert.ok(sent < whole / 10, `${sent} bytes were sent, and the content has ${whole}`)
}

/** Other content, of which neither the size nor the time tells. */
function changeUnseen(path: string): void {
  const { size, atimeMs, mtimeMs } = fs.statSync(path)
  fs.writeFileSync(path, content(size, 99))
  fs.utimesSync(path, atimeMs / 1000, mtimeMs / 1000)
}

/** What is done to a mirrored directory `old` of many files, none of which has to be sent for it. */
const RENAMES: Record<string, (source: string) => void> = {
  'a directory renamed': (s) => fs.renameSync(`${s}/old`, `${s}/new`),
  'a directory renamed over an empty one': (s) => fs.renameSync(`${s}/old`, `${s}/sub/empty`),
  'a directory renamed, and then given another mode and owner': (s) => {
    fs.renameSync(`${s}/old`, `${s}/new`)
    fs.chmodSync(`${s}/new`, 0o700)
    fs.chownSync(`${s}/new`, 4321, 1234)
    fs.chmodSync(`${s}/new/1`, 0o600)
  },
}

for (const rsync of EVERY_RSYNC) {
  describe(`with rsync ${versionOf(rsync)} at the destination, without its content`, () => {
    for (const [name, rename] of Object.entries(RENAMES)) {
      test(
        name,
        staged(async (stage) => {
          const prepare = (s: string) => {
            fs.mkdirSync(`${s}/sub/empty`)
            makeMany(`${s}/old`)
          }
          const { source, module, syncline, sent } = await mirrored(stage, prepare, { rsync })
          rename(source)
          await syncline.equal(source, module)
          assertFarBelow(sent(), MANY_BYTES)
        }),
      )
    }

    test(
      'a file of 5 MB renamed, and then renamed over another one',
      staged(async (stage) => {
        const prepare = (s: string) => writeOld(`${s}/old`, content(5_000_000))
        const { source, module, syncline, sent } = await mirrored(stage, prepare, { rsync })
        fs.renameSync(`${source}/old`, `${source}/sub/new`)
        await syncline.equal(source, module)
        fs.renameSync(`${source}/sub/new`, `${source}/sub/two`)
        await syncline.equal(source, module)
        assertFarBelow(sent(), 5_000_000)
      }),
    )

    test(
      'a directory of 3,000 directories renamed',
      staged(async (stage) => {
        const prepare = (s: string) => {
          for (let i = 0; i < 3000; i++) {
            fs.mkdirSync(`${s}/old/${i % 50}/${i}`, { recursive: true })
            writeOld(`${s}/old/${i % 50}/${i}/leaf`, content(2000, i))
          }
        }
        const { source, module, syncline, sent } = await mirrored(stage, prepare, { rsync })
        fs.renameSync(`${source}/old`, `${source}/new`)
        await syncline.equal(source, module)
        assertFarBelow(sent(), 3000 * 2000)
      }),
    )

    test(
      'what was changed below the old name and the new one is sent, and nothing else',
      staged(async (stage) => {
        const { source, module, daemon, syncline, sent } = await mirrored(stage, (s) => makeMany(`${s}/old`), { rsync })
        daemon.pause()
        fs.appendFileSync(`${source}/old/1`, 'more')
        changeUnseen(`${source}/old/2`)
        fs.writeFileSync(`${source}/old/inner/added`, 'added')
        fs.unlinkSync(`${source}/old/4`)
        await sleep(200)
        fs.renameSync(`${source}/old`, `${source}/new`)
        changeUnseen(`${source}/new/5`)
        fs.appendFileSync(`${source}/new/inner/0`, 'more')
        fs.unlinkSync(`${source}/new/7`)
        await sleep(200)
        changeUnseen(`${source}/new/8`)
        fs.mkdirSync(`${source}/new/later`)
        daemon.resume()
        await syncline.equal(source, module)
        assertFarBelow(sent(), MANY_BYTES)
      }),
    )
  })
}

describe('renames of renames', () => {
  const three = (s: string) => {
    for (const [seed, name] of ['a', 'b', 'c'].entries()) makeMany(`${s}/${name}`, { files: 30, seed: seed + 1 })
  }

  /** Each at once, and with moments between that let parts of it be on their way. */
  const ORDERS: Record<string, ((source: string) => void)[]> = {
    'a directory renamed three times': [
      (s) => fs.renameSync(`${s}/a`, `${s}/x`),
      (s) => fs.renameSync(`${s}/x`, `${s}/y`),
      (s) => fs.renameSync(`${s}/y`, `${s}/z`),
    ],
    'two directories exchanged through a third name': [
      (s) => fs.renameSync(`${s}/a`, `${s}/spare`),
      (s) => fs.renameSync(`${s}/b`, `${s}/a`),
      (s) => fs.renameSync(`${s}/spare`, `${s}/b`),
    ],
    'a directory renamed and renamed back': [
      (s) => fs.renameSync(`${s}/a`, `${s}/x`),
      (s) => fs.renameSync(`${s}/x`, `${s}/a`),
    ],
    'each takes the name of the next': [
      (s) => fs.renameSync(`${s}/c`, `${s}/d`),
      (s) => fs.renameSync(`${s}/b`, `${s}/c`),
      (s) => fs.renameSync(`${s}/a`, `${s}/b`),
    ],
    'a directory moved into one that is moved itself': [
      (s) => fs.renameSync(`${s}/a`, `${s}/b/a`),
      (s) => fs.renameSync(`${s}/b`, `${s}/c/b`),
      (s) => fs.renameSync(`${s}/c`, `${s}/d`),
    ],
    'a directory moved, and what was in it moved back and inside out': [
      (s) => fs.renameSync(`${s}/a`, `${s}/x`),
      (s) => fs.renameSync(`${s}/x/inner`, `${s}/a`),
      (s) => fs.renameSync(`${s}/x`, `${s}/a/x`),
    ],
    'a directory renamed and removed': [
      (s) => fs.renameSync(`${s}/a`, `${s}/x`),
      (s) => fs.rmSync(`${s}/x`, { recursive: true }),
    ],
    'a directory renamed, and another moved in from outside in its place': [
      (s) => fs.renameSync(`${s}/a`, `${s}/x`),
      (s) => {
        makeMany(`${s}/../outside`, { files: 30, seed: 7 })
        fs.renameSync(`${s}/../outside`, `${s}/a`)
      },
    ],
  }
  for (const [name, steps] of Object.entries(ORDERS)) {
    for (const restMs of [0, 2, 30]) {
      test(
        `${name}, ${restMs} ms between: equal`,
        staged(async (stage) => {
          const { source, module, syncline } = await mirrored(stage, three)
          for (const step of steps) {
            step(source)
            if (restMs > 0) await sleep(restMs)
          }
          await syncline.equal(source, module)
        }),
      )
    }
  }
})

describe('a rename', () => {
  test(
    'whose old name is gone at the target is sent',
    staged(async (stage) => {
      const { source, module, syncline, sent } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      fs.rmSync(`${module}/old`, { recursive: true })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module)
      assert.ok(sent() > MANY_BYTES)
    }),
  )

  test(
    'of a directory whose former parent is removed at once, alone or with all else in it',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        for (const above of ['above', 'also above']) makeMany(`${s}/${above}/old`)
        fs.writeFileSync(`${s}/also above/else`, 'else')
      })
      fs.renameSync(`${source}/above/old`, `${source}/sub/new`)
      fs.rmdirSync(`${source}/above`)
      fs.renameSync(`${source}/also above/old`, `${source}/new`)
      fs.rmSync(`${source}/also above`, { recursive: true })
      await syncline.equal(source, module)
    }),
  )

  test(
    'of which the target has a part, and a part otherwise, sends what is missing',
    staged(async (stage) => {
      const { source, module, syncline, sent } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      fs.rmSync(`${module}/old/inner`, { recursive: true })
      fs.writeFileSync(`${module}/old/1`, 'otherwise')
      fs.rmSync(`${module}/old/2`)
      fs.mkdirSync(`${module}/old/2`)
      fs.writeFileSync(`${module}/old/only here`, 'only here')
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module)
      assert.ok(sent() < MANY_BYTES / 2, `${sent()} bytes were sent`)
    }),
  )

  test(
    'whose old name is something else at the target is sent',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        makeMany(`${s}/old`)
        writeOld(`${s}/file`, content(1_000_000))
      })
      fs.rmSync(`${module}/old`, { recursive: true })
      fs.symlinkSync('sub', `${module}/old`)
      fs.rmSync(`${module}/file`)
      fs.mkdirSync(`${module}/file`)
      fs.renameSync(`${source}/old`, `${source}/new`)
      fs.renameSync(`${source}/file`, `${source}/renamed`)
      await syncline.equal(source, module)
    }),
  )

  test(
    'whose new name the target has already, with other content, replaces that',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        makeMany(`${s}/old`, { files: 30 })
        writeOld(`${s}/file`, content(1_000_000))
      })
      makeMany(`${module}/new`, { files: 60, seed: 2 })
      writeOld(`${module}/renamed`, content(1_000_000, 2))
      fs.renameSync(`${source}/old`, `${source}/new`)
      fs.renameSync(`${source}/file`, `${source}/renamed`)
      await syncline.equal(source, module, { ignore: (path) => /^(new|renamed)/.test(path) })
      // What a stranger has put there is no change of the source: its size, type and names are made right by the listing.
      assert.deepEqual(fs.readdirSync(`${module}/new`).sort(), fs.readdirSync(`${source}/new`).sort())
    }),
  )

  for (const [from, to] of ['ab', 'ba']) {
    test(
      `of a file, ${from}, over ${to} of the same size and time replaces that`,
      staged(async (stage) => {
        const { source, module, syncline } = await mirrored(stage, (s) => {
          for (const [seed, name] of ['a', 'b'].entries()) writeOld(`${s}/${name}`, content(1_000_000, seed + 1))
        })
        fs.renameSync(`${source}/${from}`, `${source}/${to}`)
        await syncline.equal(source, module)
      }),
    )
  }

  test(
    'of a directory to the name of one that has just left, with the same names, sizes and times in it',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        for (const [seed, name] of ['current', 'next'].entries())
          makeMany(`${s}/${name}`, { files: 30, seed: seed + 1 })
      })
      fs.renameSync(`${source}/current`, stage.path('former'))
      await sleep(10)
      fs.renameSync(`${source}/next`, `${source}/current`)
      await syncline.equal(source, module)
    }),
  )

  test(
    'of a directory that is made again at once with other content leaves two of them',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      fs.renameSync(`${source}/old`, `${source}/new`)
      makeMany(`${source}/old`, { seed: 2 }) // the same names, sizes and times
      await syncline.equal(source, module)
    }),
  )

  test(
    'of a directory that is made again at once as a copy leaves two that share nothing',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      fs.renameSync(`${source}/old`, `${source}/new`)
      makeMany(`${source}/old`)
      fs.chmodSync(`${source}/old/1`, 0o600)
      await syncline.equal(source, module)
      fs.chmodSync(`${source}/old/2`, 0o600)
      await syncline.equal(source, module)
    }),
  )

  test(
    'of a file that is made again at once, as another or as a copy, leaves two of them',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        for (const name of ['log', 'copied']) writeOld(`${s}/${name}`, content(1_000_000))
      })
      fs.renameSync(`${source}/log`, `${source}/log.1`)
      writeOld(`${source}/log`, content(1_000_000, 2))
      fs.renameSync(`${source}/copied`, `${source}/copied.1`)
      writeOld(`${source}/copied`, content(1_000_000))
      await syncline.equal(source, module)
    }),
  )

  test(
    'of a directory in whose place a symlink to it is put',
    staged(async (stage) => {
      const { source, module, syncline, sent } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      fs.renameSync(`${source}/old`, `${source}/new`)
      fs.symlinkSync('new', `${source}/old`)
      await syncline.equal(source, module)
      assertFarBelow(sent(), MANY_BYTES)
    }),
  )

  test(
    'of logs, each to the next number: equal every time',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        for (let i = 0; i < 5; i++) writeOld(`${s}/log.${i}`, content(400_000, i))
      })
      for (let turn = 0; turn < 10; turn++) {
        for (let i = 4; i > 0; i--) fs.renameSync(`${source}/log.${i - 1}`, `${source}/log.${i}`)
        fs.writeFileSync(`${source}/log.0`, content(400_000, 10 + turn))
        await sleep(turn * 10)
      }
      await syncline.equal(source, module)
    }),
  )

  test(
    'of a directory with names of files that are linked within it and from outside keeps them linked',
    staged(async (stage) => {
      const { source, module, syncline, sent } = await mirrored(stage, (s) => {
        makeMany(`${s}/old`)
        fs.linkSync(`${s}/old/1`, `${s}/old/inner/linked`)
        fs.linkSync(`${s}/old/2`, `${s}/sub/linked`)
        fs.linkSync(`${s}/old/2`, `${s}/old/inner/linked too`)
      })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module)
      assertFarBelow(sent(), MANY_BYTES)
      fs.appendFileSync(`${source}/sub/linked`, 'more')
      fs.appendFileSync(`${source}/new/inner/linked`, 'more')
      await syncline.equal(source, module)
      fs.renameSync(`${source}/new`, `${source}/sub/newer`)
      await syncline.equal(source, module)
    }),
  )

  for (const other of ['a', 'y']) {
    test(
      `of a directory with a name of a file that is being sent under its name ${other}, changed to the same size and time`,
      staged(async (stage) => {
        const { source, module, proxy, syncline } = await mirrored(stage, (s) => {
          makeMany(`${s}/old`, { files: 10, bytes: 100 })
          writeOld(`${s}/${other}`, content(500_000))
          fs.linkSync(`${s}/${other}`, `${s}/old/linked`)
        })
        proxy.throttle(1_000_000)
        changeUnseen(`${source}/${other}`)
        await sleep(100)
        fs.renameSync(`${source}/old`, `${source}/new`)
        await syncline.equal(source, module)
      }),
    )
  }

  test(
    'of a directory with symlinks, FIFOs and closed directories in it',
    staged(async (stage) => {
      const { source, module, syncline } = await mirrored(stage, (s) => {
        fs.mkdirSync(`${s}/old`)
        makeEverything(`${s}/old`)
      })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module)
    }),
  )

  test(
    'of more names than --max-delete allows to delete does not halt',
    staged(async (stage) => {
      const prepare = (s: string) => {
        makeMany(`${s}/old`, { files: 100 })
        writeOld(`${s}/large`, content(1_000_000))
      }
      const { source, module, syncline } = await mirrored(stage, prepare, { options: ['--max-delete=10'] })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module)
      fs.renameSync(`${source}/large`, `${source}/new/large`)
      await syncline.equal(source, module)
      fs.renameSync(`${source}/new`, `${source}/sub/newer`)
      await syncline.equal(source, module)
      // The limit still holds. In one step: of a slow removal the first few may be deleted.
      fs.renameSync(`${source}/sub/newer`, stage.path('gone'))
      await syncline.reaches('the target is halted', ({ state }) => state === 'halted')
      await sleep(500)
      assert.equal(fs.readdirSync(`${module}/sub/newer/inner`).length, 34)
    }),
  )

  test(
    'of more names than --max-delete allows does not halt when something is put there or changed there at once',
    staged(async (stage) => {
      const prepare = (s: string) => makeMany(`${s}/old`, { files: 100 })
      const { source, module, syncline } = await mirrored(stage, prepare, { options: ['--max-delete=10'] })
      fs.renameSync(`${source}/old`, `${source}/new`)
      fs.writeFileSync(`${source}/new/added`, 'added')
      await syncline.equal(source, module)
      fs.appendFileSync(`${source}/new/1`, 'more')
      fs.renameSync(`${source}/new`, `${source}/newer`)
      await syncline.equal(source, module)
    }),
  )

  test(
    'with --no-delete leaves the old name at the target, too, as a file of its own',
    staged(async (stage) => {
      const prepare = (s: string) => {
        makeMany(`${s}/old`, { files: 30 })
        writeOld(`${s}/large`, content(1_000_000))
      }
      const { source, module, syncline } = await mirrored(stage, prepare, { options: ['--no-delete'] })
      fs.cpSync(`${source}/old`, stage.path('former'), { recursive: true, preserveTimestamps: true })
      fs.renameSync(`${source}/old`, `${source}/new`)
      fs.renameSync(`${source}/large`, `${source}/renamed`)
      await syncline.equal(source, module, { ignore: (path) => /^(old|large)/.test(path), except: ['mtime'] })
      assert.deepEqual(differences(stage.path('former'), `${module}/old`, { except: ['mtime'] }), [])
      fs.chmodSync(`${source}/renamed`, 0o600)
      fs.appendFileSync(`${source}/new/1`, 'more')
      await syncline.equal(source, module, { ignore: (path) => /^(old|large)/.test(path), except: ['mtime'] })
      assert.equal(fs.statSync(`${module}/large`).mode & 0o777, 0o644)
      assert.equal(fs.statSync(`${module}/old/1`).size, FILE_BYTES)
    }),
  )
})

describe('a rename of a directory, and filters', () => {
  const prepare = (s: string) => {
    makeMany(`${s}/old`, { files: 30 })
    writeOld(`${s}/old/secret`, content(500_000, 5))
    writeOld(`${s}/old/inner/secret`, content(500_000, 6))
  }
  const hidden = (path: string) => path.endsWith('secret')

  test(
    'that match below the new name alone: nothing of it is sent or linked, and what the target has there stays',
    staged(async (stage) => {
      const options = ['--exclude=/new/secret', '--exclude=/new/inner/secret']
      const before = (module: string) => {
        fs.mkdirSync(`${module}/new`)
        fs.writeFileSync(`${module}/new/secret`, 'of the target')
      }
      const { source, module, syncline } = await mirrored(stage, prepare, { options, before })
      assert.ok(fs.existsSync(`${module}/old/secret`))
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module, { ignore: hidden })
      assert.equal(fs.readFileSync(`${module}/new/secret`, 'utf8'), 'of the target')
      assert.ok(!fs.existsSync(`${module}/new/inner/secret`))
    }),
  )

  test(
    'that match below the old name alone: what was not there before is sent, and what the target has there stays',
    staged(async (stage) => {
      const options = ['--exclude=/old/secret', '--exclude=/old/inner/secret']
      const before = (module: string) => {
        fs.mkdirSync(`${module}/old`)
        // As the file of the source by its size and time, so that nothing but the filter tells them apart.
        writeOld(`${module}/old/secret`, content(500_000, 55))
      }
      const { source, module, syncline } = await mirrored(stage, prepare, { options, before })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module, { ignore: (path) => path.startsWith('old') })
      assert.deepEqual(fs.readdirSync(`${module}/old`), ['secret'])
      assert.deepEqual(fs.readFileSync(`${module}/old/secret`), content(500_000, 55))
      assert.equal(fs.statSync(`${module}/old/secret`).nlink, 1)
    }),
  )

  test(
    'that hide the new name as a whole: the old one goes, and what the target has at the new one stays',
    staged(async (stage) => {
      const before = (module: string) => {
        fs.mkdirSync(`${module}/new`)
        fs.writeFileSync(`${module}/new/1`, 'of the target')
      }
      const { source, module, syncline } = await mirrored(stage, prepare, { options: ['--exclude=/new'], before })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module, { ignore: (path) => path.startsWith('new') })
      assert.deepEqual(fs.readdirSync(`${module}/new`), ['1'])
      assert.equal(fs.readFileSync(`${module}/new/1`, 'utf8'), 'of the target')
    }),
  )

  test(
    'that hide the old name as a whole: the new one is sent, and what the target has at the old one stays',
    staged(async (stage) => {
      const before = (module: string) => makeMany(`${module}/old`, { files: 30, seed: 2 })
      const { source, module, syncline } = await mirrored(stage, prepare, { options: ['--exclude=/old'], before })
      fs.renameSync(`${source}/old`, `${source}/new`)
      await syncline.equal(source, module, { ignore: (path) => path.startsWith('old') })
      assert.equal(fs.statSync(`${module}/old/1`).nlink, 1)
      assert.equal(fs.readdirSync(`${module}/old/inner`).length, 10)
    }),
  )
})

describe('a rename while things fail', () => {
  test(
    'kill -9 right after it, at many moments: equal after the next start, and what is made in the old place is a file of its own',
    staged(async (stage) => {
      const { source, module, daemon, syncline, stateDir } = await mirrored(stage, (s) => makeMany(`${s}/at 0`))
      await syncline.stop()
      let next = await Syncline.start(stage, source, daemon.url('m'), { stateDir })
      for (let turn = 0; turn < 12; turn++) {
        fs.renameSync(`${source}/at ${turn}`, `${source}/at ${turn + 1}`)
        await sleep(turn * 8)
        await next.kill()
        if (turn % 3 === 2) makeMany(`${source}/at ${turn}`) // the same names, sizes and times
        next = await Syncline.start(stage, source, daemon.url('m'), { stateDir })
        await next.equal(source, module)
      }
    }),
  )

  test(
    'kill -9 while it has both names at the target, and a copy made in the old place: two that share nothing',
    staged(async (stage) => {
      const { source, module, daemon, syncline, stateDir } = await mirrored(stage, (s) => makeMany(`${s}/at 0`))
      await syncline.stop()
      for (let turn = 0; turn < 5; turn++) {
        const [from, to] = [`at ${turn}`, `at ${turn + 1}`]
        const mirror = await Syncline.start(stage, source, daemon.url('m'), { stateDir })
        fs.renameSync(`${source}/${from}`, `${source}/${to}`)
        const deadlineMs = Date.now() + PATIENCE_MS
        // Without a rest, which would miss the moment.
        while (!fs.existsSync(`${module}/${to}/1`)) assert.ok(Date.now() < deadlineMs)
        await mirror.kill()
        execFileSync('cp', ['-a', `${source}/${to}`, `${source}/${from}`])
        fs.chmodSync(`${source}/${from}/1`, 0o600)
        const next = await Syncline.start(stage, source, daemon.url('m'), { stateDir })
        await next.equal(source, module)
        await next.stop()
      }
    }),
  )

  test(
    'connections cut at many moments: equal',
    staged(async (stage) => {
      const { source, module, proxy, syncline } = await mirrored(stage, (s) => makeMany(`${s}/at 0`))
      for (let turn = 0; turn < 12; turn++) {
        fs.renameSync(`${source}/at ${turn}`, `${source}/at ${turn + 1}`)
        if (turn % 2 === 0) changeUnseen(`${source}/at ${turn + 1}/1`)
        await sleep(turn * 6)
        proxy.cutAll()
        await syncline.equal(source, module)
      }
    }),
  )

  test(
    'the daemon is away: equal when it is back',
    staged(async (stage) => {
      const { source, module, daemon, syncline } = await mirrored(stage, (s) => makeMany(`${s}/old`))
      await daemon.stop()
      changeUnseen(`${source}/old/1`)
      await sleep(50)
      fs.renameSync(`${source}/old`, `${source}/new`)
      changeUnseen(`${source}/new/2`)
      await sleep(1500)
      fs.renameSync(`${source}/new`, `${source}/newer`)
      changeUnseen(`${source}/newer/4`)
      await daemon.start()
      await syncline.equal(source, module)
    }),
  )
})
