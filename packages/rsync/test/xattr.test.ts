import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, constants, mkdirSync, openSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  applyXattrs,
  askForXattrs,
  carriesXattrs,
  copyXattrs,
  decodeXattrRequest,
  decodeXattrValue,
  describeXattrFailure,
  encodeXattrRequest,
  encodeXattrValues,
  FULL_MAX,
  type Power,
  readXattrs,
  sameXattrs,
  XattrCodec,
  type XattrRules,
  type Xattrs,
} from '../src/attributes/xattr.js'
import { compareEntries, type FileEntry, missing, ProtocolError, type RawPath, SystemError } from '../src/index.js'
import {
  close,
  forgetXattrat,
  getXattr,
  listXattrs,
  openDirectory,
  type Place,
  removeXattr,
  setXattr,
  statAt,
  XATTR_SIZE_MAX,
} from '../src/kernel.js'
import { ITEM, NDX_DEL_STATS, NDX_DONE } from '../src/wire/constants.js'
import { Cursor } from '../src/wire/cursor.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { decodeSumHead } from '../src/wire/sum-head.js'
import { decodePlainToken } from '../src/wire/token.js'
import {
  decoded,
  describeXattrs,
  encoded,
  formatOf,
  type Push,
  placeIn,
  push,
  readList,
  Spy,
  setfattr,
} from './attributes.js'
import { everySplit, Feed } from './feed.js'
import { temporaryDirectory } from './stage.js'
import { VERSIONS } from './stock.js'

const SENDER: XattrRules = { power: 'super', sender: true, all: false }
const RECEIVER: XattrRules = { power: 'super', sender: false, all: false }
const rules = (power: Power, sender: boolean, all = false): XattrRules => ({ power, sender, all })

/** Every namespace, type of file and length that matters. */
function makeTree(root: string): void {
  mkdirSync(join(root, 'dir/deep'), { recursive: true })
  for (const name of ['a', 'b', 'c', 'dir/file', 'bare']) writeFileSync(join(root, name), name)
  for (const name of ['a', 'b', 'dir/file']) {
    setfattr(root, name, 'user.short', 'equal in three files')
    setfattr(root, name, 'user.long', 'x'.repeat(2000))
  }
  setfattr(root, 'b', 'user.only-b', '')
  setfattr(root, 'b', 'user.at-the-limit', `0x${'ab'.repeat(FULL_MAX)}`)
  setfattr(root, 'b', 'user.above-it', `0x${'ab'.repeat(FULL_MAX + 1)}`)
  setfattr(root, 'b', 'trusted.hidden', 'for root')
  setfattr(root, 'b', 'security.thing', '0x00ff00')
  setfattr(root, 'b', 'user.rsync.%stat', '100644 0,0 1:1')
  setfattr(root, 'b', 'user.rsync.plain', 'no percent')
  setfattr(root, 'b', 'user.\xff\xfe', 'a name of bytes')
  setfattr(root, 'dir', 'user.dir', 'd'.repeat(100))
  setfattr(root, 'dir/deep', 'user.dir', 'd'.repeat(101))
  for (let i = 0; i < 60; i++) setfattr(root, 'c', `user.many-${i}`, `value ${i}`)
  symlinkSync('a', join(root, 'link'))
  setfattr(root, 'link', 'trusted.link', 'of the link')
  execFileSync('mkfifo', [join(root, 'fifo')])
  setfattr(root, 'fifo', 'trusted.fifo', 'of the fifo')
  execFileSync('ln', [join(root, 'c'), join(root, 'hard')])
  setfattr(root, 'bare', 'user.secret', 'behind mode 0')
  chmodSync(join(root, 'bare'), 0)
}

const files = ['a', 'b', 'c', 'bare', 'dir', 'dir/file', 'dir/deep', 'link', 'fifo', 'hard']

/** Where the tree's entry is: a place in its own directory. */
function placesOf(t: TestContext, root: string): (path: string) => Place {
  const top = placeIn(t, root)
  const inDir = placeIn(t, join(root, 'dir'))
  return (path) => (path.startsWith('dir/') ? inDir(path.slice(4)) : top(path))
}

