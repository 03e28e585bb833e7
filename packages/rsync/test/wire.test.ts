import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ProtocolError } from '../src/index.js'
import { FRAME_MAX, MSG, NDX_DEL_STATS, NDX_DONE, NDX_FLIST_EOF } from '../src/wire/constants.js'
import { Cursor, UNDERFLOW } from '../src/wire/cursor.js'
import { Demultiplexer, EMPTY_FRAME, encodeFrame, frameHeader } from '../src/wire/mux.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { decodeSumHead, encodeSumHead, type SumHead } from '../src/wire/sum-head.js'
import { Writer } from '../src/wire/writer.js'
import { everySplit, Feed } from './feed.js'
import { STOCK_323_PROTOCOL_30, STOCK_323_PROTOCOL_31, STOCK_350 } from './golden.js'
import { clientFrames, demultiplex, readServer, serverPreamble } from './recorded.js'

const bytesOf = (write: (w: Writer) => void): Buffer => {
  const w = new Writer()
  write(w)
  return w.take()
}
const hexOf = (write: (w: Writer) => void) => bytesOf(write).toString('hex')

function decodesOnlyWhole<T>(bytes: Buffer, decode: (c: Cursor) => T, expected: T): void {
  for (const pieces of everySplit(bytes)) {
    const feed = new Feed(pieces)
    assert.deepEqual(feed.receive(decode), expected)
    assert.ok(feed.exhausted, 'every byte was read')
  }
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(
      () => decode(new Cursor(bytes.subarray(0, length))),
      (error) => error === UNDERFLOW,
    )
  }
}

// As stock rsync 3.5.0 wrote them in the recorded sessions: a size, an id, a device number, flags, nanoseconds.
const VARINTS: [hex: string, value: number][] = [
  ['00', 0],
  ['04', 4],
  ['812c', 300],
  ['81fe', 0x1fe],
  ['a000', 0x2000],
  ['c0feff', 65534],
  ['e715cd5b', 123_456_789],
  ['f0feffffff', -2],
]

test('varint: golden values of stock rsync, both ways', () => {
  for (const [hex, value] of VARINTS) {
    decodesOnlyWhole(Buffer.from(hex, 'hex'), (c) => c.varint(), value)
    assert.equal(
      hexOf((w) => w.varint(value)),
      hex,
    )
  }
})

// Sizes (3 bytes at least) and times (4 at least), also recorded.
const VARLONGS: [hex: string, value: number, minBytes: number][] = [
  ['000000', 0, 3],
  ['000100', 1, 3],
  ['00fc08', 2300, 3],
  ['3a72837b', 981_173_106, 4],
  ['8200dbb56c', 10_413_792_000, 4], // the year 2300
  ['f8800830edffffffff', -315_619_200, 4], // the year 1960
]

test('varlong: golden values of stock rsync, both ways', () => {
  for (const [hex, value, minBytes] of VARLONGS) {
    decodesOnlyWhole(Buffer.from(hex, 'hex'), (c) => c.varlong(minBytes), value)
    assert.equal(
      hexOf((w) => w.varlong(value, minBytes)),
      hex,
    )
  }
})

/** Powers of two and their neighbours, where one byte more or less is needed. */
const edges = (bits: number) => {
  const values = [0]
  for (let bit = 0; bit <= bits; bit++) values.push(2 ** bit - 1, 2 ** bit, 2 ** bit + 1)
  return values
}

test('varint and varlong: every edge and any number comes back', () => {
  const varint = (value: number) => {
    const bytes = bytesOf((w) => w.varint(value))
    const c = new Cursor(bytes)
    assert.equal(c.varint(), value | 0)
    assert.equal(c.remaining, 0)
  }
  const varlong = (value: number) => {
    for (const minBytes of [3, 4]) {
      const c = new Cursor(bytesOf((w) => w.varlong(value, minBytes)))
      assert.equal(c.varlong(minBytes), value, `${value} in at least ${minBytes} bytes`)
      assert.equal(c.remaining, 0)
    }
  }
  for (const value of edges(31)) for (const one of [value, -value]) varint(one)
  for (const value of edges(53))
    if (value <= Number.MAX_SAFE_INTEGER) for (const one of [value, 0 - value]) varlong(one)
  fc.assert(fc.property(fc.integer(), varint))
  fc.assert(fc.property(fc.maxSafeInteger(), varlong))
})

