import { BLOCK_LENGTH_MAX } from './constants.js'
import { type Cursor, within } from './cursor.js'
import type { Writer } from './writer.js'

/** How the receiver cut its basis file into blocks. `count` 0: it has none, send everything. */
export interface SumHead {
  count: number
  blockLength: number
  /** How many bytes of each strong sum were sent. */
  s2Length: number
  /** Length of the last block when it is shorter than the others, else 0. */
  remainder: number
}

const COUNT_MAX = 1 << 24 // 2 TiB of the longest blocks; also bounds what we allocate next

// io.c read_sum_head()
export function decodeSumHead(c: Cursor, s2LengthMax: number): SumHead {
  const head = { count: c.i32(), blockLength: c.i32(), s2Length: c.i32(), remainder: c.i32() }
  within('block count', head.count, 0, COUNT_MAX)
  within('block length', head.blockLength, head.count > 0 ? 1 : 0, BLOCK_LENGTH_MAX)
  within('strong sum length', head.s2Length, 0, s2LengthMax)
  within('remainder', head.remainder, 0, head.blockLength)
  return head
}

export function encodeSumHead(w: Writer, head: SumHead): void {
  w.i32(head.count)
  w.i32(head.blockLength)
  w.i32(head.s2Length)
  w.i32(head.remainder)
}