for (const version of VERSIONS) {
  for (const protocol of version === 'stock' ? [30, 31, 32] : [30, 31]) {
    test(`the list of a sender (rsync ${version}, protocol ${protocol}): read as on its disk, and ours has the same bytes`, async (t) => {
      const source = temporaryDirectory(t)
      makeTree(source)
      const stock = await push(t, version, source, ['-aXH', `--protocol=${protocol}`])
      const codec = new XattrCodec(RECEIVER)
      const spy = new Spy(codec, stock.client)
      const entries = readList(new Cursor(stock.client), formatOf(stock, [spy]))
      assert.equal(entries.length, 11)

      const at = placesOf(t, source)
      const ours = new XattrCodec(SENDER)
      for (const entry of entries) {
        const onDisk = readXattrs(at(entry.path), SENDER)
        assert.ok(sameXattrs(entry.xattrs as Xattrs, onDisk), entry.path)
        const copy = { ...entry, xattrs: onDisk }
        assert.equal(encoded((w) => ours.encode(w, copy)).toString('hex'), spy.taken.get(entry), entry.path)
      }
      const of = (path: string) => entries.find((entry) => entry.path === path)?.xattrs as Xattrs
      assert.equal(of('a'), of('dir/file'), 'equal lists are shared')
      const names = of('b').map(({ name }) => name)
      assert.ok(names.includes('user.rsync.plain') && !names.includes('user.rsync.%stat'), `${names}`)
      assert.ok(names.includes('security.thing') && names.includes('trusted.hidden'))
    })
  }
}

/** Items of one direction, with what they say of attributes. */
function readItems(bytes: Buffer, start: number, stock: Push, entries: FileEntry[], fromSender: boolean) {
  const c = new Cursor(bytes)
  c.bytes(start)
  const ndxs = new NdxCodec()
  const found: { entry: FileEntry; bytes: string; asked: string[] }[] = []
  for (let done = 0; done < 3; ) {
    const ndx = ndxs.decode(c)
    if (ndx === NDX_DONE) {
      done++
      continue
    }
    if (ndx === NDX_DEL_STATS) {
      for (let i = 0; i < 5; i++) c.varint()
      continue
    }
    const entry = entries[ndx]
    const iflags = c.u16()
    if (iflags & ITEM.BASIS_TYPE_FOLLOWS) c.u8()
    if (iflags & ITEM.XNAME_FOLLOWS) c.vstring(4096)
    if (carriesXattrs(iflags, stock.protocol, stock.compatFlags)) {
      const list = entry.xattrs as Xattrs
      const from = c.pos
      const asked: string[] = []
      if (fromSender) {
        for (let num = 0; ; ) {
          const answer = decodeXattrValue(c, list, num)
          if (answer === 'end') break
          num = answer.item.num
          answer.item.value = answer.value
          asked.push(answer.item.name)
        }
      } else asked.push(...decodeXattrRequest(c, list).map(({ name }) => name))
      found.push({ entry, bytes: bytes.toString('hex', from, c.pos), asked })
    }
    if (!(iflags & ITEM.TRANSFER)) continue
    const head = decodeSumHead(c, 16)
    if (!fromSender) c.bytes(head.count * (4 + head.s2Length))
    else {
      while (decodePlainToken(c) !== 'end');
      c.bytes(16)
    }
  }
  return found
}

