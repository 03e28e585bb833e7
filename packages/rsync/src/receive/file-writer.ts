import { ProtocolError } from '../errors.js'
import { punchHole, readAt, statAt, truncate, writeAt, writeInThread } from '../kernel.js'
import type { Transfer } from '../transfer.js'
import type { SumHead } from '../wire/sum-head.js'

/** What is written at once: small literals would cost a system call each. */
const BUFFER_BYTES = 1 << 18
/** What is as long as this is written from where it is: copying it would cost more than a call. */
const DIRECT_BYTES = 1 << 15
/** rsync.h SPARSE_WRITE_SIZE: runs of zeros shorter than this are written. */
const HOLE_BYTES = 1024
/** Files from this length on are written by another thread while more of them is taken in. */
const BEHIND_FROM = 1 << 21
/** What it is given at a time: waking it takes as long as writing a tenth of this. */
const BEHIND_BYTES = 1 << 20

export interface WriteOptions {
  /** The basis is the file that is written: a block that stays where it was need not be written. */
  sameFile: boolean
  /** What is here is kept, and only what follows it comes (--append). */
  appends: boolean
  sparse: boolean
  /** The length that the list says. */
  size: number
}

/** Buffers of files that are done: a fresh one for each small file would keep the collector busy. */
const spare: Buffer[] = []
const SPARE_MAX = 12
const acquire = () => spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)
const release = (buffer: Buffer) =>
  void (spare.length < SPARE_MAX && buffer.length === BUFFER_BYTES && spare.push(buffer))

/**
 * receiver.c receive_data(): puts literals and blocks of the basis together, and sums up what comes out. What it is given
 * is its own: it may be written after the call has returned.
 */
export class FileWriter {
  #buffer = acquire()
  #buffered = 0
  /** Where what is put next goes. */
  #offset = 0
  /** Whole pieces that are written together, ahead of what is buffered; only with a thread that writes behind. */
  #pieces: Buffer[] = []
  #piecesBytes = 0
  /** Of our own buffers those that they are in. */
  #used: Buffer[] = []
  /** Blocks of the basis that follow each other, and are read together. */
  #runAt = 0
  #runLength = 0
  /** The write that is on its way. Never rejects. */
  #writing: Promise<void> | undefined
  readonly #behind: boolean
  /** How long the file was that is written in place. */
  readonly #sizeBefore: number
  /** Why writing failed: what comes after it is read and dropped. */
  failure: unknown = null

  /** `target` -1: nothing is written; `basis` -1: there is none. */
  constructor(
    readonly transfer: Transfer,
    readonly target: number,
    readonly basis: number,
    readonly basisSize: number,
    readonly head: SumHead,
    readonly options: WriteOptions,
  ) {
    transfer.sums.file.reset()
    // In place what stays is skipped: each change would be a call of its own for the thread.
    this.#behind = target >= 0 && !options.sparse && !options.sameFile && options.size >= BEHIND_FROM
    this.#sizeBefore = target >= 0 && transfer.settings.inplace ? statAt(target, '').size : 0
    if (options.appends) this.#startBehind()
  }

  /** Bytes so far, also those that are not written yet. */
  get length(): number {
    return this.#offset + this.#piecesBytes + this.#buffered + this.#runLength
  }

