import { ProtocolError } from '../errors.js'
import { createInflate } from '../libraries.js'

/** What each flushed piece of a deflate stream ends with; it does not travel. */
const SYNC_TAIL = Buffer.from([0, 0, 0xff, 0xff])
const STORED_MAX = 0xffff

/** The deflated literals of one file are one stream, which node:zlib could not take apart without a thread for each piece. */
export class Inflater {
  #out: Buffer[] = []
  #pending = false
  readonly #inflate = createInflate(
    (bytes) => void this.#out.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)),
  )

  /** What these bytes give. Throws ProtocolError when they are no deflate stream. */
  push(bytes: Uint8Array): Buffer[] {
    this.#pending = true
    return this.#push(bytes)
  }

  /** A block or the end follows: what is left of the literal data. */
  endOfLiteral(): Buffer[] {
    if (!this.#pending) return []
    this.#pending = false
    return this.#push(SYNC_TAIL)
  }

  /** token.c see_deflate_token(): these bytes were matched, and what follows may refer to them. */
  see(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += STORED_MAX) {
      const piece = bytes.subarray(at, at + STORED_MAX)
      const stored = Buffer.alloc(5 + piece.length)
      stored.writeUInt16LE(piece.length, 1)
      stored.writeUInt16LE(~piece.length & 0xffff, 3)
      piece.copy(stored, 5)
      this.#push(stored)
    }
  }

  #push(bytes: Uint8Array): Buffer[] {
    this.#out = []
    try {
      this.#inflate.push(bytes)
    } catch (error) {
      throw new ProtocolError('compressed data', (error as Error).message, { cause: error })
    }
    return this.#out.splice(0)
  }
}