for (const protocol of [30, 31, 32]) {
  test(`long values (protocol ${protocol}): what a stock generator asks for and a stock sender answers, and ours the same`, async (t) => {
    const source = temporaryDirectory(t)
    makeTree(source)
    const stock = await push(t, 'stock', source, ['-aXH', `--protocol=${protocol}`])
    const format = formatOf(stock, [new XattrCodec(RECEIVER)])
    const end = (() => {
      const c = new Cursor(stock.client)
      readList(c, format)
      // Lists of ids: each ends with id 0 and, by compat flag ID0_NAMES, its name.
      for (let i = 0; i < 2; i++) {
        while (c.varint() !== 0) c.bytes(c.u8())
        if (stock.compatFlags & 0x100) c.bytes(c.u8())
      }
      return c.pos
    })()
    const sorted = () => {
      const codec = new XattrCodec(RECEIVER)
      return readList(new Cursor(stock.client), formatOf(stock, [codec])).sort(compareEntries)
    }

    // The generator: everything is new at the destination, each long value is asked for once.
    const entries = sorted()
    const requests = readItems(stock.server, 0, stock, entries, false)
    assert.ok(requests.some(({ asked }) => asked.includes('user.long')))
    for (const { entry, bytes } of requests) {
      const asked = askForXattrs(entry.xattrs as Xattrs, [])
      assert.equal(encoded((w) => encodeXattrRequest(w, asked)).toString('hex'), bytes, entry.path)
    }

    // The sender.
    const at = placesOf(t, source)
    const sending = new Map(entries.map(({ path, xattrs }) => [path, xattrs as Xattrs]))
    for (const list of new Set(sending.values())) for (const item of list) item.asked = false
    const sent = sorted()
    for (const { xattrs } of sent) for (const item of xattrs as Xattrs) item.asked = true
    const answers = readItems(stock.client, end, stock, sent, true)
    assert.equal(answers.length, requests.length)
    for (const [i, { entry, bytes }] of answers.entries()) {
      const list = sending.get(entry.path) as Xattrs
      for (const item of decoded(Buffer.from(requests[i].bytes, 'hex'), (c) => decodeXattrRequest(c, list)))
        item.asked = true
      const ours = encoded((w) => encodeXattrValues(w, list, at(entry.path), (error) => assert.fail(error)))
      assert.equal(ours.toString('hex'), bytes, entry.path)
    }
    const lists = new Map(sent.map(({ path, xattrs }) => [path, xattrs as Xattrs]))
    const long = lists.get('dir/file' as RawPath)?.find(({ name }) => name === 'user.long')
    assert.equal(long?.value?.toString(), 'x'.repeat(2000), 'it was sent for the first file that shares the list')
  })
}

/** One entry's attributes from a sender's disk to a receiver's, as a session does it. */
async function transfer(from: Place, to: Place, receiver: XattrCodec, sender: XattrCodec, mode: number) {
  const entry = { ...missing('x' as RawPath), mode, xattrs: readXattrs(from, sender.rules) }
  const list = decoded(
    encoded((w) => sender.encode(w, entry)),
    (c) => {
      const copy = { ...entry, xattrs: null as unknown }
      receiver.decode(c, copy)()
      return copy.xattrs as Xattrs
    },
  )
  const asked = askForXattrs(list, readXattrs(to, receiver.rules))
  const request = encoded((w) => encodeXattrRequest(w, asked))
  const source = entry.xattrs as Xattrs
  for (const item of decoded(request, (c) => decodeXattrRequest(c, source))) item.asked = true
  const answer = encoded((w) => encodeXattrValues(w, source, from, (error) => assert.fail(error)))
  const feed = new Feed(Array.from({ length: answer.length }, (_, i) => answer.subarray(i, i + 1)))
  await receiver.receiveValues({ receive: async (_, decode) => feed.receive(decode) }, list)
  assert.ok(feed.exhausted)
  const failures = applyXattrs(to, list, { rules: receiver.rules, mode })
  return { list, asked: asked.map(({ name }) => name), failures }
}

test('what was at the destination is replaced: added, changed, removed, and left where it was equal', async (t) => {
  const [source, destination] = [temporaryDirectory(t), temporaryDirectory(t)]
  makeTree(source)
  makeTree(destination)
  setfattr(destination, 'a', 'user.long', 'y'.repeat(2000))
  setfattr(destination, 'b', 'user.short', 'other')
  setfattr(destination, 'b', 'user.extra', 'to go')
  setfattr(destination, 'b', 'trusted.extra', 'to go')
  setfattr(destination, 'dir', 'user.extra', 'to go')
  setfattr(destination, 'link', 'trusted.link', 'other')
  execFileSync('setfattr', ['-x', 'user.at-the-limit', join(destination, 'b')])
  const [from, to] = [placesOf(t, source), placesOf(t, destination)]
  const [sender, receiver] = [new XattrCodec(SENDER), new XattrCodec(RECEIVER)]
  const asked: Record<string, string[]> = {}
  for (const path of files) {
    const at = to(path)
    const result = await transfer(from(path), at, receiver, sender, statAt(at.dir, at.name).mode)
    assert.deepEqual(result.failures, [])
    if (result.asked.length > 0) asked[path] = result.asked
  }
  assert.deepEqual(asked, { a: ['user.long'] }, 'only what differs')
  // With one -X the attributes of --fake-super do not travel, so they are not wanted here.
  const expected = describeXattrs(source, /^(?!user\.rsync\.%stat)/)
  assert.deepEqual(describeXattrs(destination), expected)
  assert.equal(Object.keys(expected).length, files.length)
})

