import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Hint, type RawPath, TreeWatcher, toBytes } from '../src/index.js'
import { assertWatches, BACKEND, eventually, hasWatches, temporaryDirectory, watching } from './watching.js'

const raw = (path: string): RawPath => Buffer.from(path).toString('latin1') as RawPath

test('a file: writing while it is open, an entry when it is closed, and when it goes', async (t) => {
  const { root, hints, heard, settled } = await watching(t)
  const fd = fs.openSync(join(root, 'f'), 'w')
  await heard({ kind: 'writing', path: 'f' })
  fs.writeSync(fd, 'x')
  await settled()
  assert.ok(hints.every((hint) => hint.kind === 'writing'))
  fs.closeSync(fd)
  await heard({ kind: 'entry', path: 'f', isDir: false })
  const since = hints.length
  fs.unlinkSync(join(root, 'f'))
  await heard({ kind: 'entry', path: 'f', isDir: false }, since)
})

test('what is complete when it is made is an entry at once: links, hard links, fifos', async (t) => {
  const { root, hints, settled } = await watching(t)
  fs.symlinkSync('nowhere', join(root, 'symlink'))
  execFileSync('mkfifo', [join(root, 'fifo')])
  await settled()
  fs.writeFileSync(join(root, 'file'), '')
  await settled()
  hints.length = 0
  fs.linkSync(join(root, 'file'), join(root, 'hardlink'))
  fs.symlinkSync('nowhere', join(root, 'symlink2'))
  await settled()
  for (const path of ['hardlink', 'symlink2']) {
    assert.ok(
      hints.some((hint) => hint.kind === 'entry' && hint.path === path),
      path,
    )
  }
  assert.ok(!hints.some((hint) => hint.kind === 'writing'))
})

test('attributes alone are said to be alone', async (t) => {
  const { root, heard, settled, hints } = await watching(t)
  fs.writeFileSync(join(root, 'f'), '')
  fs.mkdirSync(join(root, 'd'))
  await settled()
  hints.length = 0
  // One after the other: a thread that reads meanwhile could come between the two reports of a directory.
  fs.chmodSync(join(root, 'f'), 0o600)
  await heard({ kind: 'entry', path: 'f', isDir: false, attribOnly: true })
  fs.utimesSync(join(root, 'd'), 1, 1)
  await heard({ kind: 'entry', path: 'd', isDir: true, attribOnly: true })
  fs.chmodSync(root, 0o750)
  await heard({ kind: 'entry', path: '', isDir: true, attribOnly: true })
  await settled()
  assert.equal(hints.length, 3, 'a directory reports itself twice; neighbours are merged')
})

test('a file that moves inside the tree tells where it came from', async (t) => {
  const { root, heard, settled } = await watching(t)
  fs.mkdirSync(join(root, 'd'))
  fs.writeFileSync(join(root, 'f'), '')
  await settled()
  fs.renameSync(join(root, 'f'), join(root, 'd', 'g'))
  await heard({ kind: 'entry', path: 'f' })
  await heard({ kind: 'entry', path: 'd/g', isDir: false, movedFrom: 'f' })
})

test('a directory that moves inside the tree: its old name, then a tree, then changes under its new path', async (t) => {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'a', 'b', 'c'), { recursive: true })
  const { heard, hints, watcher, settled } = await watching(t, root)
  fs.renameSync(join(root, 'a'), join(root, 'z'))
  await heard({ kind: 'entry', path: 'a', isDir: true })
  await heard({ kind: 'entry', path: 'z', isDir: true, movedFrom: 'a' })
  await heard({ kind: 'tree', path: 'z', movedFrom: 'a' })
  hints.length = 0
  fs.writeFileSync(join(root, 'z', 'b', 'c', 'f'), '')
  await heard({ kind: 'entry', path: 'z/b/c/f' })
  await sleep(300) // longer than departures wait: nothing may be removed
  assertWatches(watcher, 4)
  fs.writeFileSync(join(root, 'z', 'b', 'c', 'g'), '')
  await settled()
  assert.deepEqual(
    hints.filter((hint) => hint.kind === 'entry').map(({ path }) => path),
    ['z/b/c/f', 'z/b/c/g'],
  )
})

