import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ConnectError, type FileEntry, ITEM, RemoteError, Session, TimeoutError } from '../src/index.js'
import type { TransferOptions } from '../src/session.js'
import { describeTree, listAll, openTree, randomBytes, temporaryDirectory } from './stage.js'
import { fakeServer, freePort, openSession, StockDaemon, sessionOptions, VERSIONS } from './stock.js'

interface Scene {
  daemon: StockDaemon
  root: string
  /** Sends all of `root`; `meanwhile` runs when the receiver asks for `file`, and before it is opened. */
  push(meanwhile?: () => void, more?: Partial<TransferOptions>): ReturnType<Session['transfer']>
}

async function scene(t: TestContext, version: (typeof VERSIONS)[number]): Promise<Scene> {
  const daemon = await StockDaemon.start(t, version)
  const root = join(temporaryDirectory(t), 'src')
  mkdirSync(root)
  const source = openTree(t, root)
  const push: Scene['push'] = async (meanwhile, more = {}) => {
    const session = await openSession(daemon, '', { ignoreTimes: true })
    let first = true
    const onItem = (entry: FileEntry, iflags: number) => {
      if (entry.path !== 'file' || !(iflags & ITEM.TRANSFER) || !first) return
      first = false
      meanwhile?.()
    }
    return session.transfer({ source, entries: listAll(source), onItem, ...more })
  }
  return { daemon, root, push }
}

const OUTSIDE = 'from outside the tree'
/** What becomes of `file` between its listing and its sending, and what the report must then say. */
const CHANGES: { what: string; change: (file: string) => void; says: 'changed' | 'vanished' }[] = [
  { what: 'grows', change: (file) => appendFileSync(file, 'more'), says: 'changed' },
  { what: 'shrinks', change: (file) => truncateSync(file, 10), says: 'changed' },
  { what: 'becomes empty', change: (file) => truncateSync(file, 0), says: 'changed' },
  {
    what: 'is overwritten in the same size',
    change: (file) => writeFileSync(file, randomBytes(200_000, 9)),
    says: 'changed',
  },
  { what: 'vanishes', change: (file) => rmSync(file), says: 'vanished' },
  {
    what: 'is replaced by another file',
    change: (file) => {
      writeFileSync(`${file}.new`, 'another')
      renameSync(`${file}.new`, file)
    },
    says: 'changed',
  },
  {
    what: 'becomes a symlink to a file outside',
    change: (file) => {
      writeFileSync(join(file, '../../outside'), OUTSIDE)
      rmSync(file)
      symlinkSync('../outside', file)
    },
    says: 'vanished',
  },
  {
    what: 'becomes a FIFO',
    change: (file) => {
      rmSync(file)
      execFileSync('mkfifo', [file])
    },
    says: 'changed',
  },
  {
    what: 'becomes a directory',
    change: (file) => {
      rmSync(file)
      mkdirSync(file)
    },
    says: 'changed',
  },
]

for (const version of VERSIONS) {
  for (const { what, change, says } of CHANGES) {
    test(`rsync ${version}: a file that ${what} before it is sent is reported, and the rest arrives`, async (t) => {
      const { daemon, root, push } = await scene(t, version)
      writeFileSync(join(root, 'file'), randomBytes(200_000, 1))
      writeFileSync(join(root, 'z'), 'the rest')
      const report = await push(() => change(join(root, 'file')))
      if (says === 'changed') assert.deepEqual(report.changed, ['file'])
      else {
        assert.deepEqual(
          report.failed.map(({ path, vanished }) => ({ path, vanished })),
          [{ path: 'file', vanished: true }],
        )
      }
      assert.equal(readFileSync(join(daemon.module, 'z'), 'latin1'), 'the rest')
      assert.ok(!JSON.stringify(describeTree(daemon.module)).includes(OUTSIDE))
      assert.ok(
        !existsSync(join(daemon.module, 'file')) ||
          !readFileSync(join(daemon.module, 'file'), 'latin1').includes(OUTSIDE),
      )
    })
  }
}