test('varlong: what needs more than 53 bits is refused', () => {
  const beyond = Buffer.from('fc000000000000004000', 'hex')
  assert.throws(() => new Cursor(beyond).varlong(3), ProtocolError)
})

test('varint and varlong: a length that no rsync writes is refused', () => {
  for (const first of [0xf8, 0xfc, 0xfe, 0xff]) {
    assert.throws(() => new Cursor(Buffer.alloc(16, first)).varint(), ProtocolError)
  }
  for (const first of [0xfc, 0xff]) assert.throws(() => new Cursor(Buffer.alloc(16, first)).varlong(4), ProtocolError)
})

test('vstring: 0, 127, 128 and 32767 bytes come back, and cut anywhere', () => {
  for (const length of [0, 1, 127, 128, 255, 256]) {
    const text = 'v'.repeat(length)
    const decode = (c: Cursor) => c.vstring(0x7fff).toString()
    decodesOnlyWhole(
      bytesOf((w) => w.vstring(text)),
      decode,
      text,
    )
  }
  const longest = 'v'.repeat(0x7fff)
  assert.equal(new Cursor(bytesOf((w) => w.vstring(longest))).vstring(0x7fff).toString(), longest)
  // dir/other as the name to link to, from the recorded session.
  assert.equal(
    hexOf((w) => w.vstring('dir/other')),
    '096469722f6f74686572',
  )
})

test('vstring: longer than allowed is refused before it has come', () => {
  assert.throws(() => new Cursor(Buffer.from([0x84, 0x01])).vstring(1024), ProtocolError)
})

test('ndx: forwards by one byte, backwards by five, the end of a phase by one, as stock rsync writes them', () => {
  const codec = new NdxCodec()
  const expected: [hex: string, ndx: number][] = [
    ['01', 0],
    ['02', 2],
    ['12', 20],
    ['fe80110000', 17], // the link `dir/other` in the recorded sessions
    ['00', NDX_DONE],
    ['ff02', NDX_DEL_STATS],
  ]
  for (const [hex, ndx] of expected) {
    assert.equal(
      hexOf((w) => codec.encode(w, ndx)),
      hex,
    )
  }
})

test('ndx: every form comes back, cut anywhere', () => {
  const indexes = [2, 6, 8, NDX_DONE, 300, 0, 40_000, 100_000, 99_999, NDX_DEL_STATS, NDX_FLIST_EOF, 2 ** 31 - 1]
  const written = bytesOf((w) => {
    const codec = new NdxCodec()
    for (const ndx of indexes) codec.encode(w, ndx)
  })
  for (const pieces of everySplit(written)) {
    const feed = new Feed(pieces)
    const codec = new NdxCodec()
    for (const ndx of indexes)
      assert.equal(
        feed.receive((c) => codec.decode(c)),
        ndx,
      )
    assert.ok(feed.exhausted)
  }
})

test('ndx: any list of indexes comes back', () => {
  const ndx = fc.oneof(
    fc.integer({ min: 0, max: 2 ** 31 - 1 }),
    fc.integer({ min: 0, max: 600 }),
    fc.constantFrom(-1, -2, -3, -101),
  )
  fc.assert(
    fc.property(fc.array(ndx), (indexes) => {
      const w = new Writer()
      const encoder = new NdxCodec()
      for (const one of indexes) encoder.encode(w, one)
      const c = new Cursor(w.take())
      const decoder = new NdxCodec()
      assert.deepEqual(
        indexes.map(() => decoder.decode(c)),
        indexes,
      )
      assert.equal(c.remaining, 0)
    }),
  )
})

// Of `delta` in the recorded session: 4 blocks of 700 bytes, the last one of 185 bytes, 2 bytes of each strong sum.
const SUM_HEAD = Buffer.from('04000000bc02000002000000b9000000', 'hex')
const HEAD: SumHead = { count: 4, blockLength: 700, s2Length: 2, remainder: 185 }

