import type { Digest, Sums } from '../digest.js'
import { readAt } from '../kernel.js'
import { AHEAD_FROM, ReadAhead } from '../read-ahead.js'
import { BLOCK_LENGTH_MAX, BLOCK_SIZE, SUM_LENGTH_MAX } from '../wire/constants.js'
import type { SumHead } from '../wire/sum-head.js'
import type { Writer } from '../wire/writer.js'
import { WeakSums } from './search.js'

const READ_BYTES = 1 << 19
const BLOCKSUM_BIAS = 10
/** What is sent of a strong sum when that is enough; a file that fails is asked for again with all of it. */
const SHORT_SUM_LENGTH = 2
const COUNT_MAX = 2 ** 31 - 1

const buffer = Buffer.allocUnsafeSlow(READ_BYTES)

/** The sum over the first `size` bytes of a file. Throws SystemError; a file that is shorter ends there. */
export function readSums(fd: number, size: number, digest: Digest): Buffer {
  digest.reset()
  for (let at = 0; at < size; ) {
    const length = readAt(fd, buffer.subarray(0, Math.min(buffer.length, size - at)), at)
    if (length === 0) break
    digest.update(buffer.subarray(0, length))
    at += length
  }
  return digest.final()
}

/**
 * generator.c sum_sizes_sqroot(): blocks as long as the square root of the file, and as much of each strong sum as
 * makes a false match unlikely. `full`: all of the strong sum. Null for a file that cannot be cut into so few blocks.
 */
export function sumHeadOf(length: number, blockSize: number, full: boolean, sumLength: number): SumHead | null {
  const blockLength = blockSize > 0 ? Math.min(blockSize, BLOCK_LENGTH_MAX) : squareRootBlock(length)
  const s2Length = full ? Math.min(SUM_LENGTH_MAX, sumLength) : Math.min(shortLength(length, blockLength), sumLength)
  const count = Math.ceil(length / blockLength)
  return count > COUNT_MAX ? null : { count, blockLength, s2Length, remainder: length % blockLength }
}

function squareRootBlock(length: number): number {
  if (length <= BLOCK_SIZE * BLOCK_SIZE) return BLOCK_SIZE
  let c = 1
  for (let l = Math.floor(length / 4); l > 0; l = Math.floor(l / 4)) c *= 2
  if (c >= BLOCK_LENGTH_MAX) return BLOCK_LENGTH_MAX
  let block = 0
  do {
    block |= c
    if (length < block * block) block &= ~c
    c >>= 1
  } while (c >= 8) // a multiple of 8
  return Math.max(block, BLOCK_SIZE)
}

function shortLength(length: number, blockLength: number): number {
  let bits = BLOCKSUM_BIAS
  for (let l = Math.floor(length / 2); l > 0; l = Math.floor(l / 2)) bits += 2
  for (let c = blockLength >> 1; c > 0 && bits > 0; c >>= 1) bits--
  const bytes = Math.floor((bits + 1 - 32 + 7) / 8)
  return Math.min(Math.max(bytes, SHORT_SUM_LENGTH), SUM_LENGTH_MAX)
}

/** The sums of the blocks of a file, in pieces that fit a buffer: `relieve` sends them, and returns a promise where it has to wait. */
export async function writeSums(
  fd: number,
  head: SumHead,
  size: number,
  sums: Sums,
  w: Writer,
  relieve: () => Promise<void> | undefined,
): Promise<void> {
  const { count, blockLength, s2Length } = head
  const perRead = Math.max(1, Math.floor(READ_BYTES / blockLength))
  const weak = new WeakSums(2 * perRead * blockLength)
  const halves = [0, 1].map((i) => weak.bytes.subarray(i * perRead * blockLength, (i + 1) * perRead * blockLength))
  const ahead = size < AHEAD_FROM ? null : new ReadAhead(fd, 0, size, halves as [Buffer, Buffer])
  try {
    for (let block = 0, at = 0; block < count; block += perRead) {
      const into = halves[(block / perRead) % 2].subarray(0, size - at)
      const got = ahead === null ? readAt(fd, into, at) : (await ahead.next()).length
      const bytes = got < into.length ? readFully(fd, into, got, at) : into
      for (let start = 0; start < bytes.length; start += blockLength) {
        const piece = bytes.subarray(start, start + blockLength)
        w.i32(weak.of(piece))
        sums.block.reset()
        sums.block.update(piece)
        w.bytes(sums.block.final().subarray(0, s2Length))
      }
      at += bytes.length
      const wait = relieve()
      if (wait !== undefined) await wait
    }
  } finally {
    await ahead?.close()
    weak.close()
  }
}

/** A file that became shorter gives zeros: its sums will not match, and it is sent again. */
function readFully(fd: number, into: Buffer, got: number, at: number): Buffer {
  let done = got
  while (done < into.length) {
    const length = readAt(fd, into.subarray(done), at + done)
    if (length === 0) {
      into.fill(0, done)
      break
    }
    done += length
  }
  return into
}
