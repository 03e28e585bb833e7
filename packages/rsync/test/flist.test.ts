import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeIdList, encodeIdList, FlistDecoder, FlistEncoder, type FlistFormat } from '../src/flist/codec.js'
import { compareEntries, type FileEntry, missing, ProtocolError, type RawPath } from '../src/index.js'
import { Cursor } from '../src/wire/cursor.js'
import { Writer } from '../src/wire/writer.js'
import { everySplit, Feed } from './feed.js'
import { RECORDED_ENTRIES, type Recording, STOCK_323_PROTOCOL_30, STOCK_323_PROTOCOL_31, STOCK_350 } from './golden.js'
import { clientFrames, demultiplex, readClient } from './recorded.js'

const VARINT: FlistFormat = { protocol: 32, varintFlags: true, safeFlist: true }
const BYTES_31: FlistFormat = { protocol: 31, varintFlags: false, safeFlist: true }
const BYTES_30: FlistFormat = { protocol: 30, varintFlags: false, safeFlist: true }
const FORMATS = [VARINT, BYTES_31, BYTES_30]

const RECORDINGS: [Recording, FlistFormat, boolean][] = [
  [STOCK_350, VARINT, true],
  [STOCK_323_PROTOCOL_31, BYTES_31, false],
  [STOCK_323_PROTOCOL_30, BYTES_30, false],
]

/** Protocol 30 carries no nanoseconds. */
const carried = (entries: FileEntry[], { protocol }: FlistFormat) =>
  protocol >= 31 ? entries : entries.map((entry) => ({ ...entry, mtimeNsec: 0 }))

function encodeList(entries: readonly FileEntry[], format: FlistFormat, ioError = false): Buffer {
  const w = new Writer()
  const encoder = new FlistEncoder(format, w)
  for (const entry of entries) encoder.encode(entry)
  encoder.end(ioError ? 1 : 0)
  return w.take()
}

function decodeList(pieces: Buffer[], format: FlistFormat) {
  const feed = new Feed(pieces)
  const decoder = new FlistDecoder(format)
  const entries: FileEntry[] = []
  for (;;) {
    const entry = feed.receive((c) => decoder.decode(c))
    if ('end' in entry) return { entries, ioError: entry.ioError, exhausted: feed.exhausted }
    entries.push(entry)
  }
}

for (const [recording, format, names] of RECORDINGS) {
  const what = `protocol ${format.protocol}, flags in ${format.varintFlags ? 'varints' : 'bytes'}`
  test(`a stock sender's list is read as what was on the disk, wherever TCP cut it (${what})`, () => {
    const { data } = demultiplex([clientFrames(recording.fromClient)])
    for (const pieces of everySplit(data)) {
      const sent = readClient(pieces, { ...format, names })
      assert.ok(sent.exhausted)
      assert.deepEqual(sent.entries.sort(compareEntries), carried(RECORDED_ENTRIES, format))
    }
  })

  test(`our list of the same entries takes no more bytes than the stock sender's (${what})`, () => {
    const { data } = demultiplex([clientFrames(recording.fromClient)])
    const sent = readClient([data], { ...format, names }).entries
    const ours = encodeList(sent, format)
    const theirs = listLength(data, format)
    // Stock rsync may leave out a device's major number when it is that of the device before.
    assert.ok(ours.length <= theirs + 2, `${ours.length} bytes, stock rsync ${theirs}`)
    assert.deepEqual(decodeList([ours], format).entries, sent)
  })
}

function listLength(data: Buffer, format: FlistFormat): number {
  const cursor = new Cursor(data)
  const decoder = new FlistDecoder(format)
  while (!('end' in decoder.decode(cursor)));
  return cursor.pos
}

test('id lists of a stock sender: names of what is listed, and of id 0', () => {
  const { data } = demultiplex([clientFrames(STOCK_350.fromClient)])
  const { ids } = readClient([data], { ...VARINT, names: true })
  assert.deepEqual(ids, [
    new Map([
      [1, 'daemon'],
      [0, 'root'],
    ]),
    new Map([
      [65534, 'nogroup'],
      [2, 'bin'],
      [0, 'root'],
    ]),
  ])
  const w = new Writer()
  for (const map of ids) encodeIdList(w, map, map.get(0) ?? null)
  const ours = w.take()
  assert.ok(data.includes(ours), 'the same bytes as stock rsync wrote')
})

