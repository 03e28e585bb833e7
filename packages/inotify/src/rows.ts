import { randomBytes } from 'node:crypto'

const ROWS_MIN = 16
/** Of the places of an index, in eighths. */
const FULL_EIGHTHS = 6

/** For tables that number their rows from 1: which row has this key, in about six bytes for each row. */
export class RowIndex {
  #rows = new Int32Array(ROWS_MIN) // 0: free
  #shift = 32 - Math.log2(ROWS_MIN)
  #count = 0

  /** `hashOf` a row that is in the index gives what it was found and added by: 32 bits. */
  constructor(readonly hashOf: (row: number) => number) {}

  /** The row of this hash for which `is` holds, or 0. */
  find(hash: number, is: (row: number) => boolean): number {
    const rows = this.#rows
    for (let at = this.#home(hash); ; at = this.#after(at)) {
      const row = rows[at]!
      if (row === 0 || is(row)) return row
    }
  }

  add(row: number): void {
    if ((this.#count + 1) * 8 > this.#rows.length * FULL_EIGHTHS) this.#grow()
    this.#count++
    this.#place(row)
  }

  delete(row: number): void {
    const rows = this.#rows
    let hole = this.#home(this.hashOf(row))
    while (rows[hole] !== row) hole = this.#after(hole)
    this.#count--
    // What follows without a gap moves up, unless the hole is before the place where the search for it begins.
    for (let at = this.#after(hole); rows[at] !== 0; at = this.#after(at)) {
      const home = this.#home(this.hashOf(rows[at]!))
      if (this.#distance(home, at) < this.#distance(hole, at)) continue
      rows[hole] = rows[at]!
      hole = at
    }
    rows[hole] = 0
  }

  #place(row: number): void {
    let at = this.#home(this.hashOf(row))
    while (this.#rows[at] !== 0) at = this.#after(at)
    this.#rows[at] = row
  }

  #grow(): void {
    const before = this.#rows
    this.#rows = new Int32Array(before.length * 2)
    this.#shift--
    for (const row of before) if (row !== 0) this.#place(row)
  }

  #home(hash: number): number {
    return Math.imul(hash, 0x9e3779b1) >>> this.#shift
  }

  #after(at: number): number {
    return (at + 1) & (this.#rows.length - 1)
  }

  #distance(from: number, to: number): number {
    return (to - from) & (this.#rows.length - 1)
  }
}

/** Nobody shall be able to make names that all hash alike. */
const SECRET = randomBytes(4).readInt32LE()

/** Of a number and a string of bytes. */
export function hashOf(number: number, bytes: string): number {
  let hash = Math.imul(number ^ SECRET, 0x85ebca6b)
  for (let i = 0; i < bytes.length; i++) {
    hash = Math.imul(hash ^ bytes.charCodeAt(i), 0x5bd1e995)
    hash ^= hash >>> 13
  }
  return hash
}

const NAMES_MIN_BYTES = 1024

/** A name of any bytes for each row, end to end. */
export class RowNames {
  #bytes = Buffer.alloc(NAMES_MIN_BYTES)
  #end = 0
  #dead = 0
  #at = new Uint32Array(ROWS_MIN)
  #length = new Uint16Array(ROWS_MIN)

  resize(rows: number): void {
    this.#at = resized(this.#at, rows)
    this.#length = resized(this.#length, rows)
  }

  get(row: number): string {
    const at = this.#at[row]!
    return this.#bytes.toString('latin1', at, at + this.#length[row]!)
  }

  is(row: number, name: string): boolean {
    if (this.#length[row] !== name.length) return false
    const at = this.#at[row]!
    for (let i = 0; i < name.length; i++) if (this.#bytes[at + i] !== name.charCodeAt(i)) return false
    return true
  }

  set(row: number, name: string): void {
    this.#dead += this.#length[row]!
    this.#length[row] = 0
    if (this.#end + name.length > this.#bytes.length) this.#makeRoom(name.length)
    this.#at[row] = this.#end
    this.#length[row] = name.length
    for (let i = 0; i < name.length; i++) this.#bytes[this.#end++] = name.charCodeAt(i)
  }

  /** A half more than is needed, and without the dead where they are many. */
  #makeRoom(length: number): void {
    const from = this.#bytes
    const packs = this.#dead > this.#end / 4
    const needed = length + this.#end - (packs ? this.#dead : 0)
    this.#bytes = Buffer.alloc(Math.max(needed + (needed >>> 1), NAMES_MIN_BYTES))
    if (packs) this.#pack(from)
    else from.copy(this.#bytes, 0, 0, this.#end)
  }

  #pack(from: Buffer): void {
    this.#end = 0
    this.#dead = 0
    for (let row = 0; row < this.#length.length; row++) {
      const at = this.#at[row]!
      this.#at[row] = this.#end
      this.#end += from.copy(this.#bytes, this.#end, at, at + this.#length[row]!)
    }
  }
}

/** The same numbers in an array of another length. */
export function resized<T extends Int32Array | Uint32Array | Uint16Array | Uint8Array>(from: T, length: number): T {
  const to = new (from.constructor as new (length: number) => T)(length)
  to.set(from)
  return to
}
