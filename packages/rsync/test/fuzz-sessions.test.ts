// Whole sessions of stock rsync with one side's bytes mutilated, played to our daemon, to our client and to our
// `--server`: each ends in time, nobody else is disturbed, memory is bounded, nothing outside is touched.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { OurDaemon, ourClient, ourCommand, rssOf } from './hostile-peer.js'
import { Chance, FUZZ, mutate, seedOf } from './mutate.js'
import { describeTree, randomBytes, repeat, temporaryDirectory } from './stage.js'
import { fakeServer, StockDaemon, tap } from './stock.js'

const SESSIONS = Math.ceil(FUZZ / 100)
const AT_ONCE = 8
/** Longer than any session that the time-out of its arguments ends. */
const LATE_MS = 20_000
const WORKER_MEMORY_MAX = 512 << 20
/** Each is recorded once; those of a client that sends are pushes. */
const PUSHES = [
  ['-rlpt'],
  ['-rlptgoD', '--numeric-ids', '--delete'],
  ['-aHAX', '--delete-after', '--protocol=31'],
  ['-az', '--no-whole-file', '--delete-excluded', '--exclude=*.x', '--filter=: .rules'],
  ['-ac', '--inplace', '--no-whole-file', '--protocol=30'],
  ['-aR', '--backup', '--backup-dir=old', '--delete-missing-args'],
  ['-a', '--partial-dir=.part', '--delay-updates', '--no-whole-file'],
  ['-aHX', '--no-inc-recursive', '--link-dest=d', '--fake-super'],
]
const PULLS = [
  ['-rlpt'],
  ['-aHAX'],
  ['-az', '--no-whole-file', '--exclude=*.x', '--filter=- /d/f2'],
  ['-ac', '--protocol=30', '--no-inc-recursive'],
  ['-aR', '--numeric-ids', '--delete'],
  ['-rL', '--list-only'],
]
const COMMON = ['--timeout=5', '--checksum-seed=7']

function plant(dir: string): void {
  mkdirSync(join(dir, 'd/deep/er'), { recursive: true })
  for (let i = 0; i < 5; i++) writeFileSync(join(dir, `d/f${i}`), repeat(`text ${i} `, 500 * i))
  writeFileSync(join(dir, 'd/deep/er/leaf.x'), 'leaf')
  writeFileSync(join(dir, 'large'), randomBytes(60_000, 7))
  writeFileSync(join(dir, '.rules'), '- secret\n')
  symlinkSync('large', join(dir, 'link'))
  symlinkSync('d', join(dir, 'dirlink'))
  execFileSync('ln', [join(dir, 'large'), join(dir, 'd/hard')])
  execFileSync('setfattr', ['-n', 'user.long', '-v', 'v'.repeat(100), join(dir, 'd/f1')])
  execFileSync('setfacl', ['-m', 'u:1234:rwx', join(dir, 'd/f2')])
  utimesSync(join(dir, 'd'), 1e9, 1e9)
}

/** What is in the module, or the destination, before each session: partly the same, so that blocks match. */
function plantOld(dir: string): void {
  mkdirSync(dir, { recursive: true })
  // A session whose connection is gone may still finish what it was about.
  const again = { maxRetries: 10, retryDelay: 50 }
  for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true, force: true, ...again })
  mkdirSync(join(dir, 'd/gone'), { recursive: true })
  writeFileSync(join(dir, 'd/gone/file'), 'x')
  writeFileSync(join(dir, 'd/f2'), 'old')
  writeFileSync(join(dir, 'large'), Buffer.concat([randomBytes(60_000, 7).subarray(0, 40_000), randomBytes(9000, 8)]))
}

interface Recording {
  options: string[]
  fromClient: Buffer
  fromServer: Buffer
}

async function record(t: TestContext, pushes: boolean, all: string[][]): Promise<Recording[]> {
  const daemon = await StockDaemon.start(t, 'stock', { 'use chroot': 'no' })
  const home = temporaryDirectory(t)
  plant(join(home, 'src'))
  const recordings: Recording[] = []
  for (const options of all) {
    const { port, conversations } = await tap(t, daemon.port)
    const url = `rsync://127.0.0.1:${port}/m/`
    plantOld(pushes ? daemon.module : join(home, 'dest'))
    if (!pushes) {
      rmSync(daemon.module, { recursive: true, force: true })
      cpSync(join(home, 'src'), daemon.module, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true })
    }
    await rsync([...options, ...COMMON, ...(pushes ? [`${home}/src/`, url] : [url, join(home, 'dest')])])
    const [{ fromClient, fromServer }] = conversations
    assert.ok(fromClient.length > 100 && fromServer.length > 100, `${options}: nothing was recorded`)
    recordings.push({ options, fromClient, fromServer })
  }
  return recordings
}

