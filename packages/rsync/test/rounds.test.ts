// What two of ours speak beyond rsync: one session for many lists, renames, and what became of each path.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Sums } from '../src/digest.js'
import {
  ancestors,
  compareEntries,
  type FileEntry,
  missing,
  type RawPath,
  Session,
  type SessionOptions,
  type SourceTree,
  type TransferOptions,
} from '../src/index.js'
import { askForPut, VERDICT } from '../src/rounds.js'
import { OurDaemon } from './hostile-peer.js'
import { describeTree, openTree, randomBytes, temporaryDirectory } from './stage.js'
import { openSession, StockDaemon, sessionOptions, VERSIONS } from './stock.js'

/** As a mirror sends its changes. */
const MIRROR = { delete: true, ignoreTimes: true }

interface Pair {
  root: string
  source: SourceTree
  daemon: OurDaemon
  session: Session
}

/** A source, an open session of ours to a daemon of ours, and its module. */
async function pair(t: TestContext, module: string[] = [], more: Partial<SessionOptions> = {}): Promise<Pair> {
  const daemon = await OurDaemon.start(t, { module: ['munge symlinks = no', ...module] })
  const root = temporaryDirectory(t)
  const session = await Session.open(sessionOptions(daemon.port, '', { ...MIRROR, ...more, remote: remoteOf(daemon) }))
  t.after(() => session.destroy())
  return { root, source: openTree(t, root), daemon, session }
}

const remoteOf = ({ port }: OurDaemon) => ({ host: '127.0.0.1', port, module: 'm', path: '' })

const raw = (path: string) => path as RawPath

/** These names and every directory above them, as a mirror lists what it was told of. */
function listed(source: SourceTree, ...paths: string[]): FileEntry[] {
  const names = new Set(['', ...paths].flatMap((path) => [...ancestors(raw(path)), raw(path)]))
  return [...names].map((name) => source.look(name) ?? missing(name)).sort(compareEntries)
}

const send = ({ session, source }: Pair, paths: string[], more: Partial<TransferOptions> = {}) =>
  session.transfer({ source, entries: listed(source, ...paths), ...more })

async function eventually(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 1000, what)
    await sleep(20)
  }
}

test('one session takes list after list: files, deletions, links, an empty list', async (t) => {
  const all = await pair(t)
  const { root, session, daemon } = all
  assert.equal(session.lasts, true)
  for (let round = 0; round < 20; round++) {
    mkdirSync(join(root, `d${round}`))
    writeFileSync(join(root, `d${round}/f`), `${round}`.repeat(round * 1000))
    symlinkSync('f', join(root, `d${round}/l`))
    const gone = round > 0 ? [`d${round - 1}/f`] : []
    for (const path of gone) rmSync(join(root, path))
    const report = await send(all, [`d${round}/f`, `d${round}/l`, ...gone])
    assert.deepEqual([...report.refused, ...report.errors, ...report.failed], [])
    assert.equal(report.sent, 1)
    assert.equal(report.deleted, gone.length)
    assert.equal(session.ready, true)
    assert.deepEqual(describeTree(daemon.module), describeTree(root))
  }
  await session.transfer({ source: all.source, entries: [], ioError: true })
  assert.equal(session.ready, true)
  assert.equal(daemon.log().split('rsync to m/').length - 1, 1, 'one session in the log')
})

for (const version of VERSIONS)
  test(`a stock daemon, ${version}: the session takes one list, as ever`, async (t) => {
    const daemon = await StockDaemon.start(t, version)
    const root = temporaryDirectory(t)
    writeFileSync(join(root, 'f'), 'text')
    const session = await openSession(daemon)
    assert.equal(session.lasts, false)
    const source = openTree(t, root)
    const report = await session.transfer({ source, entries: listed(source, 'f') })
    assert.deepEqual(report.errors, [])
    assert.equal(session.ready, false)
  })

