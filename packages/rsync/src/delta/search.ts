import { readFileSync } from 'node:fs'
import type { Digest } from '../digest.js'
import type { SumHead } from '../wire/sum-head.js'

// lib.dom, which declares WebAssembly, would bring in a browser's whole world.
interface WasmModule {
  readonly module: unique symbol
}
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => WasmModule
  Instance: new (module: WasmModule, imports: object) => { exports: object }
}

interface Exports {
  memory: { readonly buffer: ArrayBuffer; grow(pages: number): void }
  weak(address: number, length: number): number
  index(sums: number, next: number, heads: number, mask: number, count: number): void
  find(at: number, last: number, length: number, sums: number, next: number, heads: number, mask: number): number
  roll(at: number, length: number): void
  first(heads: number, mask: number): number
  current(): number
}

const PAGE = 0x10000
const BASE = PAGE // below it the module keeps what it needs for itself
/** How much of a file is in memory at a time, beside one block. */
const WINDOW_BYTES = 1 << 18
/**
 * A weak sum that matches in vain costs a strong sum, and a comparison for each block that has it. A peer may see to it
 * that this happens at every byte; beyond this many bytes' worth of work we send what may well be there already.
 */
const VAIN_BYTES_MAX = 256 << 20
const VAIN_PER_BYTE = 16 // an unrelated file of 10 GB costs an honest peer 3
const STRONG_SUM_COST = 1024 // beside its bytes
const COMPARISON_COST = 64

let compiled: WasmModule | undefined
const idle: Exports[] = []
const IDLE_MAX = 4
const IDLE_BYTES_MAX = 4 << 20

/** Reads the module now: in a chroot it could not be found later. */
export function loadSearch(): void {
  compiled ??= new WebAssembly.Module(readFileSync(new URL('./search.wasm', import.meta.url)))
}

function acquire(): Exports {
  const again = idle.pop()
  if (again !== undefined) return again
  loadSearch()
  return new WebAssembly.Instance(compiled as WasmModule, { env: { abort: () => undefined } }).exports as Exports
}

/** checksum.c get_checksum1() of the blocks of a file, whose bytes are read to where they are summed up. */
export class WeakSums {
  readonly #wasm = acquire()
  readonly bytes: Buffer