function rsync(args: string[]): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    const child = spawn('rsync', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (text += bytes))
    child.once('close', (code) => resolve({ code: code ?? -1, text }))
  })
}

/** Plays a client to `port`. True when the daemon has closed in time. */
async function play(port: number, bytes: Buffer, ends: boolean): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  const closed = new Promise<boolean>((resolve) => socket.on('close', () => resolve(true)))
  socket.resume()
  if (ends) socket.end(bytes)
  else socket.write(bytes)
  const outcome = await Promise.race([closed, sleep(LATE_MS, false, { ref: false })])
  socket.destroy()
  return outcome
}

test('mutilated clients: our daemon ends each session, and serves everybody else all the time', async (t) => {
  const chance = new Chance(seedOf('clients to our daemon'))
  const recordings = [...(await record(t, true, PUSHES)), ...(await record(t, false, PULLS))]
  const daemon = await OurDaemon.start(t)
  writeFileSync(join(daemon.outside, 'canary'), 'canary')
  const before = describeTree(daemon.outside)
  const tree = () => {
    plantOld(daemon.module)
    cpSync(join(daemon.home, 'planted'), join(daemon.module, 'planted'), { recursive: true, verbatimSymlinks: true })
  }
  plant(join(daemon.home, 'planted'))
  tree()
  let most = 0
  const workers = () => daemon.processes().filter(({ worker }) => worker)
  const bystander = () => rsync(['-r', '--timeout=10', `${daemon.url}planted/d/f1`, join(temporaryDirectory(t), 'x')])
  assert.deepEqual((await bystander()).code, 0)
  const known = new Set(workers().map(({ pid }) => pid))
  for (let i = 0; i < SESSIONS; i += AT_ONCE) {
    if (i % (AT_ONCE * 8) === 0) tree()
    const streams = Array.from({ length: AT_ONCE }, () => {
      const { fromClient, options } = chance.pick(recordings)
      // Who stays must have given his time-out: until then the daemon waits for a minute.
      const ends = chance.below(30) > 0
      const from = ends ? chance.pick([0, 60, 100, 200]) : fromClient.indexOf('\0\0') + 2
      return { bytes: mutate(fromClient, chance, from), options, ends }
    })
    const late = await Promise.all(streams.map(({ bytes, ends }) => play(daemon.port, bytes, ends)))
    for (const [j, ended] of late.entries())
      assert.ok(ended, `a session never ended: ${streams[j].options} ${streams[j].bytes.toString('base64')}`)
    const now = workers()
    most = Math.max(most, ...now.map(({ rssBytes }) => rssBytes))
    for (const { pid } of now) known.add(pid)
    const alive = new Set(now.map(({ pid }) => pid))
    for (const pid of known)
      assert.ok(
        alive.has(pid),
        `worker ${pid} died of one of ${streams.map(({ bytes, options }) => `\n${options} ${bytes.toString('base64')}`)}`,
      )
  }
  await sleep(500) // until sessions that ended here have ended there
  tree()
  const last = await bystander()
  assert.deepEqual(last.code, 0, last.text)
  assert.deepEqual(describeTree(daemon.outside), before)
  assert.ok(most < WORKER_MEMORY_MAX, `a worker took ${most >> 20} MiB`)
  assert.doesNotMatch(daemon.log(), /internal error|TypeError|RangeError|Cannot read prop|is not a function/)
})

/** Exit codes that rsync has. */
const CODES = new Set([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 20, 22, 23, 24, 25, 30, 35])

