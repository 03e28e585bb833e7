import { ProtocolError } from '../errors.js'

/** Thrown by a read past the end of what has arrived: not an error, the message is not complete yet. */
export const UNDERFLOW = Symbol('underflow')

/** Reads rsync's integers and strings from bytes that arrive in pieces. Holds what has not been consumed yet. */
export class Cursor {
  #bytes: Buffer
  pos = 0

  constructor(bytes: Buffer = Buffer.alloc(0)) {
    this.#bytes = bytes
  }

  get remaining(): number {
    return this.#bytes.length - this.pos
  }

  /** Adds bytes behind the ones not yet consumed; everything before `from` is forgotten. */
  refill(from: number, more: Buffer): void {
    const rest = this.#bytes.subarray(from)
    this.#bytes = rest.length === 0 ? more : Buffer.concat([rest, more])
    this.pos = 0
  }

  u8(): number {
    return this.#bytes[this.#advance(1)]
  }
  u16(): number {
    return this.#bytes.readUInt16LE(this.#advance(2))
  }
  i32(): number {
    return this.#bytes.readInt32LE(this.#advance(4))
  }
  i64(): bigint {
    return this.#bytes.readBigInt64LE(this.#advance(8))
  }
  bytes(length: number): Buffer {
    const start = this.#advance(length)
    return this.#bytes.subarray(start, start + length)
  }

  /** io.c read_varint(): the number of leading ones in the first byte tells how many bytes follow. */
  varint(): number {
    const first = this.u8()
    const extra = extraBytes(first)
    if (extra > 4) throw new ProtocolError('varint', `${extra} extra bytes, at most 4 fit`)
    let value = 0
    const start = this.#advance(extra)
    for (let i = 0; i < extra; i++) value |= this.#bytes[start + i] << (8 * i)
    // With four extra bytes nothing of the value is left in the first one but a possible fifth byte, which must be 0.
    if (extra < 4) value |= (first & ((1 << (7 - extra)) - 1)) << (8 * extra)
    return value
  }

  /** io.c read_varlong(): like a varint, with `minBytes` low bytes always there. Throws above 2^53. */
  varlong(minBytes: number): number {
    const first = this.u8()
    const extra = extraBytes(first)
    if (minBytes + extra > 9) throw new ProtocolError('varlong', `${minBytes + extra - 1} bytes, at most 8 fit`)
    const start = this.#advance(minBytes - 1 + extra)
    const length = minBytes - 1 + extra
    let low = 0
    let high = 0
    for (let i = 0; i < length; i++) {
      const byte = this.#bytes[start + i]
      if (i < 4) low |= byte << (8 * i)
      else high |= byte << (8 * i - 32)
    }
    const top = first & ((1 << (8 - extra)) - 1) & 0x7f
    if (length < 4) low |= top << (8 * length)
    else if (length < 8) high |= top << (8 * length - 32)
    const number = high * 0x1_0000_0000 + (low >>> 0)
    if (!Number.isSafeInteger(number)) throw new ProtocolError('varlong', `${number} is out of range`)
    return number
  }

  /** io.c read_vstring(): one or two length bytes, then that many bytes. */
  vstring(lengthMax: number): Buffer {
    let length = this.u8()
    if (length & 0x80) length = (length & 0x7f) * 0x100 + this.u8()
    if (length > lengthMax) throw new ProtocolError('vstring', `${length} bytes, at most ${lengthMax} allowed`)
    return this.bytes(length)
  }

  #advance(length: number): number {
    const start = this.pos
    if (start + length > this.#bytes.length) throw UNDERFLOW
    this.pos = start + length
    return start
  }
}

/** io.c int_byte_extra[]: leading ones of the first byte. */
function extraBytes(first: number): number {
  return Math.clz32(~(first << 24) >>> 0)
}

/** Fails unless `low <= value <= high`: called on every number of a peer before it sizes anything. */
export function within(what: string, value: number, low: number, high: number): void {
  if (value < low || value > high) throw new ProtocolError(what, `${value} is not between ${low} and ${high}`)
}
