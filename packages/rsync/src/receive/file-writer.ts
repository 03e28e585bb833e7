import { ProtocolError } from '../errors.js'
import { punchHole, readAt, statAt, truncate, writeAt } from '../kernel.js'
import type { Transfer } from '../transfer.js'
import type { SumHead } from '../wire/sum-head.js'

/** What is written at once: small literals would cost a system call each. */
const BUFFER_BYTES = 1 << 18
/** What is as long as this is written from where it is: copying it would cost more than a call. */
const DIRECT_BYTES = 1 << 15
/** rsync.h SPARSE_WRITE_SIZE: runs of zeros shorter than this are written. */
const HOLE_BYTES = 1024

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
const SPARE_MAX = 4

/** receiver.c receive_data(): puts literals and blocks of the basis together, and sums up what comes out. */
export class FileWriter {
  readonly #buffer = spare.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)
  #buffered = 0
  #offset = 0
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
    this.#sizeBefore = target >= 0 && transfer.settings.inplace ? statAt(target, '').size : 0
    if (options.appends) this.#startBehind()
  }

  /** Bytes so far, buffered ones with them. */
  get length(): number {
    return this.#offset + this.#buffered
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
    this.transfer.sums.file.update(bytes)
    this.#write(bytes)
  }

  /** Copies a block of the basis. Returns its bytes, for a decompressor's window; they are good until the next call. */
  block(index: number): Buffer {
    const { count, blockLength, remainder } = this.head
    if (index < 0 || index >= count) throw new ProtocolError('token', `block ${index} of ${count}`)
    const length = index === count - 1 && remainder > 0 ? remainder : blockLength
    const at = index * blockLength
    // It became shorter, or was never there: the sum over the file will not be right, and nothing is written for it.
    if (at + length > this.basisSize) {
      this.transfer.sums.file.update(LOST)
      return LOST
    }
    const bytes = this.#read(at, length)
    this.transfer.sums.file.update(bytes)
    if (this.options.sameFile && at === this.length) this.#skip(length)
    else this.#write(bytes)
    return bytes
  }

  #block: Buffer | undefined

  #read(at: number, length: number): Buffer {
    this.#block ??= Buffer.allocUnsafe(this.head.blockLength)
    const into = this.#block.subarray(0, length)
    // What was written to the same file must not be read back.
    let done = 0
    while (this.basis >= 0 && done < length) {
      const got = readAt(this.basis, into.subarray(done), at + done)
      if (got === 0) break
      done += got
    }
    into.fill(0, done) // it became shorter; the sum over the file will tell
    return into
  }

  #skip(length: number): void {
    this.#flush()
    this.#offset += length
  }

  #write(bytes: Buffer): void {
    if (bytes.length >= DIRECT_BYTES) {
      this.#flush()
      this.#put(bytes)
      return
    }
    if (this.#buffered + bytes.length > BUFFER_BYTES) this.#flush()
    bytes.copy(this.#buffer, this.#buffered)
    this.#buffered += bytes.length
  }

  #flush(): void {
    if (this.#buffered === 0) return
    const bytes = this.#buffer.subarray(0, this.#buffered)
    this.#buffered = 0
    this.#put(bytes)
  }

  #put(bytes: Buffer): void {
    if (this.target >= 0 && this.failure === null) {
      try {
        if (this.options.sparse) this.#putSparse(bytes)
        else writeAt(this.target, bytes, this.#offset)
      } catch (error) {
        this.failure = error
      }
    }
    this.#offset += bytes.length
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
  finish(): void {
    this.#flush()
    if (spare.length < SPARE_MAX) spare.push(this.#buffer)
    if (this.target < 0 || this.failure !== null) return
    const { settings } = this.transfer
    try {
      if (this.options.sparse || settings.inplace || this.options.sameFile || settings.preallocate)
        truncate(this.target, this.#offset)
    } catch (error) {
      this.failure = error
    }
  }
}

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