test('a stock receiver and ours make the same of one tree', async (t) => {
  const [source, destination] = [temporaryDirectory(t), temporaryDirectory(t)]
  makeTree(source)
  makeTree(destination)
  const stock = await push(t, 'stock', source, ['-aXH'])
  const [from, to] = [placesOf(t, source), placesOf(t, destination)]
  const [sender, receiver] = [new XattrCodec(SENDER), new XattrCodec(RECEIVER)]
  for (const path of files) {
    const at = to(path)
    for (const name of listXattrs(at)) removeXattr(at, name)
    await transfer(from(path), at, receiver, sender, statAt(at.dir, at.name).mode)
  }
  assert.deepEqual(describeXattrs(destination), describeXattrs(stock.destination))
})

test('a value that the basis file has need not come; without it that attribute fails alone', (t) => {
  const root = temporaryDirectory(t)
  for (const name of ['source', 'basis', 'target', 'other']) writeFileSync(join(root, name), '')
  for (const name of ['source', 'basis']) setfattr(root, name, 'user.long', 'z'.repeat(500))
  setfattr(root, 'source', 'user.short', 's')
  const at = placeIn(t, root)
  const received = () => {
    const entry = { ...missing('x' as RawPath), mode: 0o100644, xattrs: readXattrs(at('source'), SENDER) }
    const bytes = encoded((w) => new XattrCodec(SENDER).encode(w, entry))
    decoded(bytes, (c) => new XattrCodec(RECEIVER).decode(c, entry)())
    return entry.xattrs as Xattrs
  }
  const options = { rules: RECEIVER, mode: 0o100644 }
  const failures = applyXattrs(at('other'), received(), options)
  assert.deepEqual(
    failures.map((failure) => describeXattrFailure(failure, '"/other"')),
    ['Missing abbreviated xattr value, user.long, for "/other"'],
  )
  const list = received()
  assert.deepEqual(applyXattrs(at('target'), list, { ...options, basis: at('basis') }), [])
  assert.deepEqual(applyXattrs(at('other'), list, options), [], 'once seen, the value serves every file of the list')
  const expected = describeXattrs(root).source
  assert.deepEqual(describeXattrs(root), { source: expected, basis: [expected[0]], target: expected, other: expected })
})

test('without root only user.* is written, and a file without write permission is made writable meanwhile', (t) => {
  const root = temporaryDirectory(t)
  for (const name of ['source', 'target', 'foreign']) writeFileSync(join(root, name), '')
  chmodSync(root, 0o755)
  chmodSync(join(root, 'target'), 0o444)
  chownSync(join(root, 'target'), 65534, 65534)
  setfattr(root, 'source', 'user.a', '1')
  setfattr(root, 'source', 'trusted.b', '2')
  setfattr(root, 'target', 'user.old', '3')
  setfattr(root, 'target', 'trusted.kept', '4')
  const at = placeIn(t, root)
  const user = rules('user', false)
  const entry = { ...missing('x' as RawPath), mode: 0o100644, xattrs: readXattrs(at('source'), SENDER) }
  decoded(
    encoded((w) => new XattrCodec(SENDER).encode(w, entry)),
    (c) => new XattrCodec(user).decode(c, entry)(),
  )
  const list = entry.xattrs as Xattrs
  assert.deepEqual(
    list.map(({ name, num }) => [name, num]),
    [['user.a', 2]],
  )
  const asNobody = (run: () => void) => {
    process.seteuid?.(65534)
    try {
      run()
    } finally {
      process.seteuid?.(0)
    }
  }
  asNobody(() => {
    assert.ok(!sameXattrs(list, readXattrs(at('target'), user)))
    assert.deepEqual(applyXattrs(at('target'), list, { rules: user, mode: 0o100444 }), [])
    assert.ok(sameXattrs(list, readXattrs(at('target'), user)))
    const [failure] = applyXattrs(at('foreign'), list, { rules: user, mode: 0o100644 })
    assert.equal(
      describeXattrFailure(failure, '"/m/foreign"'),
      'rsync_xal_set: lsetxattr("/m/foreign","user.a") failed: Permission denied (13)',
    )
  })
  assert.deepEqual(describeXattrs(root).target, ['trusted.kept=0x34', 'user.a=0x31'])
  assert.equal(statSync(join(root, 'target')).mode & 0o7777, 0o444)
})

