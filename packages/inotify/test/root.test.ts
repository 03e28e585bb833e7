import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { TreeWatcher } from '../src/index.js'
import { assertWatches, BACKEND, temporaryDirectory, type Watching, watching } from './watching.js'

const INDEX = pathToFileURL(join(import.meta.dirname, '../src/index.js')).href
const isRoot = process.getuid!() === 0

const states = ({ hints }: Watching): string[] => hints.flatMap((hint) => (hint.kind === 'root' ? [hint.state] : []))

async function watchedRoot(t: Parameters<typeof watching>[0]): Promise<Watching> {
  const root = join(temporaryDirectory(t), 'root')
  fs.mkdirSync(join(root, 'd'), { recursive: true })
  return watching(t, root)
}

async function isWatchedAgain(watched: Watching): Promise<void> {
  await watched.heard({ kind: 'tree', path: '' })
  fs.mkdirSync(join(watched.root, 'again', 'deep'), { recursive: true })
  await watched.heard({ kind: 'tree', path: 'again' })
  fs.writeFileSync(join(watched.root, 'again', 'deep', 'f'), '')
  await watched.heard({ kind: 'entry', path: 'again/deep/f' })
}

test('a root that is removed and made again: gone, another one, back', async (t) => {
  const watched = await watchedRoot(t)
  fs.rmSync(watched.root, { recursive: true })
  await watched.heard({ kind: 'root', state: 'gone' })
  assert.equal(watched.watcher.stats.watches, 0)
  fs.mkdirSync(watched.root)
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['gone', 'replaced', 'back'])
})

test('a root that is moved away and returns is the same', async (t) => {
  const watched = await watchedRoot(t)
  fs.renameSync(watched.root, `${watched.root}-away`)
  await watched.heard({ kind: 'root', state: 'gone' })
  fs.renameSync(`${watched.root}-away`, watched.root)
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['gone', 'back'])
})

test('a root that is replaced by another directory is reported so, and the other one is watched', async (t) => {
  const watched = await watchedRoot(t)
  fs.renameSync(watched.root, `${watched.root}-away`)
  fs.mkdirSync(watched.root)
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['replaced', 'back'])
  const since = watched.hints.length
  fs.writeFileSync(join(`${watched.root}-away`, 'd', 'f'), '')
  await watched.settled()
  assert.equal(watched.hints.length, since)
})

test('a root that is moved away with a symbolic link to it in its place is heard', async (t) => {
  const watched = await watchedRoot(t)
  fs.renameSync(watched.root, `${watched.root}-now`)
  fs.symlinkSync(`${watched.root}-now`, watched.root)
  if (BACKEND === 'inotify') await watched.settled()
  else await isWatchedAgain(watched)
  const since = watched.hints.length
  for (let i = 0; i < 100; i++) fs.writeFileSync(join(watched.root, 'd', `${i}`), '')
  await watched.heard({ kind: 'entry', path: 'd/99' }, since)
})

test('a parent of the root that is renamed raises no event, and is noticed', async (t) => {
  const watched = await watchedRoot(t)
  const parent = join(watched.root, '..')
  fs.renameSync(parent, `${parent}-away`)
  await watched.heard({ kind: 'root', state: 'gone' })
  fs.renameSync(`${parent}-away`, parent)
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['gone', 'back'])
})

test('a root that is unmounted is not the directory that shows below it', { skip: !isRoot }, async (t) => {
  const root = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', root])
  fs.mkdirSync(join(root, 'd', 'e'), { recursive: true })
  const watched = await watching(t, root)
  execFileSync('umount', [root]) // the watcher must not keep it busy
  await watched.heard({ kind: 'root', state: 'unmounted' })
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['unmounted', 'replaced', 'back'])
})