test('sum head: decodes alike wherever TCP cut it', () => {
  decodesOnlyWhole(SUM_HEAD, (c) => decodeSumHead(c, 16), HEAD)
  assert.deepEqual(
    bytesOf((w) => encodeSumHead(w, HEAD)),
    SUM_HEAD,
  )
})

test('frames: header and payload as stock rsync writes them', () => {
  assert.equal(EMPTY_FRAME.toString('hex'), '00000007')
  assert.equal(frameHeader(MSG.DATA, 0x3df).toString('hex'), 'df030007') // head of the 3.5.0 client's file list
  assert.equal(frameHeader(MSG.DATA, FRAME_MAX).toString('hex'), 'ffffff07')
  assert.equal(encodeFrame(MSG.DELETED, Buffer.from('a\0')).toString('hex'), '0200006c6100')
})

test('frames: data and messages come out alike wherever TCP cut them', () => {
  const stream = Buffer.concat([
    encodeFrame(MSG.DATA, Buffer.from('abc')),
    encodeFrame(MSG.INFO, Buffer.from('hello')),
    EMPTY_FRAME,
    encodeFrame(MSG.NOOP, Buffer.alloc(0)),
    encodeFrame(MSG.DATA, Buffer.from('def')),
    encodeFrame(MSG.DELETED, Buffer.from('gone\0')),
  ])
  const messages = [
    { tag: MSG.INFO, payload: Buffer.from('hello').toString('hex') },
    { tag: MSG.NOOP, payload: '' },
    { tag: MSG.DELETED, payload: Buffer.from('gone\0').toString('hex') },
  ]
  for (const pieces of everySplit(stream))
    assert.deepEqual(demultiplex(pieces), { data: Buffer.from('abcdef'), messages })
})

test('frames: the messages of whole stock sessions come out alike wherever TCP cut them', () => {
  for (const recording of [STOCK_350, STOCK_323_PROTOCOL_31, STOCK_323_PROTOCOL_30]) {
    for (const frames of [clientFrames(recording.fromClient), serverPreamble(recording.fromServer).frames]) {
      const whole = demultiplex([frames])
      for (const pieces of everySplit(frames)) assert.deepEqual(demultiplex(pieces), whole)
    }
  }
})

test('frames: what is not a frame, and a message that is too long, are refused at once', () => {
  const push = (hex: string) => () =>
    new Demultiplexer(
      () => undefined,
      () => undefined,
    ).push(Buffer.from(hex, 'hex'))
  assert.throws(push('00000006'), ProtocolError)
  assert.throws(push('00000000'), ProtocolError)
  assert.throws(push('01000109'), ProtocolError) // MSG_INFO of 64 KiB and a byte
  push('00000109')
})

test("the generator's side of stock sessions is read to the last byte, wherever it is cut", () => {
  const expected: [typeof STOCK_350, number, number][] = [
    [STOCK_350, 0x1fe, 5],
    [STOCK_323_PROTOCOL_31, 0x7e, 5],
    [STOCK_323_PROTOCOL_30, 0x7e, 4],
  ]
  for (const [recording, compatFlags, goodbyes] of expected) {
    const preamble = serverPreamble(recording.fromServer)
    assert.equal(preamble.compatFlags, compatFlags)
    assert.equal(preamble.seed, 1) // as asked for by --checksum-seed
    const { data, messages } = demultiplex([preamble.frames])
    assert.deepEqual(messages, [])
    for (const pieces of everySplit(data)) {
      const { requests, exhausted } = readServer(pieces, goodbyes)
      assert.ok(exhausted)
      assert.deepEqual(
        requests.filter(({ head }) => head !== null && head.count > 0).map(({ ndx, head }) => ({ ndx, head })),
        [{ ndx: 2, head: HEAD }],
      )
      const link = requests.filter(({ xname }) => xname !== '')
      assert.deepEqual(
        link.map(({ ndx, xname }) => [ndx, xname]),
        [[17, 'dir/other']],
      )
    }
  }
})
