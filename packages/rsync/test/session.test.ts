import assert from 'node:assert/strict'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  compareEntries,
  type FileEntry,
  Filter,
  type FilterRule,
  ITEM,
  missing,
  Pace,
  parseRule,
  type RawPath,
  Session,
  type SessionOptions,
  type SourceTree,
  type TransferReport,
} from '../src/index.js'
import { CF } from '../src/wire/constants.js'
import { plantSample } from './sample.js'
import { describeTree, listAll, openTree, randomBytes, repeat, temporaryDirectory } from './stage.js'
import { checksumsOf, openSession, StockDaemon, sessionOptions, tap, VERSIONS } from './stock.js'

const raw = (path: string) => path as RawPath

/** A report of a list that arrived whole. */
function isClean(report: TransferReport): void {
  const { errors, failed, changed, deferred } = report
  assert.deepEqual({ errors, failed, changed, deferred }, { errors: [], failed: [], changed: [], deferred: [] })
}

/** Entries of these paths and of every directory above them, the root included. */
function listSome(source: SourceTree, paths: readonly string[]): FileEntry[] {
  const names = new Set([''])
  for (const path of paths) {
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
      names.add(path.slice(0, slash))
    names.add(path)
  }
  return [...names].map((name) => source.look(raw(name)) ?? missing(raw(name))).sort(compareEntries)
}

async function push(
  t: TestContext,
  daemon: StockDaemon,
  path: string,
  root: string,
  more: Partial<SessionOptions> = {},
): Promise<TransferReport> {
  const source = openTree(t, root)
  const session = await openSession(daemon, path, more)
  const filter = new Filter(more.rules ?? [])
  return session.transfer({ source, entries: listAll(source, filter) })
}

