import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { createSums } from '../src/digest.js'
import { FileWriter, type WriteOptions } from '../src/receive/file-writer.js'
import type { Transfer } from '../src/transfer.js'
import { temporaryDirectory } from './stage.js'

const LARGE = 4 << 20
const OPTIONS: WriteOptions = { sameFile: false, appends: false, sparse: false, size: LARGE }

test('a basis that cannot be read spoils no file that comes later', async (t) => {
  const directory = temporaryDirectory(t)
  const sums = await createSums('md5', 0, false)
  const settings = { inplace: false, append: false, preallocate: false }
  const transfer = { sums, settings } as unknown as Transfer
  const [first, second] = ['first', 'second'].map((name) => fs.openSync(`${directory}/${name}`, 'w'))
  const unreadable = fs.openSync(directory, 'r') // a directory: reading it fails as that of a bad disk does
  t.after(() => [first, second, unreadable].forEach((fd) => void fs.closeSync(fd!)))

  const head = { count: 1, blockLength: 1000, s2Length: 2, remainder: 0 }
  const failing = new FileWriter(transfer, first!, unreadable, 1000, head, OPTIONS)
  failing.literal(Buffer.alloc(40_000, 1))
  failing.literal(Buffer.alloc(100, 2))
  failing.block(0)
  await assert.rejects(failing.finish(), { code: 'EISDIR' })
  await failing.settle()

  const none = { count: 0, blockLength: 0, s2Length: 0, remainder: 0 }
  const writer = new FileWriter(transfer, second!, -1, 0, none, OPTIONS)
  const piece = Buffer.alloc(8192, 7)
  for (let fed = 0; fed < LARGE; fed += piece.length) {
    writer.literal(piece)
    await writer.relieve()
  }
  await writer.finish()
  assert.equal(writer.failure, null)
  assert.equal(fs.statSync(`${directory}/second`).size, LARGE)
})