test('a delta, and content that goes ahead, in later lists', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  const content = Buffer.alloc(3_000_000, 'some text that repeats itself; ')
  writeFileSync(join(root, 'large'), content)
  await send(all, ['large'])
  content[1_500_000] ^= 1
  writeFileSync(join(root, 'large'), content)
  const delta = await send(all, ['large'])
  assert.ok(delta.matchedBytes > 2_900_000 && delta.literalBytes < 20_000, `${delta.literalBytes} bytes`)
  for (let i = 0; i < 50; i++) {
    writeFileSync(join(root, 'small'), `${i}`)
    const arrived: string[] = []
    const report = await send(all, ['small'], { ahead: true, onArrived: ({ path }) => arrived.push(path) })
    assert.deepEqual([i, report.errors, arrived], [i, [], ['small']])
    assert.equal(readFileSync(join(daemon.module, 'small'), 'latin1'), `${i}`)
  }
})

test('one small change is one message each way, and leaves what a list would leave', async (t) => {
  const all = await pair(t, ['incoming chmod = Fo-r'])
  const { root, session, daemon } = all
  mkdirSync(join(root, 'a/b'), { recursive: true })
  await send(all, ['a/b'])
  for (const [path, text] of [
    ['new', 'new'],
    ['new', 'and once more'],
    ['a/b/deep', 'x'.repeat(1 << 16)],
    ['a/b/deep', ''],
    ['a/odd \n name', '\0'],
  ]) {
    writeFileSync(join(root, path), text, { mode: 0o640 })
    utimesSync(join(root, path), 1e9, 1e9 + text.length / 1024)
    const arrived: string[] = []
    const report = await send(all, [path], { ahead: true, onArrived: (entry) => arrived.push(entry.path) })
    assert.ok(report.bytesRead < 10, `${report.bytesRead} bytes are no answer to a put`)
    assert.deepEqual([report.sent, report.errors, arrived, session.ready], [1, [], [path], true])
    assert.deepEqual(describeTree(daemon.module), describeTree(root))
  }
  writeFileSync(join(root, 'public'), 'for all', { mode: 0o644 })
  await send(all, ['public'], { ahead: true })
  assert.equal(statSync(join(daemon.module, 'public')).mode & 0o777, 0o640, 'incoming chmod')
})

test('what cannot be put goes by a list', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  for (const [path, inTheWay] of [
    ['f', (at: string) => mkdirSync(`${at}/deep`, { recursive: true })],
    ['g', (at: string) => symlinkSync('/etc/passwd', at)],
    ['d/h', (at: string) => symlinkSync(daemon.outside, join(at, '..'))],
    ['e/deep/h', () => undefined],
  ] as const) {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), path)
    inTheWay(join(daemon.module, path))
    const report = await send(all, [path], { ahead: true })
    assert.ok(report.bytesRead > 10)
    assert.deepEqual([report.errors, [...report.refused]], [[], []])
    assert.equal(readFileSync(join(daemon.module, path), 'latin1'), path)
  }
  assert.deepEqual(describeTree(daemon.module), describeTree(root))
  assert.deepEqual(describeTree(daemon.outside), { '': describeTree(daemon.outside)[''] })
})

test('a module with settings of its own takes lists only, and a file that does not fit is told of', async (t) => {
  for (const setting of ['fake super = yes', 'exclude = /secret', 'temp dir = /']) {
    const all = await pair(t, [setting])
    writeFileSync(join(all.root, 'f'), 'f')
    const { bytesRead, errors } = await send(all, ['f'], { ahead: true })
    assert.deepEqual([bytesRead > 10, errors], [true, []], setting)
    assert.equal(readFileSync(join(all.daemon.module, 'f'), 'latin1'), 'f')
  }
  const all = await pair(t)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', all.daemon.module])
  try {
    await eventually('the worker is replaced', () => !all.session.ready)
    all.session = await Session.open(sessionOptions(all.daemon.port, '', { ...MIRROR, remote: remoteOf(all.daemon) }))
    for (let i = 0; i < 3; i++) {
      writeFileSync(join(all.root, `f${i}`), randomBytes(30_000, i))
      const { refused } = await send(all, [`f${i}`], { ahead: true })
      if (i < 2) assert.deepEqual([...refused], [])
      else assert.match(refused.get(raw('f2')) ?? '', /No space left on device/)
    }
    assert.deepEqual(readdirSync(all.daemon.module).sort(), ['f0', 'f1'])
  } finally {
    execFileSync('umount', ['-l', all.daemon.module])
  }
})

