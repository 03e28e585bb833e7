const START_SIZE = 4096
const AGAIN_SIZE = 96 * 1024
const SPARES_MAX = 4

/** Grows a buffer of rsync's integers and strings; the encoder side of `Cursor`. */
export class Writer {
  #bytes: Buffer
  #length = 0
  readonly #spare: Buffer[] = []

  constructor(size = START_SIZE) {
    this.#bytes = Buffer.allocUnsafe(size)
  }

  get length(): number {
    return this.#length
  }

  /** Hands out what was written and starts anew; the bytes are left alone unless they are given to `recycle`. */
  take(): Buffer {
    const taken = this.#bytes.subarray(0, this.#length)
    // What comes next is likely as long: growing into it would copy it several times.
    if (taken.length <= START_SIZE) this.#bytes = Buffer.allocUnsafe(START_SIZE)
    else this.#bytes = this.#spare.pop() ?? Buffer.allocUnsafeSlow(AGAIN_SIZE)
    this.#length = 0
    return taken
  }

  /** Nobody needs what `take` returned any more. Fresh buffers for all that we send would keep the collector busy. */
  recycle(taken: Buffer): void {
    const { buffer } = taken
    if (buffer.byteLength === AGAIN_SIZE && this.#spare.length < SPARES_MAX) this.#spare.push(Buffer.from(buffer))
  }

  u8(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#length++] = value
  }
  u16(value: number): void {
    this.#reserve(2)
    this.#length = this.#bytes.writeUInt16LE(value & 0xffff, this.#length)
  }
  i32(value: number): void {
    this.#reserve(4)
    this.#length = this.#bytes.writeInt32LE(value | 0, this.#length)
  }
  bytes(value: Buffer): void {
    this.#reserve(value.length)
    value.copy(this.#bytes, this.#length)
    this.#length += value.length
  }
  /** A string with one char per byte. */
  latin1(value: string): void {
    this.#reserve(value.length)
    this.#length += this.#bytes.write(value, this.#length, 'latin1')
  }

  /** io.c write_varint() */
  varint(value: number): void {
    this.#variable(value >>> 0, 0, 1, 4)
  }
  /** io.c write_varlong(): at least `minBytes` bytes, which is what the peer must be told to read. */
  varlong(value: number, minBytes: number): void {
    const high = Math.floor(value / 2 ** 32)
    this.#variable((value - high * 2 ** 32) >>> 0, high >>> 0, minBytes, 8)
  }
  /** io.c write_vstring() */
  vstring(value: string): void {
    if (value.length > 0x7f) this.u8((value.length >> 8) | 0x80)
    this.u8(value.length & 0xff)
    this.latin1(value)
  }

  #variable(low: number, high: number, minBytes: number, maxBytes: number): void {
    const digit = (i: number) => (i < 4 ? (low >>> (8 * i)) & 0xff : (high >>> (8 * i - 32)) & 0xff)
    let count = maxBytes
    while (count > minBytes && digit(count - 1) === 0) count--
    const bit = 1 << (7 - count + minBytes)
    const last = digit(count - 1)
    // The first byte holds the length in leading ones, and the highest byte of the value where it fits beside them.
    if (last >= bit) this.u8(~(bit - 1) & 0xff)
    else this.u8(count > minBytes ? (last | ~(bit * 2 - 1)) & 0xff : last)
    const following = last >= bit ? count : count - 1
    for (let i = 0; i < following; i++) this.u8(digit(i))
  }

  #reserve(length: number): void {
    if (this.#length + length <= this.#bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + length))
    this.#bytes.copy(grown, 0, 0, this.#length)
    this.#bytes = grown
  }
}
