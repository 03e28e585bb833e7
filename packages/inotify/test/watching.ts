import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BackendName, type Hint, TreeWatcher, type TreeWatcherOptions } from '../src/index.js'

/** What the tests of this process are about: fanotify.test.ts runs those of other files again. */
export const BACKEND = (process.env.WATCH_BACKEND ?? 'inotify') as BackendName

/** A watch for each directory is inotify's way; the other backends have as many as they like. */
export const hasWatches = (watcher: TreeWatcher, count: number): boolean =>
  BACKEND !== 'inotify' || watcher.stats.watches === count

export const assertWatches = (watcher: TreeWatcher, count: number): void =>
  assert.equal(watcher.stats.watches, BACKEND === 'inotify' ? count : watcher.stats.watches)

/** A watched temporary directory that remembers what it heard. */
export interface Watching {
  root: string
  watcher: TreeWatcher
  hints: Hint[]
  errors: Error[]
  notices: string[]
  /** Waits until a hint has these fields, from `since` (an index into hints) on. */
  heard(expected: Partial<Record<string, unknown>>, since?: number): Promise<Hint>
  /** Waits until all that happened up to now was handed over. */
  settled(): Promise<void>
}

export function temporaryDirectory(t: TestContext, parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, 'inotify-test-'))
  t.after(() => {
    // Hooks run in order of registration: what a test mounted in here must go first. And paths may be too long for fs.rmSync.
    const mounts = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
    for (const mount of mounts.reverse()) if (mount.startsWith(directory)) execFileSync('umount', ['-l', mount])
    execFileSync('rm', ['-rf', '--one-file-system', directory])
  })
  return directory
}

export async function watching(
  t: TestContext,
  root: string = temporaryDirectory(t),
  more: Partial<TreeWatcherOptions> = {},
): Promise<Watching> {
  const hints: Hint[] = []
  const errors: Error[] = []
  const notices: string[] = []
  const watcher = await TreeWatcher.open(root, {
    backend: BACKEND,
    onHints: (some) => hints.push(...some),
    onError: (error) => errors.push(error),
    onNotice: (line) => notices.push(line),
    ...more,
  })
  t.after(async () => {
    await watcher.close()
    assert.deepEqual(errors, [])
  })
  const heard = (expected: Partial<Record<string, unknown>>, since = 0): Promise<Hint> =>
    eventually(`a hint ${JSON.stringify(expected).slice(0, 200)}`, () =>
      hints.slice(since).find((hint) => matches(hint, expected)),
    )
  const settled = async (): Promise<void> => {
    const now = Date.now()
    await eventually('a drained queue', () => watcher.drainedAtMs > now)
  }
  return { root, watcher, hints, errors, notices, heard, settled }
}

const matches = (hint: Hint, expected: Partial<Record<string, unknown>>): boolean =>
  Object.entries(expected).every(([key, value]) => (hint as Record<string, unknown>)[key] === value)

/** A queue that was filled for a minute takes another to be emptied. */
const PATIENCE_MS = 20_000 + Number(process.env.TORTURE_SECONDS ?? 0) * 2_000

export async function eventually<T>(what: string, found: () => T, instead = () => ''): Promise<NonNullable<T>> {
  const giveUpMs = Date.now() + PATIENCE_MS
  for (;;) {
    const value = found()
    if (value) return value
    if (Date.now() > giveUpMs) throw new Error(`never came: ${what}. ${instead()}`)
    await sleep(5)
  }
}