test('a put that is damaged, of more than one file, or leads elsewhere, changes nothing', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  writeFileSync(join(root, 'f'), 'text')
  await send(all, ['f'])
  symlinkSync(daemon.outside, join(daemon.module, 'out'))
  const before = [describeTree(daemon.module), describeTree(daemon.outside)]
  const entry = all.source.look(raw('f')) as FileEntry
  const content = Buffer.from('evil')
  const directory = { ...(all.source.look(raw('')) as FileEntry), hasContent: false }
  const format = { protocol: 32, varintFlags: true, safeFlist: true }
  const at = (path: string) => ({ ...entry, path: raw(path) })
  const wrongSum = (sums: Sums): Sums => ({
    ...sums,
    file: { reset: () => undefined, update: () => undefined, final: () => Buffer.alloc(sums.length) } as never,
  })
  for (const [what, entries, spoil] of [
    ['a wrong sum', [at('f')], true],
    ['two files', [at('f'), at('g')], false],
    ['nothing', [directory], false],
    ['through a symlink', [at('out/f')], false],
    ['a name that leads out', [at('../f')], false],
    ['an absolute name', [at('/f')], false],
    ['onto the root', [at('')], false],
    ['a directory whose content is listed', [{ ...directory, hasContent: true, topDir: true }, at('f')], false],
  ] as const) {
    const session = await Session.open(sessionOptions(daemon.port, '', { ...MIRROR, remote: remoteOf(daemon) }))
    const sums = spoil ? wrongSum(session.sums) : session.sums
    const verdict = await askForPut(session.channel, format, sums, { entries: [...entries], content }).catch(
      () => 'ended',
    )
    session.destroy()
    assert.notEqual(verdict, VERDICT.PUT, what)
    assert.deepEqual([describeTree(daemon.module), describeTree(daemon.outside)], before, what)
  }
})

test('a rename is one operation, for a file, a directory, a symlink; never onto something', async (t) => {
  const all = await pair(t)
  const { root, session, daemon } = all
  mkdirSync(join(root, 'd/deep'), { recursive: true })
  mkdirSync(join(root, 'other'))
  writeFileSync(join(root, 'd/deep/f'), 'text')
  symlinkSync('deep', join(root, 'd/link'))
  writeFileSync(join(root, 'f'), 'f')
  await send(all, ['d', 'd/deep', 'd/deep/f', 'd/link', 'f', 'other'])
  const both = async (from: string, to: string) => {
    renameSync(join(root, from), join(root, to))
    assert.equal(await session.rename(raw(from), raw(to)), '')
  }
  await both('f', 'g')
  await both('d', 'e')
  await both('e/link', 'other/link')
  await both('e/deep/f', 'odd name $(reboot)')
  const before = describeTree(daemon.module)
  for (const [from, to] of [
    ['g', 'other'],
    ['nothing', 'x'],
    ['g', 'nowhere/x'],
    ['other/link', 'g'],
    ['g', 'other/link/planted'],
    ['other/link/etc', 'etc'],
    ['g', `${'a/'.repeat(3000)}a`],
  ]) {
    assert.notEqual(await session.rename(raw(from), raw(to)), '', `${from} to ${to}`)
    assert.deepEqual(describeTree(daemon.module), before)
  }
  assert.match(daemon.log(), /renamed d to e/)
  await send(all, ['', 'other', 'e', 'e/deep'])
  assert.deepEqual(describeTree(daemon.module), describeTree(root))
})

