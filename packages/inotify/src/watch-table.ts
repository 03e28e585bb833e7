import { join, type RawPath, ROOT } from './raw-path.js'
import { hashOf, RowIndex, RowNames, resized } from './rows.js'

/** A watch descriptor, by which a watched directory goes here. The kernel counts them up from 1, to 2^31 before one comes again. */
export type Wd = number

/** No directory. */
export const NONE: Wd = 0

const GROWTH = 2

/**
 * What is watched, by wd and as a tree. Paths are built by climbing: a renamed directory costs one link.
 *
 * Rows of numbers, and no objects: a directory takes some fifty bytes, and the garbage collector finds nothing to do.
 */
export class WatchTable {
  readonly root: Wd
  #capacity = 16
  #size = 0
  /** Rows are numbered from 1; those that were given back are linked by `#next`. */
  #usedRows = 0
  #freeRow = 0
  #wd = new Int32Array(this.#capacity)
  #parent = new Int32Array(this.#capacity)
  #firstChild = new Int32Array(this.#capacity)
  #next = new Int32Array(this.#capacity)
  #previous = new Int32Array(this.#capacity)
  /** Of parent and name, while there is a parent. */
  #hash = new Int32Array(this.#capacity)
  /** The scan that saw it last. */
  #seen = new Uint8Array(this.#capacity)
  #scanNumber = 0
  readonly #names = new RowNames()
  readonly #byWd = new RowIndex((row) => this.#wd[row]!)
  readonly #byName = new RowIndex((row) => this.#hash[row]!)
  // Events come in runs on one directory. Any change of the tree may make this path wrong.
  #lastWd: Wd = NONE
  #lastPath: RawPath | undefined

  constructor(root: Wd) {
    this.root = root
    this.#create(root)
  }

  get size(): number {
    return this.#size
  }

  has(wd: Wd): boolean {
    return this.#rowOf(wd) !== 0
  }

  /** NONE for the root, and for a detached directory: moved away or displaced, and nobody has seen it elsewhere yet. */
  parentOf(wd: Wd): Wd {
    return this.#wd[this.#parent[this.#rowOf(wd)]!]!
  }

  nameOf(wd: Wd): RawPath {
    return this.#names.get(this.#rowOf(wd)) as RawPath
  }

  /** NONE when there is none that is watched. */
  child(parent: Wd, name: RawPath): Wd {
    return this.#wd[this.#childRow(this.#rowOf(parent), name)]!
  }

  /** The watched directory that has this path, or NONE. */
  at(path: RawPath): Wd {
    if (path === ROOT) return this.root
    let wd = this.root
    for (const name of path.split('/')) wd = this.child(wd, name as RawPath)
    return wd
  }

