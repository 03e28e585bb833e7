import assert from 'node:assert/strict'
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { claimConnection } from '../src/daemon/connections.js'
import { resolveIdentity, splitList, UnknownIdentity } from '../src/daemon/identity.js'
import { DaemonLog, escapeControls, LOG, REPLY } from '../src/daemon/log.js'
import { groupId, groupsOf, inNetgroup, lockRange, userIds } from '../src/kernel.js'
import { fromBytes, type RawPath } from '../src/raw-path.js'
import { configured, parseLog, StockConfiguration } from './conversation.js'
import { temporaryDirectory } from './stage.js'

const HEAD =
  'log file = HOME/log\nlock file = HOME/lock\nreverse lookup = no\nuse chroot = no\nuid = root\ngid = root\n'

test('a stock daemon counts our connections, and we count its own', async (t) => {
  const text = `${HEAD}[two]\npath = HOME/module\nmax connections = 2\n[three]\npath = HOME/module\nmax connections = 3\n`
  const stock = await StockConfiguration.start(t, text)
  const { modules } = configured(t, stock.text(text))
  const claim = (name: string) => claimConnection(modules.get(name)!.lockFile, modules.get(name)!.maxConnections)
  const first = claim('two')
  const theirs = await stock.hold('two')
  assert.equal(theirs.reply, '@RSYNCD: OK')
  assert.equal(claim('two'), null)
  const { reply, log } = await stock.converse({ module: 'two' })
  assert.equal(reply, REPLY.maxConnections(2))
  assert.equal(log.at(-1), LOG.maxConnections(2))
  const third = claim('three')
  assert.ok(first !== null && third !== null)
  assert.equal((await stock.converse({ module: 'three' })).reply, REPLY.maxConnections(3))
  first.release()
  assert.equal((await stock.converse({ module: 'two' })).reply, '@RSYNCD: OK')
  third.release()
  await theirs.end()
  // Its processes close their connections first, and give their places back when they end.
  for (let claims = 0, tries = 0; claims < 2; tries++) {
    assert.ok(tries < 1000, `${claims} claimed`)
    if (claim('two') !== null) claims++
    else await sleep(10)
  }
  assert.equal(claim('two'), null)
})

test('claims of one process count too, and opening the file elsewhere does not lose them', (t) => {
  const file = join(temporaryDirectory(t), 'lock') as RawPath
  const claims = [claimConnection(file, 2), claimConnection(file, 2)]
  closeSync(openSync(file, 'r+')) // with locks of processes instead of open files, this would drop them all
  assert.equal(claimConnection(file, 2), null)
  assert.equal(statSync(file).mode & 0o777, 0o600)
  claims[0]?.release()
  assert.notEqual(claimConnection(file, 2), null)
  const fd = openSync(file, 'r+')
  assert.equal(lockRange(fd, 0, 4), false)
  assert.equal(lockRange(fd, 8, 4), true)
  closeSync(fd)
})

test('no limit needs no file, a negative one closes the module, and a file that cannot be opened closes it too', async (t) => {
  const modules = ['-1', '5\nlock file = HOME/none/lock', '5\nlock file =', '0\nlock file = HOME/none/lock']
  const text = HEAD + modules.map((max, i) => `[m${i}]\npath = HOME/module\nmax connections = ${max}\n`).join('')
  const stock = await StockConfiguration.start(t, text)
  const config = configured(t, stock.text(text))
  for (const module of config.modules.values()) {
    const log = [LOG.connect('UNDETERMINED', '127.0.0.1'), LOG.allowed(module.name, 'UNDETERMINED', '127.0.0.1')]
    let reply = '@RSYNCD: OK'
    try {
      if (claimConnection(module.lockFile, module.maxConnections) === null) {
        reply = REPLY.maxConnections(module.maxConnections)
        log.push(LOG.maxConnections(module.maxConnections))
      }
    } catch (error) {
      reply = REPLY.lockFile
      log.push(LOG.failed(`failed to open lock file ${module.lockFile}`, error as NodeJS.ErrnoException))
    }
    const theirs = await stock.converse({ module: module.name })
    assert.deepEqual({ reply, log }, { reply: theirs.reply, log: theirs.log })
  }
})

