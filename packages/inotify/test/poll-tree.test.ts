import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Hint, RawPath } from '../src/index.js'
import { PollTree } from '../src/poll-tree.js'
import { eventually, temporaryDirectory } from './watching.js'

const INTERVAL_MS = 50

async function polled(t: TestContext, exclude?: (path: RawPath, isDir: boolean) => boolean) {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'a/b'), { recursive: true })
  fs.writeFileSync(join(root, 'a/b/f'), 'x')
  fs.writeFileSync(join(root, 'kept'), 'x')
  const hints: Hint[] = []
  const errors: Error[] = []
  const events = {
    exclude,
    onHints: (some: Hint[]) => void hints.push(...some),
    onError: (error: Error) => void errors.push(error),
    onRootDoubt: () => undefined,
    onNotice: () => undefined,
  }
  const tree = new PollTree(Buffer.from(root).toString('latin1') as RawPath, events, INTERVAL_MS)
  t.after(async () => {
    await tree.close(new Error('over'))
    assert.deepEqual(errors, [])
  })
  await tree.complete
  const settled = async () => {
    const now = Date.now()
    await eventually('a round that began later', () => tree.drainedAtMs > now)
  }
  return { root, tree, hints, settled }
}

test('what was made, written, changed, removed and replaced between two rounds', async (t) => {
  const { root, hints, settled, tree } = await polled(t)
  await settled()
  hints.length = 0 // what was made just now is told once more: the next change could have had the same time
  fs.writeFileSync(join(root, 'a/b/f'), 'longer')
  fs.writeFileSync(join(root, 'a/new'), '')
  fs.chmodSync(join(root, 'kept'), 0o600)
  fs.mkdirSync(join(root, 'd/e'), { recursive: true })
  fs.writeFileSync(join(root, 'd/e/deep'), '')
  await settled()
  const paths = (kind: string) =>
    hints.filter((hint) => hint.kind === kind).map((hint) => ('path' in hint ? hint.path : ''))
  for (const path of ['a/b/f', 'a/new', 'kept']) assert.ok((paths('entry') as string[]).includes(path), path)
  assert.deepEqual([...new Set(paths('tree'))], ['d', 'd/e'])
  hints.length = 0
  fs.writeFileSync(join(root, 'd/e/deep'), 'now known')
  await settled()
  assert.ok((paths('entry') as string[]).includes('d/e/deep'))
  hints.length = 0
  fs.rmSync(join(root, 'd'), { recursive: true })
  fs.rmSync(join(root, 'a/b'), { recursive: true })
  fs.writeFileSync(join(root, 'a/b'), 'a file now')
  await settled()
  const gone = hints
    .filter((hint) => hint.kind === 'entry' && hint.gone)
    .map((hint) => ('path' in hint ? hint.path : ''))
  assert.deepEqual(gone.sort(), ['a/b', 'd'])
  assert.ok(hints.some((hint) => hint.kind === 'entry' && hint.path === 'a/b' && !hint.isDir))
  assert.equal(tree.stats.watches, 2)
})

test('a directory in the place of another is looked at as a whole', async (t) => {
  const { root, hints, settled } = await polled(t)
  fs.mkdirSync(join(root, 'other'))
  fs.writeFileSync(join(root, 'other/g'), '')
  fs.renameSync(join(root, 'a'), join(root, 'away'))
  fs.renameSync(join(root, 'other'), join(root, 'a'))
  await settled()
  const trees = hints.filter((hint) => hint.kind === 'tree').map((hint) => ('path' in hint ? hint.path : ''))
  assert.deepEqual([...new Set(trees)].sort(), ['a', 'away', 'away/b'])
})

test('times far in the future are no change', async (t) => {
  const { root, hints, settled } = await polled(t)
  const future = Date.now() / 1000 + 1e6
  fs.utimesSync(join(root, 'kept'), future, future)
  await sleep(3_500) // until the change itself is old
  await settled()
  hints.length = 0
  await settled()
  await settled()
  assert.deepEqual(hints, [])
})

test('what is excluded is not looked at', async (t) => {
  const { root, hints, settled, tree } = await polled(t, (path) => path === 'a')
  fs.writeFileSync(join(root, 'a/b/f'), 'longer')
  fs.writeFileSync(join(root, 'seen'), '')
  await settled()
  assert.ok(hints.some((hint) => 'path' in hint && hint.path === 'seen'))
  assert.ok(!hints.some((hint) => 'path' in hint && hint.path.startsWith('a')))
  assert.equal(tree.stats.watches, 1)
})