test('a filesystem mounted over the root is noticed', { skip: !isRoot }, async (t) => {
  const watched = await watchedRoot(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', watched.root])
  await isWatchedAgain(watched)
  assert.deepEqual(states(watched), ['replaced', 'back'])
})

test('a filesystem unmounted below the root: the directory that it covered is watched', {
  skip: !isRoot,
}, async (t) => {
  const root = temporaryDirectory(t)
  const mounted = join(root, 'mounted')
  fs.mkdirSync(join(mounted, 'covered'), { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', 'none', mounted])
  fs.mkdirSync(join(mounted, 'x', 'y'), { recursive: true })
  const { watcher, heard } = await watching(t, root)
  assertWatches(watcher, 4)
  execFileSync('umount', [mounted])
  await heard({ kind: 'tree', path: 'mounted' })
  fs.writeFileSync(join(mounted, 'covered', 'f'), '')
  await heard({ kind: 'entry', path: 'mounted/covered/f' })
  assertWatches(watcher, 3)
})

test('a filesystem mounted below the root is watched, and what it covers again when it is gone', {
  skip: !isRoot,
}, async (t) => {
  const root = temporaryDirectory(t)
  const mounted = join(root, 'some/where')
  fs.mkdirSync(join(mounted, 'covered'), { recursive: true })
  const { hints, heard } = await watching(t, root)
  for (let round = 0; round < 3; round++) {
    hints.length = 0
    execFileSync('mount', ['-t', 'tmpfs', 'none', mounted])
    await heard({ kind: 'tree', path: 'some/where' })
    fs.mkdirSync(join(mounted, 'd'))
    await heard({ kind: 'tree', path: 'some/where/d' })
    fs.writeFileSync(join(mounted, 'd/f'), '')
    await heard({ kind: 'entry', path: 'some/where/d/f' })
    hints.length = 0
    execFileSync('umount', [mounted])
    await heard({ kind: 'unmounted', path: 'some/where' })
    await heard({ kind: 'tree', path: 'some/where' })
    fs.writeFileSync(join(mounted, 'covered/f'), '')
    await heard({ kind: 'entry', path: 'some/where/covered/f' })
    assert.ok(!hints.some((hint) => hint.kind === 'tree' && hint.path === ''), 'the rest of the tree is as it was')
  }
})

test('a mount that moves with the directory above it was not unmounted, whatever takes its place', {
  skip: !isRoot,
}, async (t) => {
  const root = temporaryDirectory(t)
  for (const path of ['a/m', 'other']) fs.mkdirSync(join(root, path), { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(root, 'a/m')])
  const { hints, heard } = await watching(t, root)
  fs.renameSync(join(root, 'a'), join(root, 'b'))
  fs.mkdirSync(join(root, 'a/m'), { recursive: true })
  await heard({ kind: 'tree', path: 'a' })
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(root, 'other')]) // now it is looked at what is mounted
  await heard({ kind: 'tree', path: 'other' })
  for (const place of ['a/m', 'b/m']) {
    fs.writeFileSync(join(root, place, 'f'), '')
    await heard({ kind: 'entry', path: `${place}/f` })
  }
  assert.ok(!hints.some(({ kind }) => kind === 'unmounted'))
})

test('a bind mount below the root is gone: what it covered is watched', { skip: !isRoot }, async (t) => {
  const place = temporaryDirectory(t)
  const root = join(place, 'root')
  for (const name of ['root/b', 'elsewhere']) fs.mkdirSync(join(place, name), { recursive: true })
  execFileSync('mount', ['--bind', join(place, 'elsewhere'), join(root, 'b')])
  const { heard, hints, settled } = await watching(t, root)
  fs.writeFileSync(join(place, 'elsewhere/f'), '')
  await heard({ kind: 'entry', path: 'b/f' })
  execFileSync('umount', [join(root, 'b')])
  await heard({ kind: 'unmounted', path: 'b' })
  await heard({ kind: 'tree', path: 'b' })
  fs.writeFileSync(join(root, 'b/covered'), '')
  await heard({ kind: 'entry', path: 'b/covered' })
  await settled()
  await new Promise((resolve) => setTimeout(resolve, 300)) // watches of what left are removed by then
  const since = hints.length
  fs.writeFileSync(join(place, 'elsewhere/g'), '')
  await settled()
  assert.deepEqual(hints.slice(since), [])
})

test('a directory bound below itself does not trap the scan', { skip: !isRoot }, async (t) => {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'a', 'b'), { recursive: true })
  execFileSync('mount', ['--bind', root, join(root, 'a', 'b')])
  const { watcher, heard } = await watching(t, root)
  assertWatches(watcher, 2)
  fs.writeFileSync(join(root, 'a', 'f'), '')
  await heard({ kind: 'entry', path: 'a/f' })
})

