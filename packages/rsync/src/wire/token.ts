import { constants, deflateRawSync } from 'node:zlib'
import { ProtocolError } from '../errors.js'
import type { Cursor } from './cursor.js'
import { within } from './cursor.js'
import type { Writer } from './writer.js'

/** Writes one file's content as literal bytes and block numbers. `end` closes the file; the encoder serves one file. */
export interface TokenEncoder {
  literal(bytes: Buffer): void
  match(block: number): void
  end(): void
}

/** rsync.h: receivers with the security fixes of 2026 refuse a longer literal, older ones take any. */
const CHUNK_SIZE = 32 * 1024

/** token.c simple_send_token() */
export class PlainTokens implements TokenEncoder {
  constructor(readonly w: Writer) {}
  literal(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += CHUNK_SIZE) {
      const piece = bytes.subarray(at, at + CHUNK_SIZE)
      this.w.i32(piece.length)
      this.w.bytes(piece)
    }
  }
  match(block: number): void {
    this.w.i32(-(block + 1))
  }
  end(): void {
    this.w.i32(0)
  }
}

export type Token = { literal: Buffer } | { match: number } | 'end'

/** token.c simple_recv_token() */
export function decodePlainToken(c: Cursor): Token {
  const word = c.i32()
  if (word === 0) return 'end'
  if (word < 0) return { match: -(word + 1) }
  within('literal length', word, 1, CHUNK_SIZE)
  return { literal: c.bytes(word) }
}

const END_FLAG = 0
const TOKEN_LONG = 0x20
const TOKENRUN_LONG = 0x21
const DEFLATED_DATA = 0x40
const TOKEN_REL = 0x80
const TOKENRUN_REL = 0xc0
const DEFLATED_MAX = 0x3fff
const RUN_MAX = 65536
const SYNC_TAIL = 4 // 00 00 ff ff, which ends each flushed piece of a deflate stream

/**
 * token.c send_deflated_token(). Each literal is deflated for itself and ended by a flush: together they are one valid
 * stream that never looks back. That is why zlib (whose receivers keep matched blocks in the window) and zlibx (whose
 * receivers do not) can be served alike.
 */
export class DeflatedTokens implements TokenEncoder {
  #runStart = -1
  #runLast = -1
  #lastRunEnd = 0
  #tail: Buffer = Buffer.alloc(0)

  constructor(
    readonly w: Writer,
    readonly level: number,
  ) {}

  literal(bytes: Buffer): void {
    this.#flushRun()
    const deflated = deflateRawSync(bytes, { level: this.level, finishFlush: constants.Z_SYNC_FLUSH })
    // The receiver itself supplies the tail before a match or the end, and only there.
    this.#data(Buffer.concat([this.#tail, deflated.subarray(0, -SYNC_TAIL)]))
    this.#tail = deflated.subarray(-SYNC_TAIL)
  }

  match(block: number): void {
    this.#tail = Buffer.alloc(0)
    const extends_ = this.#runStart >= 0 && block === this.#runLast + 1 && block < this.#runStart + RUN_MAX
    if (!extends_) {
      this.#flushRun()
      this.#runStart = block
    }
    this.#runLast = block
  }

  end(): void {
    this.#flushRun()
    this.w.u8(END_FLAG)
  }

  #data(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += DEFLATED_MAX) {
      const piece = bytes.subarray(at, at + DEFLATED_MAX)
      this.w.u8(DEFLATED_DATA + (piece.length >> 8))
      this.w.u8(piece.length & 0xff)
      this.w.bytes(piece)
    }
  }

  #flushRun(): void {
    if (this.#runStart < 0) return
    const distance = this.#runStart - this.#lastRunEnd
    const more = this.#runLast - this.#runStart
    if (distance >= 0 && distance <= 63) this.w.u8((more === 0 ? TOKEN_REL : TOKENRUN_REL) + distance)
    else {
      this.w.u8(more === 0 ? TOKEN_LONG : TOKENRUN_LONG)
      this.w.i32(this.#runStart)
    }
    if (more !== 0) this.w.u16(more)
    this.#lastRunEnd = this.#runLast
    this.#runStart = -1
  }
}

export type DeflatedToken = { deflated: Buffer } | { run: [first: number, last: number] } | 'end'

/** token.c recv_deflated_token(): the frames only; inflating is the receiver's. */
export class DeflatedTokenDecoder {
  #last = 0

  decode(c: Cursor): DeflatedToken {
    const flag = c.u8()
    if (flag === END_FLAG) return 'end'
    if ((flag & 0xc0) === DEFLATED_DATA) return { deflated: c.bytes(((flag & 0x3f) << 8) + c.u8()) }
    const relative = (flag & 0x80) !== 0
    if (!relative && flag !== TOKEN_LONG && flag !== TOKENRUN_LONG) throw new ProtocolError('token', `flag ${flag}`)
    const first = relative ? this.#last + (flag & 0x3f) : c.i32()
    const isRun = relative ? (flag & 0xc0) === TOKENRUN_REL : flag === TOKENRUN_LONG
    const last = first + (isRun ? c.u16() : 0)
    this.#last = last
    return { run: [first, last] }
  }
}