test('two directories that exchange their names are told apart afterwards', async (t) => {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'a', 'in-a'), { recursive: true })
  fs.mkdirSync(join(root, 'b', 'in-b'), { recursive: true })
  const { heard, watcher, hints } = await watching(t, root)
  try {
    execFileSync('mv', ['--exchange', join(root, 'a'), join(root, 'b')], { stdio: 'ignore' })
  } catch {
    const exchange =
      'import ctypes,sys; l=ctypes.CDLL(None); sys.exit(-l.renameat2(-100,sys.argv[1].encode(),-100,sys.argv[2].encode(),2))'
    execFileSync('python3', ['-c', exchange, join(root, 'a'), join(root, 'b')])
  }
  await heard({ kind: 'tree', path: 'a' })
  await heard({ kind: 'tree', path: 'b' })
  await sleep(300)
  assertWatches(watcher, 5)
  hints.length = 0
  fs.writeFileSync(join(root, 'a', 'in-b', 'f'), '')
  fs.writeFileSync(join(root, 'b', 'in-a', 'f'), '')
  await heard({ kind: 'entry', path: 'a/in-b/f' })
  await heard({ kind: 'entry', path: 'b/in-a/f' })
})

test('what moves out of the tree is silent, and its watches are freed', async (t) => {
  const outside = temporaryDirectory(t)
  const root = join(outside, 'root')
  fs.mkdirSync(join(root, 'd', 'e', 'f'), { recursive: true })
  const { watcher, heard, hints, settled } = await watching(t, root)
  fs.renameSync(join(root, 'd'), join(outside, 'd'))
  await heard({ kind: 'entry', path: 'd', isDir: true })
  await eventually('freed watches', () => hasWatches(watcher, 1))
  hints.length = 0
  fs.writeFileSync(join(outside, 'd', 'e', 'f', 'g'), '')
  fs.mkdirSync(join(outside, 'd', 'new'))
  await settled()
  assert.deepEqual(hints, [])
})

test('what moves into the tree is watched before it is reported', async (t) => {
  const outside = temporaryDirectory(t)
  const root = join(outside, 'root')
  fs.mkdirSync(root)
  fs.mkdirSync(join(outside, 'd', 'e'), { recursive: true })
  const { heard } = await watching(t, root, {
    onHints: (some) => {
      hints.push(...some)
      const arrived = some.find((hint) => hint.kind === 'tree')
      if (arrived) fs.writeFileSync(join(root, 'd', 'e', 'f'), '')
    },
  })
  const hints: Hint[] = []
  fs.renameSync(join(outside, 'd'), join(root, 'd'))
  await eventually('the file', () => hints.find((hint) => hint.kind === 'entry' && hint.path === 'd/e/f'))
  void heard
})

test('names are bytes: newlines, invalid UTF-8, 255 of them', async (t) => {
  const { root, heard } = await watching(t)
  const names = [
    Buffer.from('new\nline'),
    Buffer.from([0xff, 0xfe, 0x20, 0x80]),
    Buffer.from(Array.from({ length: 255 }, (_, i) => (i === 0 || i === 47 ? 65 : i))),
    Buffer.from('-rf'),
    Buffer.from('名字'),
  ]
  for (const name of names) {
    const path = name.toString('latin1')
    fs.mkdirSync(Buffer.concat([Buffer.from(`${root}/`), name]))
    await heard({ kind: 'tree', path })
    fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name, Buffer.from('/'), name]), '')
    await heard({ kind: 'entry', path: `${path}/${path}` })
    assert.deepEqual(toBytes(path as RawPath), name)
  }
})

test('a tree deeper than a path can be long is watched to its bottom', async (t) => {
  const root = temporaryDirectory(t)
  const name = 'd'.repeat(100)
  const make = `import os,sys
os.chdir(sys.argv[1])
for i in range(int(sys.argv[2])):
    if not os.path.isdir(sys.argv[3]): os.mkdir(sys.argv[3])
    os.chdir(sys.argv[3])
open('f','w').close(); os.mkdir('last'); open('last/g','w').close()`
  execFileSync('python3', ['-c', make, root, '300', name])
  const { watcher, heard, hints, settled } = await watching(t, root)
  assertWatches(watcher, 302)
  execFileSync('python3', [
    '-c',
    make.replace("os.mkdir('last')", "os.mkdir('more')").replace('last/g', 'more/g'),
    root,
    '2000',
    'e',
  ])
  const deep = Array(2000).fill('e').join('/')
  await settled()
  await eventually('2000 more', () => hasWatches(watcher, 302 + 2001))
  hints.length = 0
  execFileSync('python3', [
    '-c',
    "import os,sys\nos.chdir(sys.argv[1])\nfor i in range(2000): os.chdir('e')\nopen('h','w').close();os.mkdir('n');os.mkdir('n/m')",
    root,
  ])
  await heard({ kind: 'entry', path: `${deep}/h` })
  await heard({ kind: 'tree', path: `${deep}/n` })
  execFileSync('python3', [
    '-c',
    "import os,sys\nos.chdir(sys.argv[1])\nfor i in range(300): os.chdir(sys.argv[2])\nos.mkdir('n');os.mkdir('n/m')",
    root,
    name,
  ])
  await heard({ kind: 'tree', path: `${Array(300).fill(name).join('/')}/n` })
  await eventually('the last', () => hasWatches(watcher, 302 + 2001 + 4))
})