  /** Root-relative path, or undefined below a detached directory. */
  pathOf(wd: Wd): RawPath | undefined {
    if (wd === this.#lastWd) return this.#lastPath
    const names: string[] = []
    let row = this.#rowOf(wd)
    for (; this.#parent[row] !== 0; row = this.#parent[row]!) names.push(this.#names.get(row))
    this.#lastWd = wd
    this.#lastPath = this.#wd[row] === this.root ? (names.reverse().join('/') as RawPath) : undefined
    return this.#lastPath
  }

  pathOfChild(parent: Wd, name: RawPath): RawPath | undefined {
    const directory = this.pathOf(parent)
    return directory === undefined ? undefined : join(directory, name)
  }

  /**
   * The directory `wd` was just seen as `name` in `parent`. A known wd is a known directory with a new parent. Returns the
   * directory that had this place, which is detached now, or NONE. Undefined when the directory is the root, or contains `parent`: renames
   * cannot do that, a bind mount into itself can, and so can a view of the tree that is older than a queued rename.
   */
  attach(wd: Wd, parent: Wd, name: RawPath): Wd | undefined {
    if (wd === this.root) return undefined
    const row = this.#rowOf(wd) || this.#create(wd)
    const parentRow = this.#rowOf(parent)
    this.#seen[row] = this.#scanNumber
    const before = this.#childRow(parentRow, name)
    if (before === row) return NONE
    if (this.#contains(row, parentRow)) return undefined
    if (before !== 0) this.#detach(before)
    this.#detach(row)
    this.#link(row, parentRow, name)
    return this.#wd[before]!
  }

  detach(wd: Wd): void {
    this.#detach(this.#rowOf(wd))
  }

  /** Forgets the directory and returns its children, detached. */
  remove(wd: Wd): Wd[] {
    const row = this.#rowOf(wd)
    if (row === 0) return []
    const orphans: Wd[] = []
    for (let child = this.#firstChild[row]!; child !== 0; child = this.#firstChild[row]!) {
      orphans.push(this.#wd[child]!)
      this.#detach(child)
    }
    this.#detach(row)
    this.#byWd.delete(row)
    this.#names.set(row, '')
    this.#wd[row] = NONE
    this.#next[row] = this.#freeRow
    this.#freeRow = row
    this.#size--
    return orphans
  }

  /** From here on `unseen` are those that are not attached again. */
  beginScan(): void {
    this.#scanNumber = (this.#scanNumber + 1) % 256
    this.#seen[this.#rowOf(this.root)] = this.#scanNumber
  }

  unseen(): Wd[] {
    const unseen: Wd[] = []
    for (let row = 1; row <= this.#usedRows; row++)
      if (this.#wd[row] !== NONE && this.#seen[row] !== this.#scanNumber) unseen.push(this.#wd[row]!)
    return unseen
  }

  #rowOf(wd: Wd): number {
    return this.#byWd.find(wd, (row) => this.#wd[row] === wd)
  }

  #childRow(parent: number, name: RawPath): number {
    return this.#byName.find(hashOf(parent, name), (row) => this.#parent[row] === parent && this.#names.is(row, name))
  }

  #contains(row: number, descendant: number): boolean {
    if (this.#firstChild[row] === 0 && row !== descendant) return false
    for (let at = descendant; at !== 0; at = this.#parent[at]!) if (at === row) return true
    return false
  }

  #create(wd: Wd): number {
    const row = this.#newRow()
    this.#wd[row] = wd
    this.#parent[row] = 0
    this.#firstChild[row] = 0
    this.#seen[row] = this.#scanNumber
    this.#byWd.add(row)
    this.#size++
    return row
  }

  #newRow(): number {
    const row = this.#freeRow
    if (row !== 0) {
      this.#freeRow = this.#next[row]!
      return row
    }
    if (++this.#usedRows === this.#capacity) this.#grow()
    return this.#usedRows
  }

  #grow(): void {
    this.#capacity *= GROWTH
    this.#wd = resized(this.#wd, this.#capacity)
    this.#parent = resized(this.#parent, this.#capacity)
    this.#firstChild = resized(this.#firstChild, this.#capacity)
    this.#next = resized(this.#next, this.#capacity)
    this.#previous = resized(this.#previous, this.#capacity)
    this.#hash = resized(this.#hash, this.#capacity)
    this.#seen = resized(this.#seen, this.#capacity)
    this.#names.resize(this.#capacity)
  }

  #link(row: number, parent: number, name: RawPath): void {
    const sibling = this.#firstChild[parent]!
    this.#names.set(row, name)
    this.#hash[row] = hashOf(parent, name)
    this.#parent[row] = parent
    this.#next[row] = sibling
    this.#previous[row] = 0
    this.#previous[sibling] = row // of row 0 too, which nobody reads
    this.#firstChild[parent] = row
    this.#byName.add(row)
  }

  #detach(row: number): void {
    this.#lastWd = NONE
    this.#lastPath = undefined
    const parent = this.#parent[row]!
    if (parent === 0) return
    this.#byName.delete(row)
    const [previous, next] = [this.#previous[row]!, this.#next[row]!]
    if (previous === 0) this.#firstChild[parent] = next
    else this.#next[previous] = next
    this.#previous[next] = previous
    this.#parent[row] = 0
  }
}