test('a file that is appended to without pause while it is sent arrives as it was at some time', async (t) => {
  const { daemon, root, push } = await scene(t, 'stock')
  for (let round = 0; round < 5; round++) {
    const file = join(root, 'file')
    writeFileSync(file, randomBytes(3_000_000, round))
    const timer = setInterval(() => appendFileSync(file, 'x'), 0)
    await push()
    clearInterval(timer)
    const arrived = readFileSync(join(daemon.module, 'file'))
    assert.ok(arrived.length >= 3_000_000)
    assert.ok(arrived.equals(readFileSync(file).subarray(0, arrived.length)))
  }
})

test('a file or directory that may not be read is reported, and the rest arrives', async (t) => {
  const { daemon, root, push } = await scene(t, 'stock')
  for (const path of ['file', 'secret', 'z']) writeFileSync(join(root, path), path)
  chmodSync(join(root, 'secret'), 0)
  // Without the capability to read everything root is like anybody else.
  const report = await withoutPrivilege(root, () => push())
  assert.deepEqual(
    report.failed.map(({ path, vanished }) => ({ path, vanished })),
    [{ path: 'secret', vanished: false }],
  )
  assert.match(report.failed[0].message, /Permission denied/)
  assert.equal(readFileSync(join(daemon.module, 'z'), 'latin1'), 'z')
})

/** Files of `root` as another user sees them, while `work` runs. */
async function withoutPrivilege<T>(root: string, work: () => Promise<T>): Promise<T> {
  execFileSync('chown', ['-R', '65534:65534', root])
  chmodSync(join(root, '..'), 0o755)
  process.seteuid!(65534)
  try {
    return await work()
  } finally {
    process.seteuid!(0)
  }
}

test('what a deferred file holds does not travel, and the receiver keeps what it has', async (t) => {
  for (const version of VERSIONS) {
    const { daemon, root, push } = await scene(t, version)
    for (const path of ['file', 'z']) writeFileSync(join(root, path), `new ${path}`)
    writeFileSync(join(daemon.module, 'file'), 'old')
    const report = await push(undefined, { defer: ({ path }) => path === 'file' })
    assert.deepEqual(report.deferred, ['file'])
    assert.equal(readFileSync(join(daemon.module, 'file'), 'latin1'), 'old')
    assert.equal(readFileSync(join(daemon.module, 'z'), 'latin1'), 'new z')
  }
})

test('what the receiver cannot write is reported in its own words, and the rest arrives', async (t) => {
  for (const version of VERSIONS) {
    const daemon = await StockDaemon.start(t, version, { uid: 65534, gid: 65534 })
    chmodSync(daemon.module, 0o777)
    mkdirSync(join(daemon.module, 'dir'), { mode: 0o755 }) // root's, where the daemon is nobody
    const root = join(temporaryDirectory(t), 'src')
    mkdirSync(join(root, 'dir'), { recursive: true })
    for (const path of ['dir/file', 'z']) writeFileSync(join(root, path), path)
    const source = openTree(t, root)
    const session = await openSession(daemon)
    const report = await session.transfer({ source, entries: listAll(source) })
    assert.match(report.errors.join('\n'), /dir\/\.?file.*Permission denied/)
    assert.deepEqual(report.failed, [])
    assert.ok(!existsSync(join(daemon.module, 'dir/file')))
    assert.equal(readFileSync(join(daemon.module, 'z'), 'latin1'), 'z')
  }
})

test('cancelling ends a transfer at once, and a time-out ends one whose peer is silent', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock')
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), randomBytes(20_000_000, 1))
  const source = openTree(t, root)
  const session = await openSession(daemon)
  const abort = new AbortController()
  const transfer = session.transfer({
    source,
    entries: listAll(source),
    signal: abort.signal,
    onItem: () => abort.abort(),
  })
  await assert.rejects(transfer, ConnectError)
  assert.ok(!session.alive)
  const aborted = await openSession(daemon)
  await assert.rejects(
    aborted.transfer({ source, entries: listAll(source), signal: AbortSignal.abort() }),
    ConnectError,
  )

  const silent = await fakeServer(t, () => undefined)
  const startMs = performance.now()
  await assert.rejects(Session.open(sessionOptions(silent, '', { timeoutMs: 300 })), TimeoutError)
  assert.ok(performance.now() - startMs < 1500)
  const cancelled = Session.open(sessionOptions(silent), AbortSignal.timeout(100))
  await assert.rejects(cancelled, ConnectError)
})

