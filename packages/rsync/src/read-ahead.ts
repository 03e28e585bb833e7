import { readInThread } from './kernel.js'

/** Shorter files are read where they are needed: waking a thread takes longer. */
export const AHEAD_FROM = 1 << 21
export const AHEAD_BYTES = 1 << 19

/**
 * Reads a file in order, in pieces of the length of a buffer: while the caller works on one, a thread of libuv reads the
 * next. Until `close` has returned, the descriptor must stay open and the buffers are in use.
 */
export class ReadAhead {
  #next = 0
  #wanted = 0
  #reading: Promise<Buffer>

  /** Bytes from `at` to `end` of `fd`. */
  constructor(
    readonly fd: number,
    public at: number,
    readonly end: number,
    readonly buffers: readonly [Buffer, Buffer],
  ) {
    this.#reading = this.#read()
  }

  /**
   * The next piece, good until the next call; shorter than its buffer only at the end of the file, which may come early.
   * Throws SystemError.
   */
  async next(): Promise<Buffer> {
    const bytes = await this.#reading
    // What a file has again behind an early end is not what was to follow.
    if (bytes.length < this.#wanted) this.at = this.end
    this.#reading = this.#read()
    return bytes
  }

  async close(): Promise<void> {
    await this.#reading.catch(() => undefined)
  }

  #read(): Promise<Buffer> {
    const buffer = this.buffers[this.#next]
    const from = this.at
    const wanted = Math.min(buffer.length, this.end - from)
    this.#wanted = wanted
    this.#next = 1 - this.#next
    this.at += wanted
    const reading = wanted > 0 ? readFully(this.fd, buffer.subarray(0, wanted), from) : Promise.resolve(NOTHING)
    reading.catch(() => undefined) // it is thrown when it is asked for
    return reading
  }
}

const NOTHING = Buffer.alloc(0)

async function readFully(fd: number, into: Buffer, at: number): Promise<Buffer> {
  let done = 0
  while (done < into.length) {
    const got = await readInThread(fd, into.subarray(done), at + done)
    if (got === 0) break
    done += got
  }
  return into.subarray(0, done)
}
