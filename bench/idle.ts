import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { atMost, type Benchmark, beside } from './figure.js'
import { Daemon, Syncline, sleep } from './support.js'

const DIRECTORIES = 1000
const FILES_EACH = 100
const SECONDS = 30
const TICKS_PER_SECOND = 100 // USER_HZ, the same on every Linux that Node runs on

/** What it takes to do nothing with 100,000 files below the source. */
export const idle: Benchmark = async (stage, tell) => {
  const [source, module] = [stage.dir('source'), stage.dir('module')]
  tell(`${DIRECTORIES * FILES_EACH} files`)
  for (let d = 0; d < DIRECTORIES; d++) {
    mkdirSync(`${source}/directory-${d}`)
    for (let f = 0; f < FILES_EACH; f++) writeFileSync(`${source}/directory-${d}/file-${f}`, `${f}`)
  }
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  tell('the first full sync')
  const began = performance.now()
  const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
  await syncline.mirroring(300_000)
  const fullSyncSeconds = (performance.now() - began) / 1000
  await sleep(5000)
  tell(`idle for ${SECONDS} s`)
  const before = cpuSeconds(syncline.pid)
  await sleep(SECONDS * 1000)
  const share = (100 * (cpuSeconds(syncline.pid) - before)) / SECONDS
  return [
    atMost('idle, 100,000 files: CPU', share, 0.2, '% of a core'),
    atMost('idle, 100,000 files: resident', residentBytes(syncline.pid) / 1e6, 90, 'MB'),
    beside('the first full sync of 100,000 files', fullSyncSeconds, 's'),
  ]
}

function cpuSeconds(pid: number): number {
  // The second field is the program's name in parentheses and may contain anything.
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ')
  const [utime, stime] = [Number(fields[11]), Number(fields[12])]
  return (utime + stime) / TICKS_PER_SECOND
}

function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
}