test('the excluded is never watched and never reported', async (t) => {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'node_modules', 'x', 'y'), { recursive: true })
  fs.mkdirSync(join(root, 'src'))
  const asked: string[] = []
  const { watcher, hints, heard, settled } = await watching(t, root, {
    exclude: (path, isDir) => {
      asked.push(path)
      return (isDir && /(^|\/)node_modules$/.test(path)) || path.endsWith('.tmp')
    },
  })
  assertWatches(watcher, 2)
  assert.ok(!asked.some((path) => path.startsWith('node_modules/')))
  fs.writeFileSync(join(root, 'node_modules', 'f'), '')
  fs.mkdirSync(join(root, 'src', 'node_modules', 'z'), { recursive: true })
  fs.writeFileSync(join(root, 'a.tmp'), '')
  await settled()
  const times = ['src', ''].map((path) => ({ kind: 'entry', path, isDir: true, attribOnly: true, excluded: true }))
  assert.deepEqual(hints, times, 'but the time of the directory that it is in has changed')
  fs.renameSync(join(root, 'a.tmp'), join(root, 'a'))
  const arrived = await heard({ kind: 'entry', path: 'a' })
  assert.ok(!('movedFrom' in arrived), 'from an excluded name: a move without a partner')
  fs.renameSync(join(root, 'src'), join(root, 'node_modules', 'src'))
  await heard({ kind: 'entry', path: 'src', isDir: true })
  await eventually('freed watches', () => hasWatches(watcher, 1))
  fs.renameSync(join(root, 'node_modules'), join(root, 'modules'))
  await heard({ kind: 'tree', path: 'modules' })
  assertWatches(watcher, 1 + 3 + 1)
})

test('what is excluded since a directory above it was renamed is not watched any more', async (t) => {
  const root = temporaryDirectory(t)
  fs.mkdirSync(join(root, 'a/tmp/d'), { recursive: true })
  const { watcher, hints, heard, settled } = await watching(t, root, { exclude: (path) => path === 'b/tmp' })
  assertWatches(watcher, 4)
  fs.renameSync(join(root, 'a'), join(root, 'b'))
  await heard({ kind: 'tree', path: 'b' })
  await eventually('freed watches', () => hasWatches(watcher, 2))
  const since = hints.length
  fs.writeFileSync(join(root, 'b/tmp/f'), '')
  fs.writeFileSync(join(root, 'b/tmp/d/f'), '')
  fs.mkdirSync(join(root, 'b/tmp/new'))
  await settled()
  assert.deepEqual(hints.slice(since), [])
})

test('a large tree that moves in is scanned in slices, while small changes are reported', async (t) => {
  const outside = temporaryDirectory(t)
  const root = join(outside, 'root')
  fs.mkdirSync(root)
  for (let i = 0; i < 150; i++)
    for (let j = 0; j < 100; j++) fs.mkdirSync(join(outside, 'big', `${i}`, `${j}`), { recursive: true })
  const { watcher, hints, heard, settled } = await watching(t, root)
  fs.renameSync(join(outside, 'big'), join(root, 'big'))
  fs.writeFileSync(join(root, 'small'), '')
  await heard({ kind: 'tree', path: 'big' })
  assertWatches(watcher, 1 + 1 + 150 + 15_000)
  const order = hints.map((hint) => ('path' in hint ? hint.path : ''))
  if (BACKEND === 'inotify') assert.ok(order.lastIndexOf(raw('small')) < order.indexOf(raw('big')))
  fs.renameSync(join(root, 'big'), join(outside, 'big'))
  await eventually('freed watches', () => hasWatches(watcher, 1))
  await settled()
  assert.equal(watcher.stats.overflows, 0, 'removing watches must not fill the queue')
})

test('what onHints throws is heard, and the watcher lives on', async (t) => {
  const root = temporaryDirectory(t)
  const errors: Error[] = []
  let calls = 0
  const watcher = await TreeWatcher.open(root, {
    backend: BACKEND,
    onHints: () => {
      calls++
      throw new Error('mine')
    },
    onError: (error) => errors.push(error),
  })
  t.after(() => watcher.close())
  fs.writeFileSync(join(root, 'f'), '')
  await eventually('the error', () => errors[0]?.message === 'mine')
  const before = calls
  fs.writeFileSync(join(root, 'g'), '')
  await eventually('another call', () => calls > before)
})
