// `npm start` without arguments: our own daemon on loopback, a temporary source, changes made and arriving.
import { type ChildProcess, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const ARRIVES_WITHIN_MS = 10_000
const STARTS_WITHIN_MS = 10_000
const MAIN = fileURLToPath(new URL('./main.cjs', import.meta.url))

const root = mkdtempSync(join(tmpdir(), 'syncline-demo-'))
const source = join(root, 'source')
const backup = join(root, 'backup')
const running: ChildProcess[] = []

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

function start(args: string[], stdout: 'ignore' | 'pipe'): ChildProcess {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', stdout, 'inherit'] })
  child.once('error', (error) => {
    console.error(`syncline: cannot run ${process.execPath}: ${error.message}`)
    void end(1)
  })
  child.once('exit', () => void end(1))
  running.push(child)
  return child
}

async function startDaemon(): Promise<number> {
  const port = await freePort()
  const ids = process.getuid?.() === 0 ? 'uid = root\ngid = root\n' : ''
  const config = join(root, 'rsyncd.conf')
  const module = `[backup]\npath = ${backup}\nread only = no\nuse chroot = no\nmunge symlinks = no\n`
  writeFileSync(config, `${ids}port = ${port}\naddress = 127.0.0.1\nlog file = ${join(root, 'rsyncd.log')}\n${module}`)
  console.log(`$ syncline daemon --no-detach --config=${config}`)
  start(['daemon', '--no-detach', `--config=${config}`], 'ignore')
  const startMs = performance.now()
  while (!(await greets(port))) {
    if (performance.now() - startMs > STARTS_WITHIN_MS)
      throw new Error(`the daemon does not answer after ${STARTS_WITHIN_MS / 1000} s`)
    await sleep(20)
  }
  return port
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('data', () => socket.destroy())
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(socket.bytesRead > 0))
  })
}

async function startMirror(port: number): Promise<void> {
  const destination = `rsync://127.0.0.1:${port}/backup`
  console.log(`$ syncline ${source} ${destination}`)
  const child = start(['-q', `--state-dir=${join(root, 'state')}`, source, destination], 'pipe')
  await new Promise<void>((resolve) => {
    child.stdout?.on('data', (line: Buffer) => {
      process.stdout.write(line)
      if (line.includes('mirroring')) resolve()
    })
  })
}

/** Makes a change and says how long it took to arrive. */
async function show(what: string, change: () => void, arrived: () => boolean): Promise<void> {
  change()
  const startMs = performance.now()
  while (!arrived()) {
    if (performance.now() - startMs > ARRIVES_WITHIN_MS)
      throw new Error(`${what}: not there after ${ARRIVES_WITHIN_MS / 1000} s`)
    await sleep(0.2)
  }
  console.log(`  ${what.padEnd(42)} there after ${(performance.now() - startMs).toFixed(1)} ms`)
}

async function demonstrate(): Promise<void> {
  mkdirSync(join(source, 'documents'), { recursive: true })
  mkdirSync(backup)
  writeFileSync(join(source, 'documents/before.txt'), 'this was here before\n')
  console.log(`A source and a backup in ${root}, and our own rsync daemon in front of the backup.`)
  await startMirror(await startDaemon())
  const at = (path: string) => join(backup, path)
  const holds = (path: string, text: string) => existsSync(at(path)) && readFileSync(at(path), 'utf8') === text
  await show(
    'a file is written',
    () => writeFileSync(join(source, 'hello.txt'), 'hello'),
    () => holds('hello.txt', 'hello'),
  )
  await show(
    'it is written again',
    () => writeFileSync(join(source, 'hello.txt'), 'hello again'),
    () => holds('hello.txt', 'hello again'),
  )
  const odd = '$(reboot) `;" --delete *'
  await show(
    `a file is called ${odd}`,
    () => writeFileSync(join(source, odd), 'x'),
    () => holds(odd, 'x'),
  )
  await show(
    'a symlink is made',
    () => symlinkSync('hello.txt', join(source, 'link')),
    () => existsSync(at('link')),
  )
  const many = () => {
    const outside = join(root, 'many')
    mkdirSync(outside)
    for (let i = 0; i < 1000; i++) writeFileSync(join(outside, `${i}`), `file ${i}`)
    renameSync(outside, join(source, 'many'))
  }
  const made = () => statSync(join(source, 'many')).mtimeMs
  await show(
    'a directory of 1,000 files is moved in',
    many,
    () => existsSync(at('many/999')) && Math.abs(statSync(at('many')).mtimeMs - made()) < 1,
  )
  await show(
    'a directory is renamed',
    () => renameSync(join(source, 'documents'), join(source, 'papers')),
    () => existsSync(at('papers/before.txt')) && !existsSync(at('documents')),
  )
  await show(
    'all of it is deleted',
    () => rmSync(join(source, 'many'), { recursive: true }),
    () => !existsSync(at('many')),
  )
  console.log('\nTo mirror a directory of yours: npm start -- SRC DEST   (npm start -- --help tells the rest)')
}

async function end(code: number): Promise<never> {
  for (const child of running.reverse()) {
    child.removeAllListeners('exit')
    if (child.exitCode !== null || child.pid === undefined) continue
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await gone
  }
  rmSync(root, { recursive: true, force: true })
  process.exit(code)
}

process.on('SIGINT', () => void end(130))
process.on('SIGTERM', () => void end(143))
try {
  await demonstrate()
  await end(0)
} catch (error) {
  console.error(`syncline: ${(error as Error).message}`)
  await end(1)
}
