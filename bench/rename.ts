import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { content, Daemon, differences, type Stage, Syncline, sleep, TcpProxy, urlOf } from './support.js'

const FILES = 10_000
const BYTES_EACH = 100_000
const ROUNDS = 3
const PATIENCE_MS = 120_000

/** A directory of 10,000 files and 1 GB is renamed: the time until it is so at the target, and the bytes that it took. */
export const rename: Benchmark = async (stage, tell) => {
  const [source, module] = [stage.dir('source'), stage.dir('module')]
  const [itsSource, itsModule] = [stage.dir('lsyncd-source'), stage.dir('lsyncd-module')]
  tell(`${FILES} files, ${(FILES * BYTES_EACH) / 1e9} GB, twice`)
  for (const one of [source, itsSource]) {
    mkdirSync(`${one}/name-0`)
    for (let i = 0; i < FILES; i++) writeFileSync(`${one}/name-0/file-${i}`, content(BYTES_EACH, i))
  }
  const daemon = await Daemon.start(stage, { modules: { m: module, its: itsModule } })
  const proxy = await TcpProxy.start(stage, daemon.port)
  const bytes = () => proxy.bytes.up + proxy.bytes.down
  const measured = { ms: [] as number[], bytes: [] as number[] }
  const its = { ms: [] as number[], bytes: [] as number[] }

  const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
  await syncline.equal(source, module, { patienceMs: PATIENCE_MS })
  for (let round = 0; round < ROUNDS; round++) {
    tell(`round ${round + 1} of ${ROUNDS}`)
    await sleep(2_000)
    const before = bytes()
    measured.ms.push(await renamedMs(source, module, round))
    await syncline.equal(source, module, { patienceMs: PATIENCE_MS })
    measured.bytes.push(bytes() - before)
  }
  const found = differences(source, module)
  if (found.length > 0) throw new Error(found.join('\n'))
  await syncline.stop()

  tell('lsyncd, on the same work')
  await lsyncd(stage, itsSource, urlOf(proxy.port, 'its'))
  await until('lsyncd has copied everything', () => count(`${itsModule}/name-0`) === FILES)
  await sleep(5_000)
  const before = bytes()
  its.ms.push(await renamedMs(itsSource, itsModule, 0))
  await sleep(2_000)
  its.bytes.push(bytes() - before)
  return [
    atMost('10,000 files, 1 GB renamed: median', median(measured.ms), 1000, 'ms'),
    atMost('10,000 files, 1 GB renamed: on the wire', median(measured.bytes), 2_000_000, 'bytes'),
    beside('lsyncd on the same: once', median(its.ms), 'ms'),
    beside('lsyncd on the same: on the wire', median(its.bytes), 'bytes'),
  ]
}

/** Until all files have the new name at the destination, and the old directory is gone. */
async function renamedMs(source: string, module: string, round: number): Promise<number> {
  const [from, to] = [`name-${round}`, `name-${round + 1}`]
  const began = performance.now()
  renameSync(`${source}/${from}`, `${source}/${to}`)
  await until(`${to} is there`, () => count(`${module}/${to}`) === FILES && !existsSync(`${module}/${from}`))
  return performance.now() - began
}

const count = (dir: string) => (existsSync(dir) && statSync(dir).nlink > 0 ? readdirSync(dir).length : 0)

async function until(what: string, done: () => boolean): Promise<void> {
  const began = performance.now()
  while (!done()) {
    if (performance.now() - began > PATIENCE_MS) throw new Error(`after ${PATIENCE_MS / 1000} s still not: ${what}`)
    await sleep(5)
  }
}

async function lsyncd(stage: Stage, source: string, target: string): Promise<void> {
  const config = stage.path('lsyncd.lua')
  writeFileSync(
    config,
    `settings { nodaemon = true }\nsync { default.rsync, source = "${source}", target = "${target}", delay = 0 }\n`,
  )
  const child = spawn('lsyncd', ['-nodaemon', config], { stdio: 'ignore' })
  stage.defer(async () => {
    if (child.exitCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
}
