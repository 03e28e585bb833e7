import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeEvents, encodeEvents, fromBytes, IN, type InotifyEvent, toBytes } from '../src/index.js'

const name = (text: string) => fromBytes(Buffer.from(text, 'latin1'))

// As the kernel wrote it: mkdir sub, then an overflow.
const BYTES = Buffer.from(
  '01000000 00010040 00000000 10000000 73756200000000000000000000000000 ffffffff 00400000 00000000 00000000'.replaceAll(
    ' ',
    '',
  ),
  'hex',
)
const EVENTS: InotifyEvent[] = [
  { wd: 1, mask: IN.CREATE | IN.ISDIR, cookie: 0, name: name('sub') },
  { wd: -1, mask: IN.Q_OVERFLOW, cookie: 0, name: name('') },
]

test('records decode to their events, and events encode to their records', () => {
  assert.deepEqual(decodeEvents(BYTES), EVENTS)
  assert.deepEqual(encodeEvents(EVENTS), BYTES)
})

test('a record cut anywhere is refused, and never read beyond its end', () => {
  const whole = new Set([0, 32, BYTES.length])
  for (let length = 0; length <= BYTES.length; length++) {
    const decode = () => decodeEvents(BYTES.subarray(0, length))
    if (whole.has(length)) assert.equal(decode().length, [...whole].indexOf(length))
    else assert.throws(decode, { code: 'QUEUE_BROKEN' })
  }
})

test('a record that claims more than there is, is refused', () => {
  const liar = Buffer.from(BYTES)
  liar.writeUInt32LE(0xffffffff, 12)
  assert.throws(() => decodeEvents(liar), { code: 'QUEUE_BROKEN' })
})

test('any name survives, a full 255 bytes too', () => {
  const names = fc.uint8Array({ minLength: 1, maxLength: 255 }).map((bytes) => {
    return fromBytes(Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 ? 1 : byte))))
  })
  const events = fc.array(
    fc.record(
      { wd: fc.nat(), mask: fc.constant<number>(IN.MOVED_TO), cookie: fc.nat(), name: names },
      { noNullPrototype: true },
    ),
  )
  fc.assert(fc.property(events, (some) => assert.deepEqual(decodeEvents(encodeEvents(some)), some)))
})

test('a path and its bytes are one', () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
  assert.deepEqual(toBytes(fromBytes(bytes)), bytes)
})
