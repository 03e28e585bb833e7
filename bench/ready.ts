import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { elapsedMs } from './arrival.js'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { type Stage, sleep } from './support.js'

const PEER_LIBRARIES = ['chokidar', '@parcel/watcher']
const TIMEOUT_MS = 600_000
const TREES = {
  'watch/100k': {
    directories: 100_000,
    files: 200_000,
    rounds: 5,
    /** Once each: they take minutes. */
    others: ['@parcel/watcher', 'lsyncd', 'chokidar'],
    fanotifyS: 0.15,
    fanotifyMb: 60,
    inotifyS: 0.5,
    inotifyMb: undefined,
  },
  'watch/1m': {
    directories: 1_000_000,
    files: 0,
    rounds: 3,
    /** They would take an hour, or all memory. */
    others: [],
    fanotifyS: 0.15,
    fanotifyMb: 60,
    inotifyS: 4,
    inotifyMb: 160,
  },
} as const

/** From the start of a process until it watches everything, and what it holds then; caches are warm. */
function ready(name: keyof typeof TREES): Benchmark {
  const { directories, files, rounds, others, ...goals } = TREES[name]
  return async (stage, tell) => {
    allowWatches(2 * (directories + files))
    const root = stage.dir('tree') // on a disk, as the trees of users; what is asked for is in the caches by then
    tell(`${directories} directories and ${files} files are made`)
    makeTree(root, directories, files)
    const took: Record<'fanotify' | 'inotify' | 'inotifywait', Ready[]> = { fanotify: [], inotify: [], inotifywait: [] }
    for (let round = 0; round < rounds; round++) {
      tell(`round ${round + 1} of ${rounds}`)
      for (const backend of ['fanotify', 'inotify'] as const) took[backend].push(await ours(root, backend))
      took.inotifywait.push(await readyWhen('inotifywait', ['-m', '-r', root], 'Watches established.'))
    }
    const peers: [string, Ready[]][] = [['inotifywait -m -r', took.inotifywait]]
    const libraries = installPeers(tell)
    for (const peer of others) {
      tell(`${peer}, once`)
      peers.push([peer, [await (peer === 'lsyncd' ? lsyncd(stage, root) : library(root, peer, libraries))]])
    }
    tell('measured; the tree is removed at the end, which takes its time')
    const seconds = (of: Ready[]) => median(of.map(({ ms }) => ms)) / 1000
    const megabytes = (of: Ready[]) => median(of.map(({ rssMb }) => rssMb))
    const ratio = seconds(took.inotify) / seconds(took.inotifywait)
    return [
      atMost(`${name}, fanotify: ready`, seconds(took.fanotify), goals.fanotifyS, 's'),
      atMost(`${name}, fanotify: resident`, megabytes(took.fanotify), goals.fanotifyMb, 'MB'),
      atMost(`${name}, inotify: ready`, seconds(took.inotify), goals.inotifyS, 's'),
      goals.inotifyMb === undefined
        ? beside(`${name}, inotify: resident`, megabytes(took.inotify), 'MB')
        : atMost(`${name}, inotify: resident`, megabytes(took.inotify), goals.inotifyMb, 'MB'),
      atMost(`${name}, inotify: share of the time of inotifywait`, ratio, 0.5, '×'),
      ...peers.flatMap(([peer, of]) => [
        beside(`${name}, ${peer}: ready`, seconds(of), 's'),
        beside(`${name}, ${peer}: resident`, megabytes(of), 'MB'),
      ]),
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

const library = (root: string, peer: string, libraries: string) => {
  const watcher = fileURLToPath(new URL('peer-watcher.js', import.meta.url))
  return readyWhen(process.execPath, [watcher, root, peer, libraries], 'ready')
}

/** With nothing to do once it watches. */
function lsyncd(stage: Stage, root: string): Promise<Ready> {
  const config = stage.path('watching.lua')
  const sync = `sync{{onStartup="true", onCreate="true"}, source=${JSON.stringify(root)}, target="/nowhere"}`
  writeFileSync(config, `settings{nodaemon=true}\n${sync}\n`)
  return readyWhen('lsyncd', ['-nodaemon', config], 'Event Init')
}

/** Where the libraries of npm are that we compare with; they come when they are first needed, and not with the project. */
function installPeers(tell: (progress: string) => void): string {
  const directory = fileURLToPath(new URL('../../.cache/peers', import.meta.url))
  mkdirSync(directory, { recursive: true })
  if (PEER_LIBRARIES.every((peer) => existsSync(`${directory}/node_modules/${peer}`))) return directory
  tell(`npm installs ${PEER_LIBRARIES.join(' and ')}`)
  execFileSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--prefix', directory, ...PEER_LIBRARIES], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return directory
}

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
    child.once('exit', () => reject(new Error(`ended, and never said "${word}": ${text}`)))
  })
}

/** The peers watch as many as they may; some watch files, too. */
function allowWatches(count: number): void {
  const limit = '/proc/sys/fs/inotify/max_user_watches'
  if (Number(readFileSync(limit, 'latin1')) < count) writeFileSync(limit, String(count))
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