for (const version of VERSIONS) {
  test(`rsync ${version}: all that -aH carries arrives, whatever was negotiated`, async (t) => {
    const daemon = await StockDaemon.start(t, version)
    const root = join(temporaryDirectory(t), 'src')
    await plantSample(root)
    let ran = 0
    for (const protocol of [30, 31, 32]) {
      for (const checksum of checksumsOf(version)) {
        for (const compress of [false, true]) {
          const path = `${protocol}-${checksum}-${compress}`
          const to = join(daemon.module, path)
          mkdirSync(join(to, 'dir/deep'), { recursive: true })
          // An old version of each of the large files: what is common must not travel.
          const old = readFileSync(join(root, 'dir/large'))
          writeFileSync(
            join(to, 'dir/large'),
            Buffer.concat([old.subarray(0, 100_000), Buffer.from('!'), old.subarray(100_050)]),
          )
          writeFileSync(join(to, 'dir/deep/text'), 'short')
          const session = await openSession(daemon, path, { protocol, checksums: [checksum], compress })
          const { agreement } = session
          assert.equal(agreement.protocol, Math.min(protocol, version === '3.2.3' ? 31 : 32))
          assert.equal(agreement.checksum, checksum)
          assert.equal(agreement.compress, compress ? 'zlibx' : null)
          const source = openTree(t, root)
          const report = await session.transfer({ source, entries: listAll(source) })
          isClean(report)
          assert.ok(report.matchedBytes > 290_000, `${path}: only ${report.matchedBytes} bytes matched`)
          assert.ok(report.literalBytes < 220_000)
          if (compress) assert.ok(report.bytesWritten < 60_000, `${report.bytesWritten} bytes of what deflates well`)
          const nanoseconds = protocol >= 31
          assert.deepEqual(describeTree(to, { nanoseconds }), describeTree(root, { nanoseconds }))
          rmSync(to, { recursive: true })
          ran++
        }
      }
    }
    assert.equal(ran, checksumsOf(version).length * 6)
    assert.doesNotMatch(daemon.log(), /error|closed|timeout/i)
  })

  test(`rsync ${version}: what is there already is not sent again`, async (t) => {
    const daemon = await StockDaemon.start(t, version)
    const root = join(temporaryDirectory(t), 'src')
    await plantSample(root)
    await push(t, daemon, '', root)
    const again = await push(t, daemon, '', root)
    isClean(again)
    assert.equal(again.sent, 0)
    // An event has named them all: then they are compared block by block, and none of their bytes travels.
    const named = await push(t, daemon, '', root, { ignoreTimes: true })
    isClean(named)
    assert.ok(named.sent > 10)
    assert.equal(named.literalBytes, 0)
    assert.deepEqual(describeTree(daemon.module), describeTree(root))
  })

  test(`rsync ${version}: deletion by listing takes what is not listed, and leaves what the rules protect`, async (t) => {
    for (const protocol of [30, 31, 32]) {
      const daemon = await StockDaemon.start(t, version)
      const root = join(temporaryDirectory(t), 'src')
      await plantSample(root)
      const rules: FilterRule[] = ['*.keep', '/cache/', 'dir/deep/**/x', '+ dir/notes.txt', '*.txt'].map((text) =>
        parseRule(text, false),
      )
      mkdirSync(join(root, 'cache'))
      writeFileSync(join(root, 'cache/hidden'), 'must not travel')
      const filter = new Filter(rules)
      const there = [
        'gone',
        'dir/gone',
        'dir/notes.txt',
        'a.keep',
        'dir/b.keep',
        'cache/old',
        'other.txt',
        'dir/deep/q/x',
        'dir/deep/x',
        'tree/a/b/c',
        'cache2/old',
      ]
      for (const path of there) {
        mkdirSync(join(daemon.module, path, '..'), { recursive: true })
        writeFileSync(join(daemon.module, path), 'old')
      }
      const source = openTree(t, root)
      const deleted: string[] = []
      const session = await openSession(daemon, '', { delete: true, rules, protocol })
      const report = await session.transfer({
        source,
        entries: listAll(source, filter),
        onDeleted: (path, directory) => deleted.push(directory ? `${path}/` : path),
      })
      assert.deepEqual(report.failed, [])
      for (const path of there) {
        const hidden = filter.hides(raw(path), false)
        assert.equal(
          existsSync(join(daemon.module, path)),
          hidden,
          `${path} ${hidden ? 'is protected' : 'is not in the source'}`,
        )
      }
      assert.ok(!existsSync(join(daemon.module, 'cache/hidden')))
      if (session.agreement.protocol >= 31) {
        for (const path of ['gone', 'dir/gone', 'dir/notes.txt', 'tree/', 'tree/a/b/c', 'cache2/old'])
          assert.ok(deleted.includes(path), `${path} reported`)
        assert.equal(report.deleted, deleted.length)
      }
    }
  })

  test(`rsync ${version}: nothing is deleted when the list is not complete`, async (t) => {
    for (const protocol of [30, 31, 32]) {
      const daemon = await StockDaemon.start(t, version)
      const root = join(temporaryDirectory(t), 'src')
      await plantSample(root)
      writeFileSync(join(daemon.module, 'only here'), 'x')
      const source = openTree(t, root)
      const session = await openSession(daemon, '', { delete: true, protocol })
      await session.transfer({ source, entries: listAll(source), ioError: true })
      assert.ok(existsSync(join(daemon.module, 'only here')), `protocol ${protocol}`)
      assert.ok(existsSync(join(daemon.module, 'plain')))
    }
  })

  test(`rsync ${version}: an entry of mode 0 deletes the name, whatever it is, beside updates in one list`, async (t) => {
    for (const protocol of [31, 32]) {
      const daemon = await StockDaemon.start(t, version)
      const root = join(temporaryDirectory(t), 'src')
      await plantSample(root)
      await push(t, daemon, '', root)
      const gone = [
        'plain',
        'dangling',
        'fifo',
        'null',
        'socket',
        'third',
        'empty dir',
        'dir/deep',
        'gbk \xb2\xe2\xca\xd4\xff\xfe',
        'new\nline',
      ]
      for (const path of gone)
        rmSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]), { recursive: true })
      writeFileSync(join(root, 'dir/fresh'), 'new')
      writeFileSync(join(root, 'secret'), 'changed')
      const source = openTree(t, root)
      const session = await openSession(daemon, '', { delete: true, ignoreTimes: true, protocol })
      assert.ok(session.deletesMissing)
      const entries = listSome(source, [...gone, 'never was', 'dir/fresh', 'secret', 'dir'])
      isClean(await session.transfer({ source, entries }))
      assert.deepEqual(describeTree(daemon.module), describeTree(root))
      // What was not listed is still there, though its directories were.
      assert.ok(existsSync(join(daemon.module, 'dir/large')))
    }
  })

  test(`rsync ${version}: a dry run says what would change and changes nothing`, async (t) => {
    const daemon = await StockDaemon.start(t, version)
    const root = join(temporaryDirectory(t), 'src')
    await plantSample(root)
    await push(t, daemon, '', root)
    writeFileSync(join(root, 'plain'), 'changed content')
    writeFileSync(join(root, 'fresh'), 'new')
    writeFileSync(join(daemon.module, 'gone'), 'old')
    utimesSync(daemon.module, 1, 1)
    const before = describeTree(daemon.module)
    const source = openTree(t, root)
    const session = await openSession(daemon, '', { delete: true, dryRun: true })
    const items = new Map<string, number>()
    const deleted: string[] = []
    const report = await session.transfer({
      source,
      entries: listAll(source),
      onItem: (entry, iflags) => items.set(entry.path, iflags),
      onDeleted: (path) => deleted.push(path),
    })
    isClean(report)
    assert.equal(report.sent, 0)
    assert.deepEqual(describeTree(daemon.module), before)
    assert.deepEqual(deleted, ['gone'])
    const transfers = [...items].filter(([, iflags]) => iflags & ITEM.TRANSFER).map(([path]) => path)
    assert.deepEqual(transfers.sort(), ['fresh', 'plain'])
    assert.ok((items.get('fresh') ?? 0) & ITEM.IS_NEW)
    assert.ok((items.get('plain') ?? 0) & ITEM.REPORT_SIZE)
  })

  test(`rsync ${version}: ids travel as numbers, or by name where both ends have the name`, async (t) => {
    // The daemon's other end knows `daemon` as 777 and `bin` as 888; every other name is unknown to it.
    const converter = join(temporaryDirectory(t), 'names')
    const script =
      'while read -r kind name; do case "$kind $name" in "usr daemon") echo 777;; "grp bin") echo 888;; *) echo;; esac; done'
    writeFileSync(converter, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    for (const protocol of [30, 31, 32]) {
      const daemon = await StockDaemon.start(t, version, { 'name converter': converter })
      const root = join(temporaryDirectory(t), 'src')
      await plantSample(root)
      for (const numericIds of [false, true]) {
        isClean(await push(t, daemon, '', root, { numericIds, protocol }))
        const ids = (path: string) => {
          const { uid, gid } = lstatSync(join(daemon.module, path))
          return [uid, gid]
        }
        for (const path of ['owned', 'dir/deep']) assert.deepEqual(ids(path), numericIds ? [1, 2] : [777, 888], path)
        assert.deepEqual(ids('numbers'), [4_000_000_000, 3_999_999_999])
        assert.deepEqual(ids('plain'), [0, 0])
      }
    }
  })

  test(`rsync ${version}: a session given back unused leaves no error in the daemon's log, and deletes nothing`, async (t) => {
    for (const protocol of [30, 31, 32]) {
      const daemon = await StockDaemon.start(t, version)
      const root = temporaryDirectory(t)
      writeFileSync(join(daemon.module, 'keep'), 'x')
      const source = openTree(t, root)
      const session = await openSession(daemon, '', { delete: true, protocol })
      await session.close(source)
      assert.ok(!session.alive || session.channel.socket.writableEnded)
      assert.ok(existsSync(join(daemon.module, 'keep')))
      assert.doesNotMatch(daemon.log(), /error|unexpectedly|broken/i)
    }
  })
}