  constructor(length: number) {
    const missing = Math.ceil((BASE + length - this.#wasm.memory.buffer.byteLength) / PAGE)
    if (missing > 0) this.#wasm.memory.grow(missing)
    this.bytes = Buffer.from(this.#wasm.memory.buffer, BASE, length)
  }

  /** Of a block in `bytes`, or in a part of it. */
  of(block: Buffer): number {
    return this.#wasm.weak(block.byteOffset, block.length)
  }

  /** Gives the memory back; nothing of it can be used any more. */
  close(): void {
    if (idle.length < IDLE_MAX && this.#wasm.memory.buffer.byteLength <= IDLE_BYTES_MAX) idle.push(this.#wasm)
  }
}

/** What the sender emits: bytes that the receiver lacks, or the number of a block that it has. */
export interface Tokens {
  /** `bytes` is overwritten after the call returns. */
  literal(bytes: Buffer): void
  match(block: number): void
}

/** The receiver's sums as they came: `weak` one u32 a block, `strong` `head.s2Length` bytes a block. */
export interface BlockSums {
  head: SumHead
  weak: Uint32Array
  strong: Buffer
}

/** match.c match_sums(): finds the receiver's blocks in a file that passes through a window of bounded size. */
export class BlockSearch {
  readonly #wasm = acquire()
  readonly #head: SumHead
  readonly #strong: Buffer
  readonly #mask: number
  readonly #sumsAt: number
  readonly #nextAt: number
  readonly #headsAt: number
  readonly #windowAt: number
  readonly #windowSize: number
  readonly #window: Buffer
  readonly #sums: Uint32Array
  readonly #next: Uint32Array
  #filled = 0 // bytes in the window
  #scan = 0 // where the next block may start
  #literal = 0 // first byte not yet emitted
  #wanted = 0 // the block behind the last match: the likeliest next one
  #vainLeft = VAIN_BYTES_MAX
  #dropped = 0 // bytes of the file that have left the window
  #primed = false // the rolling sums are those of the block at #scan
  /** Places whose weak sum is that of a block, and how many of them were no block after all. */
  hits = 0
  falseAlarms = 0

  constructor(
    blocks: BlockSums,
    readonly digest: Digest,
    readonly tokens: Tokens,
    /** --inplace: a block that the receiver has written over by then is no match. */
    readonly forward = false,
  ) {
    this.#head = blocks.head
    this.#strong = blocks.strong
    const { count, blockLength } = blocks.head
    const slots = 2 ** Math.max(8, Math.ceil(Math.log2(count * 2)))
    this.#mask = slots - 1
    this.#sumsAt = BASE
    this.#nextAt = this.#sumsAt + count * 4
    this.#headsAt = this.#nextAt + count * 4
    this.#windowAt = this.#headsAt + slots * 4
    this.#windowSize = WINDOW_BYTES + blockLength * 2
    const memory = this.#wasm.memory
    const pages = Math.ceil((this.#windowAt + this.#windowSize) / PAGE)
    const have = memory.buffer.byteLength / PAGE
    if (pages > have) memory.grow(pages - have)
    this.#sums = new Uint32Array(memory.buffer, this.#sumsAt, count)
    this.#next = new Uint32Array(memory.buffer, this.#nextAt, count)
    this.#window = Buffer.from(memory.buffer, this.#windowAt, this.#windowSize)
    this.#sums.set(blocks.weak)
    this.#wasm.index(this.#sumsAt, this.#nextAt, this.#headsAt, this.#mask, count)
  }

  /** The next bytes of the file: searches them, and emits all but what a coming block may need. */
  take(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const copied = bytes.copy(this.#free, 0, at)
      this.#advance(copied)
      at += copied
    }
  }

  get #free(): Buffer {
    if (this.#literal > 0) {
      this.#dropped += this.#literal
      this.#window.copyWithin(0, this.#literal, this.#filled)
      this.#filled -= this.#literal
      this.#scan -= this.#literal
      this.#literal = 0
    }
    return this.#window.subarray(this.#filled)
  }

  #advance(length: number): void {
    this.#filled += length
    this.#vainLeft = Math.min(VAIN_BYTES_MAX, this.#vainLeft + length * VAIN_PER_BYTE)
    const { blockLength } = this.#head
    for (;;) {
      const last = this.#filled - blockLength
      if (this.#scan > last) break
      const block = this.#findBlock(last)
      if (block < 0) break
      this.#emitMatch(block, this.#blockLengthOf(block))
    }
    this.#emitLiteral(this.#scan)
  }

  /** The file has ended: the last block of the receiver may be shorter than the others. */
  finish(): void {
    const { count, remainder } = this.#head
    const tail = this.#filled - remainder
    if (remainder > 0 && tail >= this.#scan) {
      const weak = this.#wasm.weak(this.#windowAt + tail, remainder) >>> 0
      const there = !this.forward || (count - 1) * this.#head.blockLength >= this.#dropped + tail
      if (there && weak === this.#sums[count - 1] && this.#isStrong(tail, remainder, count - 1)) {
        this.#scan = tail
        this.#emitMatch(count - 1, remainder)
      }
    }
    this.#emitLiteral(this.#filled)
  }

  /** Gives the memory back; the search cannot be used any more. */
  close(): void {
    const small = this.#wasm.memory.buffer.byteLength <= IDLE_BYTES_MAX
    if (small && idle.length < IDLE_MAX) idle.push(this.#wasm)
  }

  /** Scans up to the block at `last`; leaves #scan at the match, or at `last`. */
  #findBlock(last: number): number {
    const { blockLength } = this.#head
    for (;;) {
      if (!this.#primed) this.#wasm.weak(this.#windowAt + this.#scan, blockLength)
      this.#primed = true
      const at = this.#wasm.find(
        this.#windowAt + this.#scan,
        this.#windowAt + last,
        blockLength,
        this.#sumsAt,
        this.#nextAt,
        this.#headsAt,
        this.#mask,
      )
      if (at === 0 || this.#vainLeft < 0) {
        if (at !== 0) this.#primed = false // the sums are not those of the block at `last`
        this.#scan = last
        return -1
      }
      this.#scan = at - this.#windowAt
      const block = this.#verify()
      this.hits++
      if (block >= 0) return block
      this.falseAlarms++
      if (this.#scan >= last) return -1
      this.#wasm.roll(this.#windowAt + this.#scan, blockLength)
      this.#scan++
    }
  }

  /** The block whose weak and strong sums are those of the bytes at #scan, or -1. */
  #verify(): number {
    const weak = this.#wasm.current() >>> 0
    const { count, blockLength } = this.#head
    let strong: Buffer | undefined
    const matches = (block: number) => {
      if (this.#sums[block] !== weak || this.#blockLengthOf(block) !== blockLength) return false
      if (this.forward && block * blockLength < this.#dropped + this.#scan) return false
      if (strong === undefined) {
        strong = this.#strongSum(this.#scan, blockLength)
        this.#vainLeft -= STRONG_SUM_COST + blockLength
      }
      this.#vainLeft -= COMPARISON_COST
      return this.#equalStrong(strong, block)
    }
    if (this.#wanted < count && matches(this.#wanted)) return this.#wanted
    let entry = this.#wasm.first(this.#headsAt, this.#mask) >>> 0
    while (entry !== 0) {
      if (matches(entry - 1)) return entry - 1
      entry = this.#next[entry - 1]
    }
    return -1
  }

  #isStrong(at: number, length: number, block: number): boolean {
    return this.#equalStrong(this.#strongSum(at, length), block)
  }

  #strongSum(at: number, length: number): Buffer {
    this.digest.reset()
    this.digest.update(this.#window.subarray(at, at + length))
    return this.digest.final()
  }

  #equalStrong(sum: Buffer, block: number): boolean {
    const { s2Length } = this.#head
    const start = block * s2Length
    return sum.compare(this.#strong, start, start + s2Length, 0, s2Length) === 0
  }

  #blockLengthOf(block: number): number {
    const { count, remainder, blockLength } = this.#head
    return block === count - 1 && remainder > 0 ? remainder : blockLength
  }

  #emitMatch(block: number, length: number): void {
    this.#emitLiteral(this.#scan)
    this.tokens.match(block)
    this.#scan += length
    this.#literal = this.#scan
    this.#wanted = block + 1
    this.#primed = false
  }

  #emitLiteral(end: number): void {
    if (end > this.#literal) this.tokens.literal(this.#window.subarray(this.#literal, end))
    this.#literal = Math.max(this.#literal, end)
  }
}