  /** --append: what the head describes is here already; --append-verify sums it up. */
  #startBehind(): void {
    const { count, blockLength, remainder } = this.head
    const have = count * blockLength - (remainder > 0 ? blockLength - remainder : 0)
    if (this.transfer.settings.append === 'verify') this.#sumUp(have)
    this.#offset = have
  }

  #sumUp(length: number): void {
    for (let at = 0; at < length; ) {
      const got = readAt(this.basis, this.#buffer.subarray(0, Math.min(BUFFER_BYTES, length - at)), at)
      if (got === 0) return
      this.transfer.sums.file.update(this.#buffer.subarray(0, got))
      at += got
    }
  }

  literal(bytes: Buffer): void {
    this.#copyRun()
    this.transfer.sums.file.update(bytes)
    if (bytes.length >= DIRECT_BYTES) {
      this.#flushBuffer()
      this.#put(bytes)
      return
    }
    if (this.#buffered + bytes.length > BUFFER_BYTES) this.#flushBuffer()
    bytes.copy(this.#buffer, this.#buffered)
    this.#buffered += bytes.length
  }

  /** Copies a block of the basis, now or together with those that follow it there. Returns its length. */
  block(index: number): number {
    const { count, blockLength, remainder } = this.head
    if (index < 0 || index >= count) throw new ProtocolError('token', `block ${index} of ${count}`)
    const length = index === count - 1 && remainder > 0 ? remainder : blockLength
    const at = index * blockLength
    const follows = at === this.#runAt + this.#runLength && this.#runLength + length <= BUFFER_BYTES
    if (!follows) this.#copyRun()
    // It became shorter, or was never there: the sum over the file will not be right, and nothing is written for it.
    if (at + length > this.basisSize) {
      this.#copyRun()
      this.transfer.sums.file.update(LOST)
      return LOST.length
    }
    if (this.#runLength === 0) this.#runAt = at
    this.#runLength += length
    return length
  }

  /** As `block`, at once: returns the bytes for a decompressor's window; they are good until the next call. */
  blockBytes(index: number): Buffer {
    this.#copyRun()
    this.block(index)
    return this.#copyRun()
  }

  /** Returns a promise where the caller has to wait: writing is slower than what comes. */
  relieve(): Promise<void> | undefined {
    if (!this.#behind || this.#piecesBytes < BEHIND_BYTES) return undefined
    return this.#writing === undefined ? void this.#writePieces() : this.#writing
  }

  #copyRun(): Buffer {
    const length = this.#runLength
    if (length === 0) return LOST
    const at = this.#runAt
    const skips = this.options.sameFile && at === this.length - length
    this.#runLength = 0
    if (skips || this.#buffered + length > BUFFER_BYTES) this.#flushBuffer()
    const bytes = this.#read(at, this.#buffer.subarray(this.#buffered, this.#buffered + length))
    this.transfer.sums.file.update(bytes)
    if (skips) this.#offset += length
    else this.#buffered += length
    return bytes
  }

  #read(at: number, into: Buffer): Buffer {
    let done = 0
    while (this.basis >= 0 && done < into.length) {
      const got = readAt(this.basis, into.subarray(done), at + done)
      if (got === 0) break
      done += got
    }
    into.fill(0, done) // it became shorter; the sum over the file will tell
    return into
  }

  #flushBuffer(): void {
    if (this.#buffered === 0) return
    const bytes = this.#buffer.subarray(0, this.#buffered)
    this.#buffered = 0
    if (this.#behind) {
      this.#used.push(this.#buffer)
      this.#buffer = acquire()
    }
    this.#put(bytes)
  }

  #put(bytes: Buffer): void {
    if (this.#behind) {
      this.#pieces.push(bytes)
      this.#piecesBytes += bytes.length
      if (this.#writing === undefined && this.#piecesBytes >= BEHIND_BYTES) this.#writePieces()
      return
    }
    this.#attempt(() => {
      if (this.options.sparse) this.#putSparse(bytes)
      else writeAt(this.target, bytes, this.#offset)
    })
    this.#offset += bytes.length
  }

  #attempt(work: () => void): void {
    if (this.target < 0 || this.failure !== null) return
    try {
      work()
    } catch (error) {
      this.failure = error
    }
  }

  /** Gives what has been gathered to the thread, behind what it writes now. */
  #writePieces(): void {
    if (this.#piecesBytes === 0) return
    const writing = this.#writeBehind(this.#writing, this.#pieces, this.#offset, this.#used).finally(() => {
      if (this.#writing === writing) this.#writing = undefined
    })
    this.#writing = writing
    this.#offset += this.#piecesBytes
    this.#pieces = []
    this.#piecesBytes = 0
    this.#used = []
  }

  async #writeBehind(before: Promise<void> | undefined, pieces: Buffer[], offset: number, used: Buffer[]) {
    await before
    try {
      if (this.failure === null) await writeAll(this.target, pieces, offset)
    } catch (error) {
      this.failure ??= error
    }
    for (const buffer of used) release(buffer)
  }

  /** fileio.c write_sparse(): zeros become holes. */
  #putSparse(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const zeros = isZero(bytes.subarray(at, at + HOLE_BYTES))
      let end = at + HOLE_BYTES
      while (end < bytes.length && isZero(bytes.subarray(end, end + HOLE_BYTES)) === zeros) end += HOLE_BYTES
      const run = bytes.subarray(at, end)
      if (!zeros) writeAt(this.target, run, this.#offset + at)
      else this.#hole(this.#offset + at, run)
      at = end
    }
  }

  /** Where the file has something already, it must go. */
  #hole(offset: number, zeros: Buffer): void {
    const { settings } = this.transfer
    const end = settings.preallocate ? this.options.size : settings.inplace ? this.#sizeBefore : 0
    if (offset < end) punch(this.target, offset, zeros.subarray(0, end - offset))
  }

  /** Writes what is left; the file is as long as what came. Nothing may follow. */
  async finish(): Promise<void> {
    await this.settle()
    const { settings } = this.transfer
    if (this.options.sparse || settings.inplace || this.options.sameFile || settings.preallocate)
      this.#attempt(() => truncate(this.target, this.#offset))
  }

  /** Writes what is left of a file that may not be complete. Until then its descriptor must stay open. */
  async settle(): Promise<void> {
    try {
      this.#copyRun()
      this.#flushBuffer()
      if (this.#behind) this.#writePieces()
    } finally {
      await this.#writing
      if (this.#buffer.length > 0) release(this.#buffer)
      this.#buffer = NOTHING
      this.#buffered = 0 // what could not be put together is not to be written later
    }
  }
}

async function writeAll(fd: number, pieces: Buffer[], offset: number): Promise<void> {
  let left = pieces
  for (let at = offset; left.length > 0; ) {
    const written = await writeInThread(fd, left, at)
    at += written
    left = behind(left, written)
  }
}

function behind(pieces: Buffer[], written: number): Buffer[] {
  let done = written
  let i = 0
  while (i < pieces.length && done >= pieces[i].length) done -= pieces[i++].length
  return done === 0 ? pieces.slice(i) : [pieces[i].subarray(done), ...pieces.slice(i + 1)]
}

const NOTHING = Buffer.alloc(0)
const LOST = Buffer.from([0])
const ZEROS = Buffer.alloc(HOLE_BYTES)
const isZero = (bytes: Buffer) => bytes.compare(ZEROS, 0, bytes.length) === 0

function punch(fd: number, offset: number, zeros: Buffer): void {
  try {
    punchHole(fd, offset, zeros.length)
  } catch {
    writeAt(fd, zeros, offset) // a filesystem without holes
  }
}
