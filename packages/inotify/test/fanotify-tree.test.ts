import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TreeWatcherOptions } from '../src/index.js'
import * as kernel from '../src/kernel.js'
import { image, remounted } from './filesystems.js'
import { eventually, temporaryDirectory, type Watching, watching } from './watching.js'

// What is particular to watching whole filesystems. What both ways have in common is in fanotify.test.ts.

const skip = process.geteuid?.() !== 0 && 'only root may'

/** A filesystem of its own, with a watched tree on it and room beside that. */
async function onFilesystem(
  t: TestContext,
  prepare: (place: string) => void = () => undefined,
  more: Partial<TreeWatcherOptions> = {},
): Promise<Watching & { place: string }> {
  const place = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', place])
  fs.mkdirSync(join(place, 'root'))
  prepare(place)
  return { place, ...(await watching(t, join(place, 'root'), { backend: 'fanotify', ...more })) }
}

const told = ({ hints }: Watching) => hints.map((hint) => ('path' in hint ? hint.path : ''))

test('what happens elsewhere is not told, and soon not even heard', { skip }, async (t) => {
  const watched = await onFilesystem(t, (place) => fs.mkdirSync(join(place, 'busy')))
  const { place, root, watcher, hints, heard, settled } = watched
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 50; i++) fs.writeFileSync(join(place, 'busy', `${round}-${i}`), 'x')
    await settled()
  }
  assert.deepEqual(hints, [])
  assert.ok(watcher.stats.events < 500, `${watcher.stats.events} events of 1,000 files that are none of ours`)
  // It becomes ours with all that was ignored.
  fs.renameSync(join(place, 'busy'), join(root, 'busy'))
  await heard({ kind: 'tree', path: 'busy' })
  fs.writeFileSync(join(root, 'busy', 'new'), '')
  await heard({ kind: 'entry', path: 'busy/new' })
})

test('a tree that is removed at once is told name by name', { skip }, async (t) => {
  const watched = await onFilesystem(t, (place) => {
    fs.mkdirSync(join(place, 'root/a/b/c'), { recursive: true })
    fs.writeFileSync(join(place, 'root/a/b/c/f'), '')
  })
  // Nothing of it was looked at while it was there: its handles mean nothing any more.
  execFileSync('rm', ['-rf', join(watched.root, 'a')])
  await watched.heard({ kind: 'entry', path: 'a', gone: true })
  assert.deepEqual(told(watched), ['a/b/c/f', 'a/b/c', 'a/b', 'a'])
})

test('a tree of thousands of levels that is removed at once is told, soon', { skip }, async (t) => {
  const LEVELS = 2500 // whose records are read at once
  const chain = 'use strict; for (1..shift) { mkdir "d" or die $!; chdir "d" or die $! }'
  const makeChain = (place: string) => execFileSync('perl', ['-e', chain, String(LEVELS)], { cwd: join(place, 'root') })
  const watched = await onFilesystem(t, makeChain)
  const before = process.cpuUsage()
  execFileSync('rm', ['-rf', join(watched.root, 'd')])
  await watched.heard({ kind: 'entry', path: 'd', gone: true })
  const { user, system } = process.cpuUsage(before)
  assert.ok((user + system) / LEVELS < 1000, `${(user + system) / LEVELS} µs of CPU for each level`)
})