test('a receiver that negotiates nothing, as before 3.2, takes byte flags, md5 and zlib, with its seed fix or without', async (t) => {
  const daemon = await StockDaemon.start(t, '3.2.3')
  const root = join(temporaryDirectory(t), 'src')
  await plantSample(root)
  for (const capabilities of ['e.LsfxCI', 'e.LsfxI']) {
    const strike = (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace('e.LsfxCIv', capabilities), 'latin1')
    const { port } = await tap(t, daemon.port, strike)
    for (const protocol of [30, 31]) {
      for (const compress of [false, true]) {
        for (const numericIds of [false, true]) {
          const path = `${capabilities}-${protocol}-${compress}-${numericIds}`
          const to = join(daemon.module, path)
          mkdirSync(join(to, 'dir'), { recursive: true })
          const old = readFileSync(join(root, 'dir/large'))
          writeFileSync(join(to, 'dir/large'), Buffer.concat([old.subarray(150_000), old.subarray(0, 149_000)]))
          const session = await Session.open(
            sessionOptions(port, path, { protocol, compress, numericIds, ignoreTimes: true }),
          )
          assert.equal(session.agreement.checksum, 'md5')
          assert.equal(session.agreement.compress, compress ? 'zlib' : null)
          const source = openTree(t, root)
          const report = await session.transfer({ source, entries: listAll(source) })
          isClean(report)
          assert.ok(report.matchedBytes > 290_000)
          const nanoseconds = protocol >= 31
          assert.deepEqual(describeTree(to, { nanoseconds }), describeTree(root, { nanoseconds }))
        }
      }
    }
  }
})

