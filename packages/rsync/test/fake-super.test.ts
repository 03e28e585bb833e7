import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, chownSync, closeSync, mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import {
  type FakeStat,
  fakeStat,
  formatFakeStat,
  isFaked,
  parseFakeStat,
  readFakeTarget,
  realMode,
  storeFakeStat,
} from '../src/attributes/fake-super.js'
import { FileError, type RawPath } from '../src/index.js'
import { changeMode, type Place, type Stat, statAt } from '../src/kernel.js'
import { describeXattrs, placeIn, push, setfattr } from './attributes.js'
import { describeTree, temporaryDirectory } from './stage.js'
import { StockDaemon } from './stock.js'

/** What only root can make, of every type. */
function makeTree(root: string): void {
  mkdirSync(join(root, 'dir'))
  mkdirSync(join(root, 'sticky'))
  for (const name of ['plain', 'owned', 'setuid', 'closed', 'group']) writeFileSync(join(root, name), name)
  chownSync(join(root, 'owned'), 1, 2)
  chownSync(join(root, 'group'), 0, 65534)
  chownSync(join(root, 'dir'), 4294967294, 3)
  chmodSync(join(root, 'setuid'), 0o6755)
  chmodSync(join(root, 'closed'), 0)
  chmodSync(join(root, 'sticky'), 0o1077)
  execFileSync('mknod', [join(root, 'char'), 'c', '1', '3'])
  execFileSync('mknod', [join(root, 'block'), 'b', '4095', '1048575'])
  execFileSync('mkfifo', ['-m', '640', join(root, 'fifo')])
  symlinkSync('../where/ever', join(root, 'link'))
}
const PATHS = ['', 'block', 'char', 'closed', 'fifo', 'group', 'link', 'owned', 'plain', 'setuid', 'dir', 'sticky']

/** Makes what a --fake-super receiver makes of `stat`. */
function receive(root: string, at: Place, stat: Stat, target: string): void {
  const path = join(root, at.name)
  if (isFaked(stat.mode)) {
    writeFileSync(path, target)
    chmodSync(path, 0o600)
  }
  const { mode } = statAt(at.dir, at.name)
  changeMode(at.dir, at.name === '' ? '.' : at.name, realMode(mode, stat.mode))
  storeFakeStat(at, statAt(at.dir, at.name), stat)
}

const REAL = '%y %m %U:%G %P\\n'
const reals = (root: string) =>
  execFileSync('find', ['.', '-printf', REAL], { cwd: root }).toString().split('\n').sort()

test('a stock receiver and ours keep the same, in real files with the same modes', async (t) => {
  const [source, destination] = [temporaryDirectory(t), temporaryDirectory(t)]
  makeTree(source)
  const stock = await push(t, 'stock', source, ['-a'], { 'fake super': 'yes' })
  for (const name of ['plain', 'owned', 'setuid', 'closed', 'group']) writeFileSync(join(destination, name), name)
  for (const name of ['dir', 'sticky']) mkdirSync(join(destination, name))
  const [from, to] = [placeIn(t, source), placeIn(t, destination)]
  for (let round = 0; round < 2; round++) {
    for (const path of PATHS) receive(destination, to(path), statAt(from(path).dir, path), '../where/ever')
    assert.deepEqual(describeXattrs(destination), describeXattrs(stock.destination))
    assert.deepEqual(reals(destination), reals(stock.destination))
  }

  // What was kept passes for the original.
  for (const path of PATHS) {
    const real = statAt(from(path).dir, path)
    const faked = fakeStat(to(path), statAt(to(path).dir, path), path as RawPath)
    const facts = ({ mode, uid, gid, rdevMajor, rdevMinor }: Stat) => [mode, uid, gid, rdevMajor, rdevMinor]
    assert.deepEqual(facts(faked), facts(real), path)
  }
  const link = openSync(join(destination, 'link'), 'r')
  assert.equal(readFakeTarget(link), '../where/ever')
  closeSync(link)
})

test('a stock sender restores what we kept', async (t) => {
  const [source, restored] = [temporaryDirectory(t), temporaryDirectory(t)]
  makeTree(source)
  const daemon = await StockDaemon.start(t, 'stock', { 'fake super': 'yes' })
  for (const name of ['plain', 'owned', 'setuid', 'closed', 'group']) writeFileSync(join(daemon.module, name), name)
  for (const name of ['dir', 'sticky']) mkdirSync(join(daemon.module, name))
  const [from, to] = [placeIn(t, source), placeIn(t, daemon.module)]
  for (const path of PATHS) receive(daemon.module, to(path), statAt(from(path).dir, path), '../where/ever')
  await promisify(execFile)('rsync', ['-a', '--no-times', daemon.url, `${restored}/`])
  const timeless = (root: string) =>
    Object.fromEntries(Object.entries(describeTree(root)).map(([path, text]) => [path, text.replace(/@-?\d+/, '')]))
  assert.deepEqual(timeless(restored), timeless(source))
})

test('what the file says itself is not kept, and is forgotten when it comes to that', (t) => {
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), '')
  chmodSync(join(root, 'file'), 0o644)
  const at = placeIn(t, root)('file')
  const real = () => statAt(at.dir, at.name)
  storeFakeStat(at, real(), { ...real(), uid: 7 })
  assert.deepEqual(describeXattrs(root).file, [`user.rsync.%stat=0x${Buffer.from('100644 0,0 7:0').toString('hex')}`])
  storeFakeStat(at, real(), real())
  assert.deepEqual(describeXattrs(root), {})
  storeFakeStat(at, real(), real())
  assert.deepEqual(describeXattrs(root), {})
})

test('what is a device, FIFO or symlink really is not believed to be something else', (t: TestContext) => {
  const root = temporaryDirectory(t)
  makeTree(root)
  const at = placeIn(t, root)
  for (const path of ['char', 'fifo', 'link', 'plain']) {
    const real = statAt(at(path).dir, path)
    assert.equal(fakeStat(at(path), real, path as RawPath), real)
  }
  assert.equal(statSync(join(root, 'char')).isCharacterDevice(), true)
})

test('the text: as stock rsync writes it, and leniently read', (t) => {
  const stat: FakeStat = { mode: 0o60640, rdevMajor: 4095, rdevMinor: 1048575, uid: 4294967294, gid: 0 }
  assert.equal(formatFakeStat(stat), '60640 4095,1048575 4294967294:0')
  assert.deepEqual(parseFakeStat(formatFakeStat(stat)), stat)
  assert.deepEqual(parseFakeStat(' 60640  4095,1048575 -2:0 and more'), stat)
  for (const text of ['', '100644', '100644 0,0 1', '100644 0:0 1,1', '200000 0,0 1:1', '100649 0 0:0'])
    assert.equal(parseFakeStat(text), null, text)

  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), '')
  setfattr(root, 'file', 'user.rsync.%stat', 'no\x01sense')
  const at = placeIn(t, root)('file')
  assert.throws(
    () => fakeStat(at, statAt(at.dir, 'file'), 'file' as RawPath),
    (error) => error instanceof FileError && error.message.includes('Corrupt user.rsync.%stat xattr: "no\\#001sense"'),
  )
})
