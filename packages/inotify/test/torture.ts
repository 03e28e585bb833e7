import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { BackendName, Hint, RawPath, TreeWatcher } from '../src/index.js'
import { eventually, watching } from './watching.js'

const TORTURER = fileURLToPath(new URL('./torturer.js', import.meta.url))
/** For so long at a time nobody reads the queue. */
const STALL_MS = Number(process.env.TORTURE_STALL_MS ?? 0)

/** Everything that the hints said to look at, in a form that answers quickly. */
class Covered {
  readonly #entries = new Map<string, number>()
  readonly #trees = new Map<string, number>()

  constructor(hints: { hint: Hint; atMs: number }[]) {
    for (const { hint, atMs } of hints) {
      if (hint.kind === 'entry' || hint.kind === 'writing') this.#entries.set(hint.path, atMs)
      if (hint.kind === 'tree') this.#trees.set(hint.path, atMs)
    }
  }

  /** Whether `path`, which exists since `sinceMs`, was reported by itself, or by a tree hint not older than it. */
  has(path: string, sinceMs: number): boolean {
    if (this.#entries.has(path)) return true
    for (let at = path; at !== ''; ) {
      at = at.slice(0, Math.max(at.lastIndexOf('/'), 0))
      if ((this.#trees.get(at) ?? 0) >= sinceMs) return true
    }
    return false
  }
}

export interface Torture {
  backend: 'auto' | BackendName
  seconds: number
  /** What happens meanwhile, beside the torturers. */
  beside?: (root: string) => Promise<void>
}

/**
 * Three processes change what is in a directory below `outside`, by all that makes it hard to keep up. Fails when a file that
 * exists in the end was never reported, or when by then a directory is not watched.
 */
export async function torture(t: TestContext, outside: string, how: Torture): Promise<TreeWatcher> {
  const { backend, seconds, beside } = how
  const root = join(outside, 'root')
  mkdirSync(root, { recursive: true })
  const hints: { hint: Hint; atMs: number }[] = []
  const { watcher, settled } = await watching(t, root, {
    backend,
    onHints: (some) => {
      const atMs = performance.timeOrigin + performance.now()
      for (const hint of some) hints.push({ hint, atMs })
    },
  })
  const stalls = STALL_MS > 0 ? setInterval(() => stall(STALL_MS), STALL_MS / 10) : undefined
  t.after(() => clearInterval(stalls))
  const torturers = ['1', '2', '3'].map((id) =>
    spawn(process.execPath, [TORTURER, root, outside, id, String(seconds)], {
      stdio: ['ignore', 'inherit', 'inherit'],
    }),
  )
  await Promise.all([beside?.(root), ...torturers.map((child) => once(child, 'exit'))])
  clearInterval(stalls)
  await settled()
  await settled()
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  assert.ok(files.length > 500, `only ${files.length} files: no torture`)
  const covered = new Covered(hints)
  const missed = files
    .map((file) => join(file.parentPath, file.name).slice(root.length + 1))
    // A torturer names each file by the time at which it had made it, in milliseconds.
    .filter((path) => !covered.has(path, Number(path.slice(path.lastIndexOf('/') + 1).split('-')[0])))
  const directories = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isDirectory())
  t.diagnostic(`${files.length} files, ${watcher.stats.events} events, ${watcher.stats.overflows} overflows`)
  assert.deepEqual(missed, [])

  // And by now each directory is watched, under its right path.
  if (watcher.choice.backend === 'inotify')
    await eventually(
      'the watches of what left are gone',
      () => watcher.stats.watches === directories.length + 1,
      () => `${watcher.stats.watches} watches, ${directories.length} directories`,
    )
  const probes = directories.map((directory) => join(directory.parentPath, directory.name, 'probe'))
  hints.length = 0
  for (const probe of probes) writeFileSync(probe, '')
  await settled()
  const entries = new Set(hints.map(({ hint }) => (hint.kind === 'entry' ? hint.path : '')))
  assert.deepEqual(
    probes.filter((probe) => !entries.has(probe.slice(root.length + 1) as RawPath)),
    [],
  )
  return watcher
}

function stall(ms: number): void {
  const untilMs = performance.now() + ms
  while (performance.now() < untilMs);
}
