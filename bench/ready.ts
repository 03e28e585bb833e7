import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { elapsedMs } from './arrival.js'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { scratch } from './peers.js'
import { sleep } from './support.js'

const ROUNDS = 5
const TIMEOUT_MS = 120_000
const SIZES = {
  'watch/100k': { directories: 100_000, files: 200_000, fanotifyS: 0.15, fanotifyMb: 60, inotifyS: 0.5, inotifyMb: 60 },
  'watch/1m': { directories: 1_000_000, files: 0, fanotifyS: 0.15, fanotifyMb: 60, inotifyS: 4, inotifyMb: 160 },
} as const

/** From the start of a process until it watches everything, and what it holds then; caches are warm. */
function ready(name: keyof typeof SIZES): Benchmark {
  const { directories, files, ...goals } = SIZES[name]
  return async (stage, tell) => {
    const root = `${scratch(stage)}/tree`
    tell(`${directories} directories and ${files} files are made`)
    makeTree(root, directories, files)
    const took: Record<'fanotify' | 'inotify' | 'inotifywait', Ready[]> = { fanotify: [], inotify: [], inotifywait: [] }
    for (let round = 0; round < ROUNDS; round++) {
      tell(`round ${round + 1} of ${ROUNDS}`)
      for (const backend of ['fanotify', 'inotify'] as const) took[backend].push(await ours(root, backend))
      took.inotifywait.push(await readyWhen('inotifywait', ['-m', '-r', root], 'Watches established.'))
    }
    const seconds = (of: Ready[]) => median(of.map(({ ms }) => ms)) / 1000
    const megabytes = (of: Ready[]) => median(of.map(({ rssMb }) => rssMb))
    const ratio = seconds(took.inotify) / seconds(took.inotifywait)
    return [
      atMost(`${name}, fanotify: ready`, seconds(took.fanotify), goals.fanotifyS, 's'),
      atMost(`${name}, fanotify: resident`, megabytes(took.fanotify), goals.fanotifyMb, 'MB'),
      atMost(`${name}, inotify: ready`, seconds(took.inotify), goals.inotifyS, 's'),
      name === 'watch/1m'
        ? atMost(`${name}, inotify: resident`, megabytes(took.inotify), goals.inotifyMb, 'MB')
        : beside(`${name}, inotify: resident`, megabytes(took.inotify), 'MB'),
      beside(`${name}, inotifywait -m -r: ready`, seconds(took.inotifywait), 's'),
      beside(`${name}, inotifywait -m -r: resident`, megabytes(took.inotifywait), 'MB'),
      atMost(`${name}, inotify: share of the time of inotifywait`, ratio, 0.5, '×'),
    ]
  }
}

export const watch = { 'watch/100k': ready('watch/100k'), 'watch/1m': ready('watch/1m') } satisfies Record<
  string,
  Benchmark
>

interface Ready {
  ms: number
  rssMb: number
}

const ours = (root: string, backend: string) =>
  readyWhen(process.execPath, [fileURLToPath(new URL('watcher.js', import.meta.url)), root, backend], 'ready')

/** Runs a program until it has said `word`. */
async function readyWhen(program: string, args: string[], word: string): Promise<Ready> {
  const began = process.hrtime.bigint()
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  try {
    await said(child, word)
    const ms = elapsedMs(began)
    const status = readFileSync(`/proc/${child.pid}/status`, 'latin1')
    return { ms, rssMb: Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1] ?? 0) / 1024 }
  } finally {
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
    await sleep(500) // the kernel frees watches in its own time
  }
}

function said(child: ChildProcess, word: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    const timer = setTimeout(() => reject(new Error(`never said "${word}": ${text}`)), TIMEOUT_MS)
    const hear = (more: Buffer) => {
      text += more
      if (!text.includes(word)) return
      clearTimeout(timer)
      resolve()
    }
    child.stdout?.on('data', hear)
    child.stderr?.on('data', hear)
    child.once('error', reject)
  })
}

/** A hundred names in each directory on the way down. */
function makeTree(root: string, directories: number, files: number): void {
  const perLeaf = files / directories
  for (let i = 0; i < directories; i++) {
    const path = `${root}/${Math.floor(i / 10_000)}/${Math.floor(i / 100) % 100}/${i % 100}`
    mkdirSync(path, { recursive: true })
    for (let k = 0; k < perLeaf; k++) writeFileSync(`${path}/${k}`, '')
  }
}