test('--fake-super: other namespaces are hidden in its own, and come out again; its own names travel only with -XX', (t) => {
  const root = temporaryDirectory(t)
  for (const name of ['source', 'hidden', 'again']) writeFileSync(join(root, name), '')
  setfattr(root, 'source', 'trusted.t', '1')
  setfattr(root, 'source', 'security.s', '2')
  setfattr(root, 'source', 'user.u', '3')
  setfattr(root, 'source', 'user.rsync.%stat', '100644 0,0 5:5')
  for (const own of ['%stat', '%aacl', '%dacl']) setfattr(root, 'hidden', `user.rsync.${own}`, '100600 0,0 7:7')
  const at = placeIn(t, root)
  const carry = (from: string, to: string, sending: XattrRules, receiving: XattrRules) => {
    const entry = { ...missing('x' as RawPath), mode: 0o100644, xattrs: readXattrs(at(from), sending) }
    const bytes = encoded((w) => new XattrCodec(sending).encode(w, entry))
    decoded(bytes, (c) => new XattrCodec(receiving).decode(c, entry)())
    assert.deepEqual(applyXattrs(at(to), entry.xattrs as Xattrs, { rules: receiving, mode: 0o100644 }), [])
    return describeXattrs(root)[to]
  }
  const own = ['%aacl', '%dacl', '%stat'].map((name) => `user.rsync.${name}=0x${hex('100600 0,0 7:7')}`)
  const others = ['user.rsync.security.s=0x32', 'user.rsync.trusted.t=0x31', 'user.u=0x33']
  assert.deepEqual(carry('source', 'hidden', SENDER, rules('fake', false)), [...own, ...others])
  assert.deepEqual(carry('hidden', 'again', rules('fake', true), RECEIVER), [
    'security.s=0x32',
    'trusted.t=0x31',
    'user.u=0x33',
  ])
  const all = carry('source', 'again', rules('super', true, true), rules('super', false, true))
  assert.ok(all.includes(`user.rsync.%stat=0x${hex('100644 0,0 5:5')}`), `${all}`)
})
const hex = (text: string) => Buffer.from(text).toString('hex')

test('a copy gets the attributes of the original', (t) => {
  const root = temporaryDirectory(t)
  for (const name of ['from', 'to']) writeFileSync(join(root, name), '')
  setfattr(root, 'from', 'user.u', 'u'.repeat(3000))
  setfattr(root, 'from', 'trusted.t', 't')
  execFileSync('setfacl', ['-m', 'u:1:r', join(root, 'from')])
  const at = placeIn(t, root)
  copyXattrs(at('from'), at('to'), RECEIVER)
  assert.deepEqual(describeXattrs(root).to, [`trusted.t=0x74`, `user.u=0x${hex('u'.repeat(3000))}`])
  removeXattr(at('to'), 'user.u')
  removeXattr(at('to'), 'trusted.t')
  copyXattrs(at('from'), at('to'), rules('user', false))
  assert.deepEqual(describeXattrs(root).to, [`user.u=0x${hex('u'.repeat(3000))}`])
})