test('a directory with the root bound below it is moved out: the root is heard', { skip: !isRoot }, async (t) => {
  const place = temporaryDirectory(t)
  const root = join(place, 'root')
  fs.mkdirSync(join(root, 'd', 'm'), { recursive: true })
  execFileSync('mount', ['--bind', root, join(root, 'd', 'm')])
  const { heard, settled } = await watching(t, root)
  fs.mkdirSync(join(root, 'd', 'new'))
  fs.renameSync(join(root, 'd'), join(place, 'd'))
  await settled()
  await sleep(300) // by then the watches of what has left are gone
  fs.writeFileSync(join(root, 'f'), '')
  await heard({ kind: 'entry', path: 'f' })
})

test('a directory of the tree is bound to another place in it, and unbound: it is heard', {
  skip: !isRoot,
}, async (t) => {
  const { root, heard } = await watching(t, undefined)
  fs.mkdirSync(join(root, 'e', 'sub'), { recursive: true })
  fs.mkdirSync(join(root, 'd', 'm'), { recursive: true })
  await heard({ kind: 'tree', path: 'd' })
  execFileSync('mount', ['--bind', join(root, 'e'), join(root, 'd', 'm')])
  if (BACKEND === 'inotify') await heard({ kind: 'tree', path: 'd/m' })
  else await sleep(300) // for fanotify it is no news, but that it was there is
  execFileSync('umount', [join(root, 'd', 'm')])
  await heard({ kind: 'unmounted', path: 'd/m' })
  await sleep(300) // by then the watches of what has left are gone
  for (const path of ['e/f', 'e/sub/f', 'd/m/f']) {
    fs.writeFileSync(join(root, path), '')
    await heard({ kind: 'entry', path })
  }
})

test('a root that is no directory is refused with the reason', async (t) => {
  const directory = temporaryDirectory(t)
  const options = { onHints() {}, onError() {} }
  fs.writeFileSync(join(directory, 'file'), '')
  await assert.rejects(TreeWatcher.open(join(directory, 'file'), options), { code: 'ROOT_NOT_A_DIRECTORY' })
  await assert.rejects(TreeWatcher.open(join(directory, 'none'), options), { code: 'ROOT_NOT_FOUND' })
})

test('a root may be given relative, through a symbolic link, with a slash, as bytes', async (t) => {
  const directory = temporaryDirectory(t)
  const name = Buffer.from([0x72, 0xff])
  const real = Buffer.concat([Buffer.from(`${directory}/`), name])
  fs.mkdirSync(real)
  fs.symlinkSync(name, join(directory, 'link'))
  const { heard } = await watching(t, `${directory}/link/`)
  const { heard: heardToo } = await watching(t, real as unknown as string)
  fs.writeFileSync(join(directory, 'link', 'f'), '')
  await heard({ kind: 'entry', path: 'f' })
  await heardToo({ kind: 'entry', path: 'f' })
})

test('after close the process exits; without it the process stays', (t) => {
  const root = temporaryDirectory(t)
  const program = (last: string) => `
    import { TreeWatcher } from ${JSON.stringify(INDEX)}
    const watcher = await TreeWatcher.open(${JSON.stringify(root)}, { onHints() {}, onError() {} })
    ${last}`
  const run = (last: string, timeout: number) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', program(last)], { timeout })
  assert.equal(run('await watcher.close()', 20_000).status, 0)
  assert.equal(run('process.exit(3)', 20_000).status, 3)
  assert.equal(run('', 1500).signal, 'SIGTERM')
})