test('who a module is served as: the same names are unknown to both', async (t) => {
  const identities: [uid: string, gid: string][] = [
    ['', ''],
    ['root', 'root'],
    ['nosuch', 'root'],
    ['root', 'nosuch'],
    ['root', 'root nosuch'],
    ['12x', ''],
    ['1234', '5678, daemon'],
    ['root', ',root,, daemon '],
    ['root', '*'],
    ['root', '* 7'],
    ['root', '7 *'],
    ['root', ' , '],
  ]
  const head = 'log file = HOME/log\nreverse lookup = no\nuse chroot = no\npath = HOME/module\n'
  const modules = identities.map(([uid, gid], i) => `[m${i}]\nuid = ${uid}\ngid = ${gid}\n`)
  const stock = await StockConfiguration.start(t, head + modules.join(''))
  const config = configured(t, stock.text(head + modules.join('')))
  for (const module of config.modules.values()) {
    const theirs = await stock.converse({ module: module.name })
    let ours = '@RSYNCD: OK'
    const log = [LOG.connect('UNDETERMINED', '127.0.0.1'), LOG.allowed(module.name, 'UNDETERMINED', '127.0.0.1')]
    try {
      resolveIdentity(module, true)
    } catch (error) {
      assert.ok(error instanceof UnknownIdentity)
      log.push(error.message)
      ours = REPLY.unknownIdentity(error.kind, error.value)
    }
    // As nobody, stock rsync may not look into the test's directory; that is not what this is about.
    const reply = theirs.reply === REPLY.chdirFailed ? '@RSYNCD: OK' : theirs.reply
    const said = theirs.log.filter((line) => !line.startsWith('rsync: '))
    assert.deepEqual({ ours, log }, { ours: reply, log: said }, `uid = ${module.uid}, gid = ${module.gid}`)
  }
})

test('users and groups of this system', () => {
  const nobody = userIds('nobody')!
  assert.deepEqual(userIds('root'), { uid: 0, gid: 0 })
  assert.equal(userIds('no such user'), null)
  assert.equal(groupId('root'), 0)
  assert.equal(groupId('no such group'), null)
  assert.equal(groupsOf('root', 0)[0], 0)
  assert.equal(inNetgroup('no such netgroup', 'localhost'), false)
  assert.deepEqual(resolveIdentity({ uid: '', gid: '' }, true), { uid: nobody.uid, gids: [groupId('nogroup')] })
  assert.deepEqual(resolveIdentity({ uid: '', gid: '' }, false), { uid: null, gids: null })
  assert.deepEqual(resolveIdentity({ uid: '7', gid: '8, 9 root' }, false), { uid: 7, gids: [8, 9, 0] })
  assert.deepEqual(resolveIdentity({ uid: 'root', gid: '* 7' }, true), { uid: 0, gids: [...groupsOf('root', 0), 7] })
  assert.throws(() => resolveIdentity({ uid: '4294967295', gid: '' }, true), /^Error: Invalid uid 4294967295$/)
  assert.deepEqual(splitList(', a b ,,c'), ['a b', 'c'])
})

test('the log has the times, numbers and escapes of stock rsync', async (t) => {
  const home = temporaryDirectory(t)
  const stock = await StockConfiguration.start(t, HEAD)
  const bytes = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 10 && byte !== 13))
  const names = [`x${fromBytes(bytes)}`, 'x\\#012', 'x\\#12', '\\#0123\\#000']
  for (const name of names) {
    const { log } = await stock.converse({ module: name })
    assert.equal(escapeControls(LOG.unknownModule(name, 'UNDETERMINED', '127.0.0.1')), log[1])
  }
  const log = new DaemonLog()
  log.open(join(home, 'log') as RawPath)
  const started = Math.floor(Date.now() / 1000) * 1000
  log.write('one\n[1] two \xe4', 42)
  log.close()
  const line = readFileSync(join(home, 'log'), 'latin1')
  const match = /^(\d{4})\/(\d\d)\/(\d\d) (\d\d):(\d\d):(\d\d) \[42\] one\\#012\[1\] two \xe4\n$/.exec(line)
  assert.ok(match, line)
  const [, year, month, day, hours, minutes, seconds] = match.map(Number)
  const written = new Date(year, month - 1, day, hours, minutes, seconds).getTime()
  assert.ok(written >= started && written <= Date.now())
})

test('a log that was renamed is written on until it is opened again, and stays if it cannot be', (t) => {
  const home = temporaryDirectory(t)
  const file = join(home, 'log')
  const texts = (path: string) => parseLog(readFileSync(path, 'latin1')).map(({ text }) => text)
  const log = new DaemonLog()
  t.after(() => log.close())
  log.open(file as RawPath)
  log.open(file as RawPath)
  log.write('one')
  renameSync(file, `${file}.1`)
  log.write('two')
  mkdirSync(file)
  assert.throws(() => log.reopen(), { code: 'EISDIR' })
  assert.throws(() => log.open(join(home, 'none/log') as RawPath), { code: 'ENOENT' })
  log.write('three')
  renameSync(file, `${file}.directory`)
  log.reopen()
  log.write('four')
  assert.deepEqual(texts(`${file}.1`), ['one', 'two', 'three'])
  assert.deepEqual(texts(file), ['four'])
})
