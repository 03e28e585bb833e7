import { Cursor, UNDERFLOW } from '../src/wire/cursor.js'

/** Bytes that arrive in pieces, read as `Channel.receive` reads them: a message is tried again when more has come. */
export class Feed {
  readonly cursor = new Cursor()
  readonly #pieces: Buffer[]

  constructor(pieces: Buffer[]) {
    this.#pieces = [...pieces]
  }

  receive<T>(decode: (c: Cursor) => T): T {
    for (;;) {
      const start = this.cursor.pos
      try {
        return decode(this.cursor)
      } catch (error) {
        if (error !== UNDERFLOW) throw error
      }
      const more = this.#pieces.shift()
      if (more === undefined) throw new Error('the bytes end in the middle of a message')
      this.cursor.refill(start, more)
    }
  }

  get exhausted(): boolean {
    return this.cursor.remaining === 0 && this.#pieces.every((piece) => piece.length === 0)
  }
}

/** The same bytes whole, byte by byte, and cut in two at every place. */
export function* everySplit(bytes: Buffer, step = 1): Generator<Buffer[]> {
  yield [bytes]
  yield Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))
  for (let at = 1; at < bytes.length; at += step) yield [bytes.subarray(0, at), bytes.subarray(at)]
}
