import { ProtocolError } from '../errors.js'
import { FRAME_MAX, MPLEX_BASE, MSG } from './constants.js'

/** Legal wherever a frame may stand and worth nothing: it only makes our kernel send the ACK that Nagle waits for. */
export const EMPTY_FRAME = frameHeader(MSG.DATA, 0)

/** io.c mplex_write(): four bytes, little-endian, tag above a 24-bit length. */
export function frameHeader(tag: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(4)
  header.writeUInt32LE((((MPLEX_BASE + tag) << 24) | length) >>> 0)
  return header
}

/** A whole frame, for messages and small data. `payload` is at most FRAME_MAX bytes. */
export function encodeFrame(tag: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(tag, payload.length), payload])
}

/** A message is kept whole before it is delivered, so it must be bounded; rsync itself stops at 64 KiB or less. */
const MESSAGE_MAX = 0x10000

/** Takes the frames of a stream apart: data is passed on as it arrives, messages when they are complete. */
export class Demultiplexer {
  #header = Buffer.alloc(4)
  #headerLength = 0
  #tag = 0
  #left = 0
  #message: Buffer[] = []

  constructor(
    readonly onData: (data: Buffer) => void,
    readonly onMessage: (tag: number, payload: Buffer) => void,
  ) {}

  push(chunk: Buffer): void {
    for (let pos = 0; pos < chunk.length; ) pos += this.#pushSome(chunk, pos)
  }

  /** Takes no more than a frame, and returns how many bytes that was. */
  pushFrame(chunk: Buffer): number {
    let pos = 0
    do pos += this.#pushSome(chunk, pos)
    while (pos < chunk.length && (this.#left > 0 || this.#headerLength > 0))
    return pos
  }

  #pushSome(chunk: Buffer, pos: number): number {
    if (this.#left === 0) return this.#pushHeader(chunk, pos)
    const piece = chunk.subarray(pos, pos + this.#left)
    this.#pushPayload(piece)
    return piece.length
  }

  #pushHeader(chunk: Buffer, pos: number): number {
    const taken = chunk.copy(this.#header, this.#headerLength, pos)
    this.#headerLength += taken
    if (this.#headerLength < 4) return taken
    this.#headerLength = 0
    const word = this.#header.readUInt32LE()
    this.#tag = (word >>> 24) - MPLEX_BASE
    this.#left = word & FRAME_MAX
    if (this.#tag < 0) throw new ProtocolError('frame', `tag ${this.#tag}; is this an rsync daemon?`)
    if (this.#tag === MSG.DATA) return taken
    if (this.#left > MESSAGE_MAX) throw new ProtocolError('frame', `message ${this.#tag} of ${this.#left} bytes`)
    if (this.#left === 0) this.onMessage(this.#tag, Buffer.alloc(0))
    return taken
  }

  #pushPayload(piece: Buffer): void {
    this.#left -= piece.length
    if (this.#tag === MSG.DATA) return this.onData(piece)
    this.#message.push(piece)
    if (this.#left > 0) return
    const payload = Buffer.concat(this.#message)
    this.#message = []
    this.onMessage(this.#tag, payload)
  }
}
