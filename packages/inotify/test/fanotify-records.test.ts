import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { test } from 'node:test'
import { decodeRecords, FAN } from '../src/fanotify/records.js'
import { WatchError } from '../src/index.js'

// Layouts as in facts that were read off a kernel: fanotify(7) with FAN_REPORT_DFID_NAME, FID and TARGET_FID.

const FSID = Buffer.from('fsid5678')
const HANDLE = Buffer.from('handle01')
const INFO = { FID: 1, DFID_NAME: 2, OLD_DFID_NAME: 10, NEW_DFID_NAME: 12 }

function info(type: number, name?: string): Buffer {
  const header = Buffer.alloc(4)
  const file = Buffer.alloc(8)
  file.writeUInt32LE(HANDLE.length)
  file.writeInt32LE(1, 4)
  const parts = [header, FSID, file, HANDLE, ...(name === undefined ? [] : [Buffer.from(`${name}\0`, 'latin1')])]
  const length = Buffer.concat(parts).length
  const padded = Buffer.concat([...parts, Buffer.alloc((4 - (length % 4)) % 4)])
  padded[0] = type
  padded.writeUInt16LE(padded.length, 2)
  return padded
}

function record(mask: number, ...infos: Buffer[]): Buffer {
  const header = Buffer.alloc(24)
  const whole = Buffer.concat([header, ...infos])
  whole.writeUInt32LE(whole.length)
  whole[4] = 3
  whole.writeUInt16LE(24, 6)
  whole.writeUInt32LE(mask, 8)
  whole.writeInt32LE(-1, 16)
  return whole
}

const handle = Buffer.concat([FSID, Buffer.from([8, 0, 0, 0, 1, 0, 0, 0]), HANDLE]).toString('latin1')

test('a name, a rename, a target that is a directory, an overflow', () => {
  const bytes = Buffer.concat([
    record(FAN.CREATE, info(INFO.DFID_NAME, 'n\xe4me'), info(INFO.FID)),
    record(FAN.CREATE | FAN.ONDIR, info(INFO.DFID_NAME, 'n\xe4me'), info(INFO.FID)),
    record(FAN.RENAME | FAN.ONDIR, info(INFO.OLD_DFID_NAME, 'old'), info(INFO.NEW_DFID_NAME, 'new')),
    record(FAN.Q_OVERFLOW),
    record(FAN.ATTRIB | FAN.ONDIR, info(99), info(INFO.FID)),
  ])
  assert.deepEqual(decodeRecords(bytes), [
    { mask: FAN.CREATE, place: { directory: handle, name: 'n\xe4me' }, from: undefined, target: handle },
    {
      mask: FAN.CREATE | FAN.ONDIR,
      place: { directory: handle, name: 'n\xe4me' },
      from: undefined,
      target: handle,
    },
    {
      mask: FAN.RENAME | FAN.ONDIR,
      place: { directory: handle, name: 'new' },
      from: { directory: handle, name: 'old' },
      target: undefined,
    },
    { mask: FAN.Q_OVERFLOW, place: undefined, from: undefined, target: undefined },
    { mask: FAN.ATTRIB | FAN.ONDIR, place: undefined, from: undefined, target: handle },
  ])
})

test('what cannot be a record is refused, wherever it is cut or changed', () => {
  const whole = record(FAN.CREATE, info(INFO.DFID_NAME, 'name'), info(INFO.FID))
  for (let length = 1; length < whole.length; length++)
    assert.throws(() => decodeRecords(whole.subarray(0, length)), { code: 'QUEUE_BROKEN' })
  const version = Buffer.from(whole)
  version[4] = 2
  assert.throws(() => decodeRecords(version), { code: 'QUEUE_BROKEN', message: /version 2/ })
})

test('mutated records give records or a WatchError', () => {
  const whole = record(FAN.RENAME, info(INFO.OLD_DFID_NAME, 'old'), info(INFO.NEW_DFID_NAME, 'new'), info(INFO.FID))
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.concat([whole, whole])
    for (let k = randomInt(4); k >= 0; k--) randomBytes(1).copy(bytes, randomInt(bytes.length))
    try {
      decodeRecords(bytes)
    } catch (error) {
      assert.ok(error instanceof WatchError, String(error))
    }
  }
})
