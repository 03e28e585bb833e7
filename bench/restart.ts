import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { atMost, type Benchmark, beside } from './figure.js'
import { Daemon, Syncline, sleep, TcpProxy, urlOf } from './support.js'

const DIRECTORIES = 2000
const FILES_EACH = 100
/** The snapshot is written when nothing is owed. */
const SNAPSHOT_MS = 60_000

/** 200,000 files that did not change while the program was away: how soon changes flow, and what the target is asked. */
export const restart: Benchmark = async (stage, tell) => {
  const [source, module, state] = [stage.dir('source'), stage.dir('module'), stage.dir('state')]
  tell(`${DIRECTORIES * FILES_EACH} files`)
  for (let d = 0; d < DIRECTORIES; d++) {
    mkdirSync(`${source}/directory-${d}`)
    for (let f = 0; f < FILES_EACH; f++) writeFileSync(`${source}/directory-${d}/file-${f}`, `${f}`)
  }
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const proxy = await TcpProxy.start(stage, daemon.port)
  const url = urlOf(proxy.port, 'm')
  tell('the first full sync')
  const first = await Syncline.start(stage, source, url, { early: true, stateDir: state })
  await first.mirroring(300_000)
  await sleep(SNAPSHOT_MS)
  await first.stop()
  tell('restart')
  const before = proxy.bytes.down
  const began = performance.now()
  const second = await Syncline.start(stage, source, url, { early: true, stateDir: state })
  await second.mirroring(300_000)
  writeFileSync(`${source}/directory-1/changed`, 'x')
  while (!existsSync(`${module}/directory-1/changed`)) await sleep(1)
  const ms = performance.now() - began
  return [
    atMost('restart, 200,000 unchanged files: a change is there after', ms, 3000, 'ms'),
    atMost('restart: bytes from the target, for all it was asked', proxy.bytes.down - before, 50_000, 'bytes'),
    beside('of that, files that it could have listed', DIRECTORIES * FILES_EACH, 'files'),
  ]
}