test('a receiver that stops reading ends in a time-out, not in a hang', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock')
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), randomBytes(30_000_000, 1))
  const source = openTree(t, root)
  const session = await openSession(daemon, '', { timeoutMs: 1000 })
  const pids = execFileSync('pgrep', ['-g', `${processGroup(daemon.port)}`], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map(Number)
  const onItem = () => {
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
  }
  const startMs = performance.now()
  await assert.rejects(session.transfer({ source, entries: listAll(source), onItem }), TimeoutError)
  assert.ok(performance.now() - startMs < 4000)
})

const processGroup = (port: number) => {
  const out = execFileSync('pgrep', ['-f', '-x', `rsync --daemon --no-detach --port=${port} .*`], { encoding: 'utf8' })
  return Number(out.trim().split('\n')[0])
}

test('each refusal of a daemon says what it is, and whether trying again can help', async (t) => {
  const refusal = async (open: Promise<Session>, reason: RemoteError['reason'], permanent: boolean, why: RegExp) => {
    await assert.rejects(
      open.then((session) => session.refusal().finally(() => session.destroy())),
      (error) => {
        assert.ok(error instanceof RemoteError, String(error))
        assert.equal(error.reason, reason)
        assert.equal(error.permanent, permanent)
        return why.test(error.message)
      },
    )
  }
  for (const version of VERSIONS) {
    const open = async (parameters: Record<string, string | number>, more = {}) =>
      openSession(await StockDaemon.start(t, version, parameters), '', more)
    await refusal(open({ 'read only': 'yes' }), 'read-only', true, /read only/)
    await refusal(open({ 'hosts deny': '*' }), 'denied', true, /access denied/)
    await refusal(open({ 'refuse options': 'delete' }, { delete: true }), 'refused', true, /delete/)
    const daemon = await StockDaemon.start(t, version)
    const unknown = {
      ...sessionOptions(daemon.port),
      remote: { host: '127.0.0.1', port: daemon.port, module: 'nosuch', path: '' },
    }
    await refusal(Session.open(unknown), 'unknown-module', true, /nosuch/)
  }
})

test('a module whose connections are all taken refuses the next, and takes it when one is given back', async (t) => {
  for (const version of VERSIONS) {
    const daemon = await StockDaemon.start(t, version, { 'max connections': 2 })
    const source = openTree(t, daemon.home)
    const [first, second] = await Promise.all([openSession(daemon), openSession(daemon)])
    await assert.rejects(
      openSession(daemon),
      (error) => error instanceof RemoteError && error.reason === 'max-connections' && !error.permanent,
    )
    await first.close(source)
    const third = await retry(() => openSession(daemon)) // the daemon's process takes a moment to end
    await Promise.all([second.close(source), third.close(source)])
    assert.doesNotMatch(daemon.log(), /error/i)
  }
})

async function retry<T>(attempt: () => Promise<T>, tries = 50): Promise<T> {
  try {
    return await attempt()
  } catch (error) {
    if (tries === 0) throw error
    await sleep(100)
    return retry(attempt, tries - 1)
  }
}

test('nobody listening, and a listener that is no rsync daemon, are told apart', async (t) => {
  await assert.rejects(
    Session.open(sessionOptions(await freePort())),
    (error) => error instanceof ConnectError && /Connection refused/.test(error.message),
  )
  const http = await fakeServer(t, (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await assert.rejects(Session.open(sessionOptions(http)), /is this an rsync daemon\?/)
  const old = await fakeServer(t, (socket) => socket.write('@RSYNCD: 29\n'))
  await assert.rejects(
    Session.open(sessionOptions(old)),
    (error) => error instanceof RemoteError && error.reason === 'refused',
  )
})

test('the message of the day is handed out line by line', async (t) => {
  const home = temporaryDirectory(t)
  writeFileSync(join(home, 'motd'), 'welcome\n\nto \x1b[31mthis\n')
  const daemon = await StockDaemon.start(t, 'stock', { 'motd file': join(home, 'motd') })
  const lines: string[] = []
  const session = await openSession(daemon, '', { motd: (line) => lines.push(line) })
  session.destroy()
  assert.deepEqual(
    lines.filter((line) => line !== ''),
    ['welcome', 'to \\#033[31mthis'],
  )
})
