import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdirSync, readSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { FileError, fromBytes, type RawPath, SourceTree, SystemError } from '../src/index.js'
import { close, openBeneath, openByComponents, openDirectory, statAt } from '../src/kernel.js'
import { listAll, openTree, temporaryDirectory } from './stage.js'

const raw = (path: string) => path as RawPath

/** `inside` is the tree; `inside/swapped` turns between a directory and a symlink to `outside` without pause. */
async function swapping(t: TestContext): Promise<{ inside: string; child: ChildProcess }> {
  let stop: () => Promise<void> = async () => undefined
  t.after(() => stop()) // hooks run in order of registration: the swapping must end before its directory goes
  const home = temporaryDirectory(t)
  const inside = join(home, 'inside')
  for (const [dir, text] of [
    ['inside/swapped/deep', 'inside'],
    ['outside/deep', 'OUTSIDE'],
  ]) {
    mkdirSync(join(home, dir), { recursive: true })
    writeFileSync(join(home, dir, 'file'), text)
    writeFileSync(join(home, dir, '../file'), text)
  }
  writeFileSync(join(home, 'outside/only-outside'), 'OUTSIDE')
  writeFileSync(join(home, 'outside/deep/only-outside'), 'OUTSIDE')
  symlinkSync('../outside', join(inside, 'link'))
  const script = `
    const { renameSync } = require('node:fs')
    for (;;) {
      renameSync('swapped', 'aside'); renameSync('link', 'swapped')
      renameSync('swapped', 'link'); renameSync('aside', 'swapped')
    }`
  const child = spawn(process.execPath, ['-e', script], { cwd: inside, stdio: 'ignore' })
  stop = async () => {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  return { inside, child }
}

const content = (fd: number): string => {
  const bytes = Buffer.alloc(100)
  const length = readSync(fd, bytes, 0, 100, 0)
  closeSync(fd)
  return bytes.toString('latin1', 0, length)
}

test('a directory that someone swaps for a symlink, as fast as he can, never leads outside', async (t) => {
  const { inside, child } = await swapping(t)
  const tree = openTree(t, inside)
  const seen = { inside: 0, refused: 0, listed: 0 }
  const endMs = Date.now() + 3000
  const isFew = () => seen.inside <= 100 || seen.refused <= 100 || seen.listed <= 100 // while it has not begun to swap
  while (Date.now() < endMs || (isFew() && Date.now() < endMs + 20_000)) {
    for (const path of ['swapped/file', 'swapped/deep/file']) {
      try {
        assert.equal(content(tree.open(raw(path))), 'inside')
        seen.inside++
      } catch (error) {
        if (!(error instanceof FileError)) throw error
        assert.ok(error.vanished, error.message)
        seen.refused++
      }
      assert.notEqual(tree.look(raw(path))?.size, 'OUTSIDE'.length)
    }
    for (const dir of ['swapped', 'swapped/deep']) {
      const found =
        tree.list(
          raw(dir),
          () => true,
          (error) => assert.fail(error),
        ) ?? []
      for (const entry of found) assert.doesNotMatch(entry.path, /only-outside/)
      seen.listed += found.length
    }
    for (const path of ['swapped/only-outside', 'swapped/deep/only-outside']) assert.equal(tree.look(raw(path)), null)
  }
  assert.equal(child.exitCode, null, 'the swapping went on all the time')
  assert.ok(seen.inside > 100 && seen.refused > 100 && seen.listed > 100, JSON.stringify(seen))
})

test('opening component by component never leads outside either', async (t) => {
  const { inside } = await swapping(t)
  const root = openDirectory(inside)
  t.after(() => close(root))
  const seen = { inside: 0, refused: 0 }
  const endMs = Date.now() + 1500
  const isFew = () => seen.inside <= 100 || seen.refused <= 100
  while (Date.now() < endMs || (isFew() && Date.now() < endMs + 20_000)) {
    for (const path of ['swapped/file', 'swapped/deep/file']) {
      try {
        assert.equal(content(openByComponents(root, path, constants.O_RDONLY)), 'inside')
        seen.inside++
      } catch (error) {
        if (!(error instanceof SystemError)) throw error
        seen.refused++
      }
    }
  }
  assert.ok(seen.inside > 100 && seen.refused > 100, JSON.stringify(seen))
})

test('openat2 and opening component by component agree about every kind of path', (t) => {
  const home = temporaryDirectory(t)
  const inside = join(home, 'inside')
  mkdirSync(join(inside, 'dir/deep'), { recursive: true })
  mkdirSync(join(home, 'outside'))
  writeFileSync(join(home, 'outside/file'), 'OUTSIDE')
  for (const path of ['file', 'dir/file', 'dir/deep/file']) writeFileSync(join(inside, path), path)
  symlinkSync('dir', join(inside, 'to-dir'))
  symlinkSync('file', join(inside, 'to-file'))
  symlinkSync('../outside', join(inside, 'to-outside'))
  symlinkSync(`${home}/outside`, join(inside, 'absolute'))
  symlinkSync('loop', join(inside, 'loop'))
  symlinkSync('/proc/self/root', join(inside, 'magic'))
  writeFileSync(Buffer.concat([Buffer.from(`${inside}/`), Buffer.from([0xb2, 0xe2, 0xff])]), 'gbk')
  const root = openDirectory(inside)
  t.after(() => close(root))
  const O_PATH = 0o10000000
  const outcome = (open: typeof openBeneath, path: string, flags: number): string => {
    try {
      const fd = open(root, path, flags)
      const { inoLow: ino, mode } = statAt(fd, '')
      close(fd)
      return `${ino} ${mode}`
    } catch (error) {
      assert.ok(error instanceof SystemError)
      return 'refused'
    }
  }
  const paths = [
    'file',
    'dir',
    'dir/file',
    'dir/deep',
    'dir/deep/file',
    'to-dir',
    'to-dir/file',
    'to-file',
    'to-outside',
    'to-outside/file',
    'absolute',
    'absolute/file',
    'loop',
    'loop/x',
    'magic',
    'magic/etc/passwd',
    '..',
    '../outside/file',
    'dir/../../outside/file',
    '/etc/passwd',
    'missing',
    'missing/x',
    'file/x',
    '\xb2\xe2\xff',
    'x'.repeat(255),
    'x'.repeat(256),
    'dir/'.repeat(1100),
  ]
  let opened = 0
  for (const path of paths) {
    for (const flags of [
      constants.O_RDONLY | constants.O_NOFOLLOW,
      O_PATH | constants.O_NOFOLLOW,
      constants.O_RDONLY | constants.O_DIRECTORY,
    ]) {
      const expected = outcome(openBeneath, path, flags)
      assert.equal(outcome(openByComponents, path, flags), expected, `${JSON.stringify(path)} ${flags}`)
      if (expected !== 'refused') opened++
    }
  }
  assert.ok(opened > 15)
})

test('names of every byte are looked up, listed and read as they are', (t) => {
  const root = temporaryDirectory(t)
  const names: string[] = []
  for (let byte = 1; byte < 256; byte++) if (byte !== 0x2f) names.push(`${String.fromCharCode(byte)}!`)
  names.push('n'.repeat(255), '\xb2\xe2\xca\xd4', '\xff\xfe', ' ', '..a', '...', '-rf', '\u00c3\u00a9')
  for (const name of names)
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name, 'latin1')]), name, 'latin1')
  const tree = openTree(t, root)
  assert.deepEqual(
    listAll(tree).map(({ path }) => path as string),
    ['', ...names.sort()],
  )
  for (const name of names) {
    assert.equal(tree.look(raw(name))?.size, name.length)
    const fd = tree.open(raw(name))
    assert.equal(content(fd), name.slice(0, 100))
  }
})