for (const name of ['../x', '/x', 'd/../../x', '', '.', 'a//b', 'x\0y'])
  test(`a rename from or to ${JSON.stringify(name)} ends the session, and changes nothing`, async (t) => {
    const { daemon } = await pair(t)
    writeFileSync(join(daemon.module, 'f'), 'f')
    writeFileSync(join(daemon.home, 'x'), 'x')
    for (const [from, to] of [
      [name, 'g'],
      ['f', name],
    ]) {
      const session = await Session.open(sessionOptions(daemon.port, '', { remote: remoteOf(daemon) }))
      await assert.rejects(session.rename(raw(from), raw(to)))
    }
    assert.equal(readFileSync(join(daemon.module, 'f'), 'latin1'), 'f')
    assert.equal(readFileSync(join(daemon.home, 'x'), 'latin1'), 'x')
  })

test('where names are hidden, or nothing may be deleted, there is no renaming', async (t) => {
  for (const [module, more] of [
    [['exclude = /secret'], {}],
    [[], { delete: false }],
  ] as const) {
    const all = await pair(t, [...module], more)
    writeFileSync(join(all.root, 'f'), 'f')
    await send(all, ['f'])
    assert.notEqual(await all.session.rename(raw('f'), raw('secret')), '')
    assert.ok(existsSync(join(all.daemon.module, 'f')))
    assert.equal(all.session.ready, true)
  }
})

test('each path that fails is known, with its reason; the others arrive', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  for (const name of ['closed', 'open']) mkdirSync(join(root, name))
  for (const name of ['closed/a', 'open/b', 'closed/c', 'open/d']) writeFileSync(join(root, name), name)
  utimesSync(join(root, 'closed'), 1, 1)
  mkdirSync(join(daemon.module, 'closed'))
  execFileSync('chattr', ['+i', join(daemon.module, 'closed')])
  const arrived: string[] = []
  const report = await send(all, ['closed/a', 'closed/c', 'open/b', 'open/d'], {
    onArrived: ({ path }) => arrived.push(path),
  }).finally(() => execFileSync('chattr', ['-i', join(daemon.module, 'closed')]))
  assert.deepEqual(arrived.sort(), ['open/b', 'open/d'])
  // What happens to directories at the end is told as with a stock receiver, without saying which it was.
  for (const text of report.errors) assert.match(text, /failed to set times on "closed"/)
  assert.deepEqual([...report.refused.keys()].sort(), ['closed', 'closed/a', 'closed/c'])
  for (const reason of report.refused.values()) assert.match(reason, /not permitted|denied/i)
})

test('what was said to have arrived has arrived, also when the daemon is killed in the midst of it', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  const names = Array.from({ length: 400 }, (_, i) => `f${i}`)
  for (const name of names) writeFileSync(join(root, name), Buffer.alloc(60_000, name))
  const arrived: string[] = []
  const onArrived = ({ path }: FileEntry) => {
    arrived.push(path)
    if (arrived.length === 1) void daemon.stop()
  }
  await assert.rejects(send(all, names, { onArrived }))
  assert.ok(arrived.length > 0 && arrived.length < names.length)
  for (const name of arrived)
    assert.ok(readFileSync(join(daemon.module, name)).equals(readFileSync(join(root, name))), name)
})

test('a file that was torn, or could not be read, is not said to have arrived', async (t) => {
  const all = await pair(t)
  const { root, source, session } = all
  for (const name of ['calm', 'changed', 'gone']) writeFileSync(join(root, name), name)
  const entries = listed(source, 'calm', 'changed', 'gone')
  writeFileSync(join(root, 'changed'), 'is something else now')
  rmSync(join(root, 'gone'))
  const arrived: string[] = []
  const report = await session.transfer({ source, entries, onArrived: ({ path }) => arrived.push(path) })
  assert.deepEqual(arrived, ['calm'])
  assert.deepEqual(report.changed, ['changed'])
  assert.deepEqual(
    report.failed.map(({ path }) => path),
    ['gone'],
  )
})