test('what an NFS server writes by handle, and nobody has looked up by name, is found', { skip }, async (t) => {
  const place = image(t, 'ext4')
  for (const name of ['root/a/b/c', 'root/left-out', 'beside']) fs.mkdirSync(join(place, name), { recursive: true })
  for (const name of ['root/a/b/c/f', 'root/left-out/f', 'beside/f']) fs.writeFileSync(join(place, name), '')
  fs.linkSync(join(place, 'root/a/b/c/f'), join(place, 'root/second'))
  const handles = ['root/a/b/c/f', 'root/left-out/f', 'beside/f'].map((name) => {
    const fd = fs.openSync(join(place, name), 'r')
    const handle = kernel.handleOf(fd) as string
    fs.closeSync(fd)
    return handle
  })
  remounted(place)
  const watched = await watching(t, join(place, 'root'), {
    backend: 'fanotify',
    exclude: (path) => path === 'left-out',
  })
  const mount = fs.openSync(place, 'r')
  t.after(() => fs.closeSync(mount))
  const write = (handle: string) => {
    const fd = kernel.openByHandle(mount, handle, fs.constants.O_WRONLY)
    const path = fs.readlinkSync(`/proc/self/fd/${fd}`)
    fs.writeSync(fd, 'x')
    fs.closeSync(fd)
    return path
  }
  const pathsBefore = handles.map(write)
  assert.deepEqual(pathsBefore, ['/', '/', '/'], 'the kernel knows no names')
  await watched.settled()
  for (const path of ['a/b/c/f', 'second']) await watched.heard({ kind: 'entry', path, closed: true })
  assert.deepEqual([...new Set(told(watched))].sort(), ['a/b/c/f', 'second'])
  const since = watched.hints.length
  write(handles[0]!)
  const { path } = (await watched.heard({ kind: 'entry', closed: true }, since)) as { path: string }
  assert.ok(['a/b/c/f', 'second'].includes(path), 'it is known by now')
})

test('a file elsewhere that loses one of its names is not searched for', { skip }, async (t) => {
  const place = image(t, 'ext4')
  for (const name of ['root/a', 'beside/1', 'beside/2']) fs.mkdirSync(join(place, name), { recursive: true })
  for (let i = 0; i < 100; i++) {
    fs.writeFileSync(join(place, `beside/1/${i}`), '')
    fs.linkSync(join(place, `beside/1/${i}`), join(place, `beside/2/${i}`))
  }
  remounted(place) // of what is removed now the kernel does not know the other name
  const asked: string[] = []
  const exclude = (path: string) => asked.push(path) === 0
  const { settled } = await watching(t, join(place, 'root'), { backend: 'fanotify', exclude })
  asked.length = 0
  execFileSync('rm', ['-rf', join(place, 'beside/1')])
  for (let i = 0; i < 50; i++) fs.writeFileSync(join(place, `beside/new-${i}`), '')
  for (let i = 0; i < 50; i++) fs.renameSync(join(place, `beside/new-${i}`), join(place, `beside/2/${i}`))
  await settled()
  await sleep(1_500) // longer than what is searched for together is gathered
  assert.deepEqual(asked, [])
})

test('a filesystem comes and goes below the root', { skip }, async (t) => {
  const watched = await onFilesystem(t, (place) => fs.mkdirSync(join(place, 'root/mnt/covered'), { recursive: true }))
  const { root, heard, watcher } = watched
  for (let round = 0; round < 3; round++) {
    const since = watched.hints.length
    execFileSync('mount', ['-t', 'tmpfs', 'none', join(root, 'mnt')])
    fs.mkdirSync(join(root, 'mnt/d'))
    await heard({ kind: 'tree', path: 'mnt' }, since)
    fs.writeFileSync(join(root, 'mnt/d/f'), 'x')
    await heard({ kind: 'entry', path: 'mnt/d/f' }, since)
    assert.equal(watcher.stats.watches, 2)
    execFileSync('umount', [join(root, 'mnt')]) // nobody holds it
    await heard({ kind: 'unmounted', path: 'mnt' }, since)
    fs.writeFileSync(join(root, 'mnt/covered/f'), `${round}`)
    await heard({ kind: 'entry', path: 'mnt/covered/f' }, since)
    assert.equal(watcher.stats.watches, 1)
  }
})

test('a directory from elsewhere that is bound into the tree is part of it', { skip }, async (t) => {
  const { place, root, heard, hints, settled } = await onFilesystem(t, (place) => {
    fs.mkdirSync(join(place, 'elsewhere/d'), { recursive: true })
    fs.mkdirSync(join(place, 'root/bound'))
    execFileSync('mount', ['--bind', join(place, 'elsewhere'), join(place, 'root/bound')])
  })
  fs.writeFileSync(join(place, 'elsewhere/d/f'), '')
  await heard({ kind: 'entry', path: 'bound/d/f' })
  execFileSync('umount', [join(root, 'bound')])
  await heard({ kind: 'unmounted', path: 'bound' })
  await settled()
  const since = hints.length
  fs.writeFileSync(join(place, 'elsewhere/d/g'), '')
  await settled()
  assert.deepEqual(hints.slice(since), [])
})