test('a list is read alike wherever it was cut, and what has not arrived leaves no trace', () => {
  const value = (name: string, length: number) => {
    const bytes = Buffer.alloc(length, name)
    const sum = length > FULL_MAX ? Buffer.alloc(16, 7) : null
    return { name, length, sum, value: sum === null ? bytes : null, num: 0, asked: false }
  }
  const lists: Xattrs[] = [[value('user.a', 3), value('user.b', 70_000)], [], [value('user.a', 3)]]
  const order = [0, 1, 2, 0, 2]
  const bytes = encoded((w) => {
    const codec = new XattrCodec(SENDER)
    for (const i of order) codec.encode(w, { ...missing('x' as RawPath), xattrs: lists[i] })
  })
  for (const pieces of everySplit(bytes)) {
    const feed = new Feed(pieces)
    const codec = new XattrCodec(RECEIVER)
    const read = order.map(() => {
      const entry = missing('x' as RawPath)
      feed.receive((c) => codec.decode(c, entry))()
      return entry.xattrs as Xattrs
    })
    assert.ok(feed.exhausted)
    for (const [i, of] of order.entries()) assert.ok(sameXattrs(read[i], lists[of]))
    assert.ok(read[0] === read[3] && read[2] === read[4])
  }
})

/** A literal list as a peer may send it. */
function literal(count: number, ...items: [name: string, length: number, bytes: Buffer][]): Buffer {
  return encoded((w) => {
    w.varint(0)
    w.varint(count)
    for (const [name, length, bytes] of items) {
      w.varint(name.length)
      w.varint(length)
      w.latin1(name)
      w.bytes(bytes)
    }
  })
}
const readHostile = (bytes: Buffer, codec = new XattrCodec(RECEIVER)) => {
  const entry = missing('x' as RawPath)
  codec.decode(new Cursor(bytes), entry)()
  return entry.xattrs as Xattrs
}

test('lists that no sender sends end the session before they cost anything', () => {
  const one = Buffer.from('1')
  const bad: [string, Buffer, RegExp][] = [
    ['count', literal(65537), /number of extended attributes: 65537/],
    ['negative count', literal(-1), /number of extended attributes: -1/],
    ['index', encoded((w) => w.varint(1)), /extended attribute list: 1/],
    ['negative index', encoded((w) => w.varint(-1)), /extended attribute list: -1/],
    ['no name', literal(1, ['', 1, one]), /length of an attribute name: 0/],
    ['long name', literal(1, [`${'n'.repeat(1024)}\0`, 1, one]), /length of an attribute name: 1025/],
    ['negative length', literal(1, ['user.a\0', -1, one]), /length of an attribute value: -1/],
    ['no NUL', literal(1, ['user.a', 1, one]), /attribute name/],
    ['NUL inside', literal(1, ['user\0a\0', 1, one]), /attribute name/],
  ]
  for (const [what, bytes, problem] of bad) {
    assert.throws(
      () => readHostile(bytes),
      (error) => error instanceof ProtocolError && problem.test(error.message),
      what,
    )
  }
  const many = Array.from({ length: 2000 }, (_, i): [string, number, Buffer] => {
    return [`user.${i}-${'n'.repeat(600)}\0`, 1, one]
  })
  assert.equal(readHostile(literal(1000, ...many)).length, 1000)
  assert.throws(() => readHostile(literal(2000, ...many)), /extended attribute list: 104\d{4} is not/)
  // Names that are not for who is not root are dropped, but have cost their bytes.
  const codec = new XattrCodec(rules('user', false))
  const foreign = many.slice(0, 1600).map(([name, ...rest]): [string, number, Buffer] => [`trusted${name}`, ...rest])
  const bytes = literal(foreign.length, ...foreign)
  const full = () => {
    for (let taken = 0; taken <= 2 ** 28; taken += bytes.length - 1) assert.equal(readHostile(bytes, codec).length, 0)
  }
  assert.throws(full, /extended attributes of the session/)
})

