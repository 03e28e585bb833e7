import { NDX_DONE } from './constants.js'
import type { Cursor } from './cursor.js'
import type { Writer } from './writer.js'

/** io.c read_ndx()/write_ndx(): indexes travel as differences; each direction of a session has its own codec. */
export class NdxCodec {
  #positive = -1
  #negative = 1

  /** Changes nothing when the bytes have not all arrived. */
  decode(c: Cursor): number {
    const first = c.u8()
    if (first === 0) return NDX_DONE
    const negative = first === 0xff
    const base = negative ? this.#negative : this.#positive
    const value = decodeDifference(c, negative ? c.u8() : first, base)
    if (negative) this.#negative = value
    else this.#positive = value
    return negative ? -value : value
  }

  encode(w: Writer, ndx: number): void {
    if (ndx === NDX_DONE) return w.u8(0)
    if (ndx < 0) w.u8(0xff)
    const value = Math.abs(ndx)
    const difference = value - (ndx < 0 ? this.#negative : this.#positive)
    if (ndx < 0) this.#negative = value
    else this.#positive = value
    if (difference > 0 && difference < 0xfe) return w.u8(difference)
    w.u8(0xfe)
    if (difference >= 0 && difference <= 0x7fff) {
      w.u8(difference >> 8)
      return w.u8(difference & 0xff)
    }
    w.u8((value >>> 24) | 0x80)
    w.u8(value & 0xff)
    w.u8((value >> 8) & 0xff)
    w.u8((value >> 16) & 0xff)
  }
}

function decodeDifference(c: Cursor, byte: number, base: number): number {
  if (byte !== 0xfe) return base + byte
  const high = c.u8()
  const low = c.u8()
  if ((high & 0x80) === 0) return base + (high << 8) + low
  return ((high & 0x7f) << 24) + low + (c.u8() << 8) + (c.u8() << 16)
}