test('a tree deeper than PATH_MAX is listed as far as rsync takes it, and what is too deep is reported', (t) => {
  const root = temporaryDirectory(t)
  const cwd = process.cwd()
  process.chdir(root)
  for (let i = 0; i < 25; i++) {
    mkdirSync('d'.repeat(200))
    process.chdir('d'.repeat(200))
  }
  process.chdir(cwd)
  const tree = openTree(t, root)
  const failed: FileError[] = []
  let dir = raw('')
  let depth = 0
  for (;;) {
    const found: ReturnType<typeof tree.list> = tree.list(
      dir,
      () => true,
      (error) => failed.push(error),
    )
    if (found === null || found.length === 0) break
    dir = found[0].path
    depth++
  }
  assert.equal(depth, 19) // 19 names of 200 bytes and their slashes are the most below 4000
  assert.match(failed[0].message, /rsync takes 4000/)
  assert.throws(() => tree.look(raw('x'.repeat(4001))), FileError)
  assert.throws(() => tree.open(raw('x'.repeat(70_000))), FileError)
})

test('a root that is replaced is still the one that was entered, until it is entered anew', (t) => {
  const home = temporaryDirectory(t)
  const root = join(home, 'root')
  mkdirSync(root)
  writeFileSync(join(root, 'old'), '')
  const tree = openTree(t, root)
  const before = tree.rootStat().inoLow
  renameSync(root, `${root}.moved`)
  mkdirSync(root)
  writeFileSync(join(root, 'new'), '')
  tree.enter()
  assert.equal(tree.rootStat().inoLow, before, 'two users share one descriptor')
  assert.notEqual(tree.look(raw('old')), null)
  tree.leave()
  tree.leave()
  assert.throws(() => tree.look(raw('old')), FileError, 'nobody has entered')
  tree.enter()
  assert.equal(tree.look(raw('old')), null)
  assert.notEqual(tree.look(raw('new')), null)
  const gone = new SourceTree(fromBytes(Buffer.from(join(home, 'nowhere'))))
  assert.throws(() => gone.enter(), SystemError)
})