test('requests and answers that name nothing long, or nothing missing, end the session', () => {
  const list = readHostile(literal(2, ['user.a\0', 40, Buffer.alloc(16)], ['user.b\0', 1, Buffer.from('1')]))
  const request = (...numbers: number[]) => encoded((w) => numbers.forEach((n) => void w.varint(n)))
  for (const numbers of [
    [2, 0],
    [3, 0],
    [-1, 0],
    [0x7fffffff, 0x7fffffff, 0],
  ])
    assert.throws(() => decoded(request(...numbers), (c) => decodeXattrRequest(c, list)), ProtocolError)
  assert.throws(() => decoded(request(1, 1, -1, 0), (c) => decodeXattrRequest(c, list)), ProtocolError)
  const value = (length: number) => encoded((w) => [1, length].forEach((n) => void w.varint(n)))
  assert.throws(() => decodeXattrValue(new Cursor(value(1)), list, 0), /not missing/)
  list[0].asked = true
  assert.throws(() => decodeXattrValue(new Cursor(value(2 ** 20 + 1)), list, 0), /length of an attribute value/)
  assert.throws(() => decodeXattrValue(new Cursor(value(-1)), list, 0), /length of an attribute value/)
})

test('a value longer than Linux keeps is not asked for', () => {
  const list = readHostile(
    literal(2, ['user.a\0', XATTR_SIZE_MAX + 1, Buffer.alloc(16)], ['user.b\0', XATTR_SIZE_MAX, Buffer.alloc(16)]),
  )
  assert.deepEqual(
    askForXattrs(list, []).map(({ name }) => name),
    ['user.b'],
  )
  assert.deepEqual(askForXattrs(list, []), [], 'and nothing twice')
})

test('whether item flags are followed by values', () => {
  const link = ITEM.REPORT_XATTR | ITEM.XNAME_FOLLOWS | ITEM.LOCAL_CHANGE
  assert.equal(carriesXattrs(ITEM.TRANSFER, 31, 0), false)
  assert.equal(carriesXattrs(ITEM.REPORT_XATTR, 31, 0), true)
  assert.deepEqual(
    [30, 31].map((protocol) => carriesXattrs(link, protocol, 0)),
    [true, false],
  )
  assert.equal(carriesXattrs(link, 31, 0x10), true)
})

// The last test: it changes how the rest of this process calls the kernel.
test('the kernel: descriptors, names, the directory itself and symlinks, with and without the calls of Linux 6.13', (t) => {
  const root = temporaryDirectory(t)
  mkdirSync(join(root, 'dir'))
  writeFileSync(join(root, 'file'), '')
  symlinkSync('/etc/passwd', join(root, 'link'))
  const dir = openSync(root, 0o10000000 | constants.O_DIRECTORY) // O_PATH
  const real = openDirectory(root)
  t.after(() => [dir, real].forEach(close))
  const cwd = process.cwd()
  const places: [Place, string, string][] = [
    [{ dir, name: 'file' }, 'user.x', 'file'],
    [{ dir: -1, name: '', fd: openSync(join(root, 'file'), 'r') }, 'user.fd', 'file'],
    [{ dir, name: 'link' }, 'trusted.x', 'link'],
    [{ dir, name: 'dir' }, 'user.x', 'dir'],
    [{ dir, name: '' }, 'user.root', '.'],
    [{ dir: real, name: '' }, 'user.real', '.'],
  ]
  for (const how of ['xattrat', 'fchdir']) {
    if (how === 'fchdir') forgetXattrat()
    for (const [at, name, path] of places) {
      const value = Buffer.from(`${how}${path}`.repeat(300))
      assert.equal(getXattr(at, name), null)
      setXattr(at, name, value)
      assert.deepEqual(getXattr(at, name), value)
      assert.ok(listXattrs(at).includes(name))
      assert.deepEqual(describeXattrs(root)[path], [`${name}=0x${value.toString('hex')}`])
      removeXattr(at, name)
      removeXattr(at, name)
      assert.deepEqual(listXattrs(at), [])
    }
    const file = places[0][0]
    const wrong = (code: string, run: () => void) =>
      assert.throws(run, (error) => error instanceof SystemError && error.code === code)
    wrong('ENOENT', () => listXattrs({ dir, name: 'nothing' }))
    wrong('EPERM', () => setXattr(places[2][0], 'user.x', Buffer.alloc(1)))
    wrong('E2BIG', () => setXattr(file, 'user.x', Buffer.alloc(XATTR_SIZE_MAX + 1)))
    assert.equal(getXattr(file, 'unknown.space'), null)
    assert.equal(process.cwd(), cwd)
  }
  assert.deepEqual(listXattrs({ dir: openDirectory('/proc'), name: 'version' }), [], 'a filesystem without them')
})