test('a session that waits is ended by SIGTERM, SIGHUP, and when another directory is at the path of the module', async (t) => {
  for (const how of ['SIGTERM', 'SIGHUP', 'replaced'] as const) {
    const all = await pair(t, ['max connections = 1'])
    const { root, session, daemon } = all
    writeFileSync(join(root, 'f'), 'f')
    await send(all, ['f'])
    assert.equal(session.ready, true)
    const workers = daemon.processes().filter(({ worker }) => worker)
    if (how === 'replaced') {
      renameSync(daemon.module, `${daemon.module}.old`)
      mkdirSync(daemon.module)
    } else daemon.signal(how)
    await eventually(`${how}: the session ends`, () => !session.ready)
    // Neither a process nor a connection is kept for it.
    await eventually(`${how}: its worker ends`, () => workers.every(({ pid }) => !existsSync(`/proc/${pid}`)))
    if (how === 'SIGTERM') {
      await eventually('the daemon ends', () => !daemon.runs)
      continue
    }
    const next = await Session.open(sessionOptions(daemon.port, '', { remote: remoteOf(daemon) }))
    const report = await next.transfer({ source: all.source, entries: listed(all.source, 'f') })
    assert.deepEqual(report.errors, [])
    assert.ok(existsSync(join(daemon.module, 'f')), how)
  }
})

test('a client that is silent for too long gives its place back', async (t) => {
  const all = await pair(t, ['max connections = 1', 'timeout = 1'])
  await send(all, [''])
  await eventually('the session ends', () => !all.session.ready)
  const open = () => Session.open(sessionOptions(all.daemon.port, '', { ...MIRROR, remote: remoteOf(all.daemon) }))
  let next: Session | undefined
  for (let tries = 0; next === undefined; tries++) {
    next = await open().catch((error) => {
      if (tries >= 500 || error?.reason !== 'max-connections') throw error
      return undefined
    })
    if (next === undefined) await sleep(20) // its worker says that it has ended
  }
  next.destroy()
})

test('a directory is put into the place of the module: nothing more goes into the old one', async (t) => {
  const all = await pair(t)
  const { root, daemon } = all
  writeFileSync(join(root, 'f'), 'f')
  await send(all, ['f'], { ahead: true })
  renameSync(daemon.module, `${daemon.module}.old`)
  mkdirSync(daemon.module)
  writeFileSync(join(root, 'g'), 'g')
  await assert.rejects(send(all, ['g'], { ahead: true }))
  assert.deepEqual(readdirSync(`${daemon.module}.old`), ['f'])
})

test('a file too deep to be put goes by a list', async (t) => {
  const all = await pair(t)
  const deep = 'd/'.repeat(80)
  mkdirSync(join(all.root, deep), { recursive: true })
  writeFileSync(join(all.root, deep, 'f'), 'f')
  for (let i = 0; i < 2; i++) {
    const { errors } = await send(all, [`${deep}f`], { ahead: true })
    assert.deepEqual(errors, [])
  }
  assert.equal(all.session.ready, true)
  assert.ok(existsSync(join(all.daemon.module, deep, 'f')))
})

test('in memory, to a local directory, the same is spoken', async (t) => {
  const root = temporaryDirectory(t)
  const to = temporaryDirectory(t)
  const source = openTree(t, root)
  const remote = { host: '', module: '', path: to, local: true as const }
  const session = await Session.open(sessionOptions(0, '', { ...MIRROR, remote }))
  t.after(() => session.destroy())
  assert.equal(session.lasts, true)
  for (let i = 0; i < 5; i++) {
    writeFileSync(join(root, `f${i}`), `${i}`)
    const report = await session.transfer({ source, entries: listed(source, `f${i}`) })
    assert.deepEqual([report.errors, report.sent], [[], 1])
  }
  renameSync(join(root, 'f0'), join(root, 'g'))
  assert.equal(await session.rename(raw('f0'), raw('g')), '')
  await session.transfer({ source, entries: listed(source, '') })
  assert.deepEqual(describeTree(to), describeTree(root))
})