test('a filesystem without handles below the root is looked at instead, and said to be', { skip }, async (t) => {
  const { root, notices, heard, watcher } = await onFilesystem(t)
  fs.mkdirSync(join(root, 'mnt'))
  execFileSync('mount', ['-t', 'ramfs', 'none', join(root, 'mnt')])
  await heard({ kind: 'tree', path: 'mnt' })
  if (watcher.stats.blind === 0) return // this kernel can watch it
  assert.ok(notices.some((line) => line.includes(`${root}/mnt`) && line.includes('every 30 s')))
})

test('while the main thread stands still nothing is lost', { skip }, async (t) => {
  const { root, hints, watcher, settled } = await onFilesystem(t)
  const script = `for i in $(seq 1 200); do mkdir -p ${root}/$i/a/b; for k in 1 2 3 4 5; do echo x > ${root}/$i/a/b/$k; done; done`
  execFileSync('sh', ['-c', script]) // synchronous: some 6,000 events wait
  await settled()
  await eventually('the last file', () => hints.some((hint) => 'path' in hint && hint.path === '200/a/b/5'))
  assert.equal(watcher.stats.overflows, 0)
  const paths = new Set(hints.map((hint) => ('path' in hint ? hint.path : '')))
  for (let i = 1; i <= 200; i++)
    for (let k = 1; k <= 5; k++) assert.ok(paths.has(`${i}/a/b/${k}` as never), `${i} ${k}`)
})

test('a directory is renamed with a filesystem mounted in it: both go on', { skip }, async (t) => {
  const { place, root, heard } = await onFilesystem(t, (place) => {
    for (const name of ['root/d/m', 'outside/m']) {
      fs.mkdirSync(join(place, name), { recursive: true })
      execFileSync('mount', ['-t', 'tmpfs', 'none', join(place, name)])
    }
  })
  fs.renameSync(join(root, 'd'), join(root, 'e'))
  await heard({ kind: 'tree', path: 'e/m' })
  fs.writeFileSync(join(root, 'e/m/f'), '')
  await heard({ kind: 'entry', path: 'e/m/f' })
  fs.renameSync(join(place, 'outside'), join(root, 'inside'))
  await heard({ kind: 'tree', path: 'inside/m' })
  fs.writeFileSync(join(root, 'inside/m/f'), '')
  await heard({ kind: 'entry', path: 'inside/m/f' })
})

test('what was left out, and busy, is heard when a rename makes it part of the tree', { skip }, async (t) => {
  const { root, heard, settled } = await onFilesystem(
    t,
    (place) => fs.mkdirSync(join(place, 'root/a/tmp'), { recursive: true }),
    {
      exclude: (path) => path === 'a/tmp',
    },
  )
  for (let i = 0; i < 200; i++) fs.writeFileSync(join(root, 'a/tmp', `${i}`), '')
  await settled()
  fs.renameSync(join(root, 'a'), join(root, 'b'))
  await heard({ kind: 'tree', path: 'b' })
  fs.writeFileSync(join(root, 'b/tmp/new'), '')
  await heard({ kind: 'entry', path: 'b/tmp/new' })
})

test('however busy the directory above it is, the root is heard', { skip }, async (t) => {
  const { place, root, heard, settled, hints } = await onFilesystem(t)
  for (let i = 0; i < 200; i++) fs.writeFileSync(join(place, `${i}`), '')
  await settled()
  fs.chmodSync(root, 0o700)
  await heard({ kind: 'entry', path: '', attribOnly: true })
  const since = hints.length
  fs.renameSync(root, `${root}-away`)
  fs.renameSync(`${root}-away`, root)
  await heard({ kind: 'tree', path: '' }, since) // nobody knows what was not to be found meanwhile
  fs.writeFileSync(join(root, 'f'), '')
  await heard({ kind: 'entry', path: 'f' }, since)
})