test('an id list comes back, cut anywhere, with and without a name for id 0', () => {
  const names = new Map([
    [1000, 'anna'],
    [4294967294, 'nobody'],
    [70000, '組'],
  ])
  for (const zero of [null, 'root']) {
    const w = new Writer()
    encodeIdList(w, names, zero)
    const expected = zero === null ? names : new Map([...names, [0, zero]])
    for (const pieces of everySplit(w.take())) {
      const feed = new Feed(pieces)
      assert.deepEqual(
        feed.receive((c) => decodeIdList(c, zero !== null)),
        expected,
      )
      assert.ok(feed.exhausted)
    }
  }
})

test('the end of a list says whether it is complete', () => {
  for (const format of FORMATS) {
    for (const ioError of [false, true]) {
      for (const pieces of everySplit(encodeList(RECORDED_ENTRIES, format, ioError))) {
        const { entries, ioError: said, exhausted } = decodeList(pieces, format)
        assert.equal(entries.length, RECORDED_ENTRIES.length)
        assert.equal(said !== 0, ioError)
        assert.ok(exhausted)
      }
    }
  }
})

const name = fc
  .uint8Array({ minLength: 1, maxLength: 255 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replace(/[\0/]/g, '_'))
  .filter((text) => text !== '.' && text !== '..')
const path = fc.array(name, { minLength: 1, maxLength: 20 }).map((names) =>
  names
    .join('/')
    .slice(0, 4095)
    .replace(/\/\.{0,2}$/, ''),
)
const mtime = fc.oneof(
  fc.integer(),
  fc.constantFrom(0, -1, -(2 ** 31), 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, -(2 ** 53) + 1),
)
const size = fc.oneof(fc.nat(), fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER))
const id = fc.oneof(fc.nat(), fc.constantFrom(0xffffffff, 0xfffffffe, 2 ** 31))
const entry: fc.Arbitrary<FileEntry> = fc
  .record({
    path,
    type: fc.constantFrom(0o100000, 0o040000, 0o120000, 0o010000, 0o140000, 0o020000, 0o060000, 0),
    permissions: fc.integer({ min: 0, max: 0o7777 }),
    size,
    mtime,
    mtimeNsec: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 999_999_999 })),
    uid: id,
    gid: id,
    rdevMajor: fc.integer({ min: 0, max: 0xfff }),
    rdevMinor: fc.integer({ min: 0, max: 0xfffff }),
    target: fc.string({ minLength: 1, maxLength: 300 }).map((text) => Buffer.from(text).toString('latin1')),
    hasContent: fc.boolean(),
    group: fc.integer({ min: 0, max: 5 }),
  })
  .map(({ type, permissions, rdevMajor, rdevMinor, target, hasContent, group, ...rest }) => {
    const device = type === 0o020000 || type === 0o060000
    return {
      ...missing(rest.path as RawPath),
      ...rest,
      path: rest.path as RawPath,
      mode: type === 0 ? 0 : type | permissions,
      rdevMajor: device ? rdevMajor : 0,
      rdevMinor: device ? rdevMinor : 0,
      target: type === 0o120000 ? target : '',
      linkGroup: type === 0o100000 && group === 0 ? 'g' : '',
      hasContent: type === 0o040000 && hasContent,
    }
  })

test('any list of entries comes back in every format: names of any bytes, times before 1970, sizes up to 2^53', () => {
  for (const format of FORMATS) {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), (entries) => {
        // Hard links share all but their name.
        const leader = entries.findIndex(({ linkGroup }) => linkGroup !== '')
        const sent = entries.map((one) => (one.linkGroup === '' ? one : { ...entries[leader], path: one.path }))
        const { entries: got, exhausted } = decodeList([encodeList(sent, format)], format)
        assert.ok(exhausted)
        const expected = carried(sent, format).map((one) =>
          one.linkGroup === '' ? one : { ...one, linkGroup: `#${leader}` },
        )
        assert.deepEqual(got, expected)
      }),
      { numRuns: 300 },
    )
  }
})