test('mutilated servers: our client ends with a code of rsync, and touches only its destination', async (t) => {
  const chance = new Chance(seedOf('servers to our client'))
  const recordings = [
    ...(await record(t, true, PUSHES)).map((recording) => ({ ...recording, push: true })),
    ...(await record(t, false, PULLS)).map((recording) => ({ ...recording, push: false })),
  ]
  const home = temporaryDirectory(t)
  plant(join(home, 'src'))
  mkdirSync(join(home, 'outside'))
  writeFileSync(join(home, 'outside/canary'), 'canary')
  const before = describeTree(join(home, 'src'))
  const canary = describeTree(join(home, 'outside'))
  const memory = process.memoryUsage().rss
  const streams: Buffer[] = []
  const port = await fakeServer(t, (socket) => {
    socket.end(streams.shift() ?? Buffer.alloc(0))
    socket.resume()
  })
  const codes = new Map<number, number>()
  for (let i = 0; i < SESSIONS; i++) {
    const { options, push, fromServer } = chance.pick(recordings)
    const bytes = mutate(fromServer, chance, chance.pick([0, 40, 50, 80]))
    streams.push(bytes)
    if (i % 16 === 0) plantOld(join(home, 'dest'))
    const url = `rsync://127.0.0.1:${port}/m/`
    const args = [...options, ...COMMON, ...(push ? [`${home}/src/`, url] : [url, join(home, 'dest')])]
    const replay = `${args.join(' ')} ${bytes.toString('base64')}`
    const { code, text } = await ourClient(args, LATE_MS).catch((error) => assert.fail(`${error.stack}\n${replay}`))
    assert.doesNotMatch(text, /^HUNG/, replay)
    assert.ok(
      CODES.has(code) || text.includes('unexplained error') || /gave up with code/.test(text),
      `${code} ${text}`,
    )
    codes.set(code, (codes.get(code) ?? 0) + 1)
  }
  assert.deepEqual(describeTree(join(home, 'src')), before)
  assert.deepEqual(describeTree(join(home, 'outside')), canary)
  assert.ok(process.memoryUsage().rss - memory < WORKER_MEMORY_MAX)
  assert.ok((codes.get(2) ?? 0) > SESSIONS / 20, `${[...codes]}`)
})

test('mutilated clients over a remote shell: our --server ends, in time and in bounded memory', async (t) => {
  const chance = new Chance(seedOf('clients to our --server'))
  const home = temporaryDirectory(t)
  plant(join(home, 'src'))
  const serverArgs = { push: ['--server', '-logDtpre.LsfxCIvu'], pull: ['--server', '--sender', '-logDtpre.LsfxCIvu'] }
  const recordings: { bytes: Buffer; args: string[] }[] = []
  for (const [kind, args] of Object.entries(serverArgs)) {
    plantOld(join(home, 'dest'))
    const all = [...args, '--timeout=5', '.', kind === 'push' ? `${home}/dest/` : `${home}/src/`]
    const paths = kind === 'push' ? [`${home}/src/`, 'h:'] : ['h:', join(home, 'dest')]
    recordings.push({ bytes: await recordShell(t, all, paths), args: all })
  }
  let most = 0
  for (let i = 0; i < Math.ceil(SESSIONS / 15); i++) {
    const { bytes, args } = chance.pick(recordings)
    const mutated = mutate(bytes, chance)
    const [program, words] = ourCommand(args)
    const child = spawn(program, words, { stdio: ['pipe', 'ignore', 'pipe'] })
    let text = ''
    child.stderr.on('data', (more) => (text += more))
    child.stdin.on('error', () => undefined)
    child.stdin.end(mutated)
    const watch = setInterval(() => (most = Math.max(most, rssOf(child.pid ?? 0))), 20)
    const timer = setTimeout(() => child.kill('SIGKILL'), LATE_MS)
    const [code] = await once(child, 'exit')
    clearTimeout(timer)
    clearInterval(watch)
    assert.ok(CODES.has(code), `${code} ${text}\n${args.join(' ')} ${mutated.toString('base64')}`)
    assert.doesNotMatch(text, /^\s+at /m, text)
  }
  assert.ok(most < WORKER_MEMORY_MAX, `${most >> 20} MiB`)
})

/** Runs as a program of its own: the remote shell of a stock client. */
const recordingShell = `([file, args]) => {
  const child = require('node:child_process').spawn('rsync', args, { stdio: ['pipe', 'inherit', 'inherit'] })
  process.stdin.on('data', (bytes) => {
    require('node:fs').appendFileSync(file, bytes)
    child.stdin.write(bytes)
  })
  child.stdin.on('error', () => undefined)
  child.on('exit', () => process.exit(0))
}`

/** What a stock client sends to a stock server with these arguments. */
async function recordShell(t: TestContext, serverArgs: string[], paths: string[]): Promise<Buffer> {
  const file = join(temporaryDirectory(t), 'sent')
  const shell = join(temporaryDirectory(t), 'shell.cjs')
  writeFileSync(shell, `#!${process.execPath}\n(${recordingShell})(${JSON.stringify([file, serverArgs])})`, {
    mode: 0o755,
  })
  const { text } = await rsync(['-rlptgoD', '--no-inc-recursive', '--timeout=5', '-e', shell, ...paths])
  assert.ok(existsSync(file), text)
  const bytes = readFileSync(file)
  assert.ok(bytes.length > 50, text)
  return bytes
}