test('nothing is deleted for an incomplete list by a receiver as old as 3.0, whose lists cannot say so at their end', async (t) => {
  const daemon = await StockDaemon.start(t, '3.2.3')
  const strike = (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace('e.LsfxCIv', 'e.Ls'), 'latin1')
  const { port } = await tap(t, daemon.port, strike)
  const root = temporaryDirectory(t)
  const source = openTree(t, root)
  for (const ioError of [true, false]) {
    writeFileSync(join(daemon.module, 'only here'), 'x')
    const session = await Session.open(sessionOptions(port, '', { delete: true, protocol: 30 }))
    assert.equal(session.agreement.compatFlags & (CF.SAFE_FLIST | CF.VARINT_FLIST_FLAGS), 0)
    await session.transfer({ source, entries: listAll(source), ioError })
    assert.equal(existsSync(join(daemon.module, 'only here')), ioError)
  }
})

test('a basis file that changes between its sums and our data is sent again, whole, and arrives', async (t) => {
  for (const version of VERSIONS) {
    for (const compress of [false, true]) {
      const daemon = await StockDaemon.start(t, version)
      const root = temporaryDirectory(t)
      const content = randomBytes(500_000, 1)
      writeFileSync(join(root, 'file'), content)
      const old = Buffer.concat([content.subarray(0, 499_000), Buffer.from('!')])
      writeFileSync(join(daemon.module, 'file'), old)
      const source = openTree(t, root)
      const session = await openSession(daemon, '', { compress })
      let asked = 0
      const onItem = (entry: FileEntry, iflags: number) => {
        if (entry.path !== 'file' || !(iflags & ITEM.TRANSFER)) return
        // The sums were made; what they speak of is overwritten in place before our tokens come.
        if (asked++ === 0) writeFileSync(join(daemon.module, 'file'), randomBytes(old.length, 2))
      }
      const report = await session.transfer({ source, entries: listAll(source), onItem })
      assert.equal(asked, 2, `${version}: the receiver asked again`)
      isClean(report)
      assert.ok(readFileSync(join(daemon.module, 'file')).equals(content))
    }
  }
})

test('one limit paces what all its sessions send together', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock')
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), randomBytes(600_000, 1))
  // A busy machine makes it slower, but not each time; it is never faster.
  let least = Number.POSITIVE_INFINITY
  for (let run = 0; run < 3 && least >= 1.2 * 2; run++) {
    const pace = new Pace(1_000_000)
    const startMs = performance.now()
    await Promise.all(['a', 'b'].map((path) => push(t, daemon, `${path}${run}`, root, { pace })))
    least = Math.min(least, (performance.now() - startMs) / 1000)
  }
  assert.ok(least > 1.2 * 0.9 && least < 1.2 * 2, `${least} s for 1.2 MB at 1 MB/s`)
})

test("an idle session outlives the module's time-out because it is kept alive, and dies when it is not", async (t) => {
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), 'x')
  const daemon = await StockDaemon.start(t, 'stock', { timeout: 2 })
  const source = openTree(t, root)
  const [kept, left] = await Promise.all([openSession(daemon, 'kept'), openSession(daemon, 'left')])
  const every = (session: Session) => setInterval(() => session.keepAlive(), session.keepAliveMs)
  const untilMs = performance.now() + 1500
  while (kept.keepAliveMs >= 1000 && performance.now() < untilMs)
    await new Promise((resolve) => setTimeout(resolve, 10))
  assert.ok(kept.keepAliveMs < 1000, `every ${kept.keepAliveMs} ms`)
  const timer = every(kept)
  await new Promise((resolve) => setTimeout(resolve, 5500))
  clearInterval(timer)
  assert.ok(kept.alive)
  assert.ok(!left.alive)
  isClean(await kept.transfer({ source, entries: listAll(source) }))
  assert.equal(readFileSync(join(daemon.module, 'kept/file'), 'latin1'), 'x')
  await assert.rejects(left.transfer({ source, entries: listAll(source) }))
})

test('a file of equal blocks is found to be there, each block in its place', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock', { timeout: 20 })
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), repeat('0123456789abcdef', 8 << 20))
  isClean(await push(t, daemon, '', root))
  const again = await push(t, daemon, '', root, { ignoreTimes: true })
  isClean(again)
  assert.equal(again.literalBytes, 0)
})

test('twenty sessions, four at once, each with a list of its own', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock')
  const root = temporaryDirectory(t)
  for (let i = 0; i < 20; i++) writeFileSync(join(root, `${i}`), repeat(`${i} `, 10_000))
  const source = openTree(t, root)
  const entries = listAll(source)
  for (let round = 0; round < 5; round++) {
    await Promise.all(
      Array.from({ length: 4 }, async (_, i) =>
        isClean(await (await openSession(daemon, `${round}-${i}`)).transfer({ source, entries })),
      ),
    )
  }
  for (const name of readdirSync(daemon.module))
    assert.deepEqual(describeTree(join(daemon.module, name)), describeTree(root))
})