test('names of 1 to 4095 bytes and of every byte value come back', () => {
  const every = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).filter((c) => c !== '/' && c !== '.')
  const lengths = [1, 2, 127, 128, 254, 255, 256, 257, 511, 512, 1000, 4000, 4094, 4095]
  const long = lengths.map((length) => `${'x/'.repeat(2048)}`.slice(0, length).replace(/\/$/, 'y'))
  const entries = [...every, ...long].map((text) => ({ ...missing(text as RawPath), mode: 0o100644 }))
  for (const format of FORMATS) assert.deepEqual(decodeList([encodeList(entries, format)], format).entries, entries)
})

test('the order of entries: a directory follows the files beside it, and what it holds follows it at once', () => {
  const file = (text: string): FileEntry => ({ ...missing(text as RawPath), mode: 0o100644 })
  const directory = (text: string): FileEntry => ({ ...missing(text as RawPath), mode: 0o040755 })
  const ordered = [
    directory(''),
    file('a.b'),
    file('ab'),
    file('z'),
    directory('a'),
    file('a/z'),
    directory('a/b'),
    file('a/b/c'),
    directory('a-'),
    directory('b'),
  ]
  // `a-` sorts before `a/`, for `-` is below `/`.
  const expected = [...ordered.slice(0, 4), ordered[8], ...ordered.slice(4, 8), ordered[9]]
  for (let i = 0; i < 50; i++) {
    const shuffled = fc.sample(fc.shuffledSubarray(ordered, { minLength: ordered.length }), { numRuns: 1, seed: i })[0]
    assert.deepEqual(
      shuffled.sort(compareEntries).map((one) => one.path),
      expected.map((one) => one.path),
    )
  }
})

test('a name that leaves the destination, or a number that cannot be, is refused', () => {
  const w = new Writer()
  const refused = (write: (w: Writer) => void, why: RegExp) => {
    write(w)
    const bytes = w.take()
    assert.throws(
      () => new FlistDecoder(VARINT).decode(new Cursor(Buffer.concat([bytes, Buffer.alloc(64)]))),
      (error) => error instanceof ProtocolError && why.test(error.message),
    )
  }
  const named = (text: string) => (w: Writer) => {
    w.varint(0x40)
    w.varint(text.length)
    w.latin1(text)
  }
  for (const text of ['..', '../x', 'x/..', 'x/../y', '/etc/passwd', 'x//y', 'x/', './x', 'x/./y', 'a\0b']) {
    refused(named(text), /leaves the destination/)
  }
  refused(named(''), /name length/)
  refused(named('x'.repeat(4096)), /name length/)
  refused((w) => {
    w.varint(0x40)
    w.varint(0x7fffffff)
  }, /name length/)
  refused((w) => {
    w.varint(0x20)
    w.u8(7)
    w.u8(1)
  }, /shared name length/)
  refused((w) => {
    w.varint(0x200)
    w.u8(1)
    w.latin1('x')
    w.varint(3)
  }, /hard link leader/)
  const withSize = (size: number) => (w: Writer) => {
    w.varint(4)
    w.u8(1)
    w.latin1('x')
    w.varlong(size, 3)
  }
  refused(withSize(-1), /file size/)
  refused((w) => {
    w.varint(0x2000)
    w.u8(1)
    w.latin1('x')
    w.varlong(0, 3)
    w.varlong(0, 4)
    w.varint(1_000_000_000)
  }, /nanoseconds/)
  for (const length of [4097, 0x7fffffff, -1]) {
    refused((w) => {
      w.varint(4)
      w.u8(1)
      w.latin1('x')
      w.varlong(0, 3)
      w.varlong(0, 4)
      w.i32(0o120777)
      w.varint(0)
      w.varint(0)
      w.varint(length)
    }, /symlink length/)
  }
})

test('an id list without an end is refused after 2^20 names', () => {
  const pieces: Buffer[] = []
  for (let id = 1; id <= (1 << 20) + 1; id++)
    pieces.push(Buffer.from([0xe0, id & 0xff, (id >> 8) & 0xff, (id >> 16) & 0xff, 0]))
  assert.throws(() => decodeIdList(new Cursor(Buffer.concat(pieces)), false), ProtocolError)
})
