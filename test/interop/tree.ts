import * as fs from 'node:fs'
import { content } from '../support/sample.js'
import { type Acl, encodeAcl } from './acl.js'
import * as kernel from './kernel.js'

export interface Attributes {
  /** Seconds since the epoch; a string may have a fraction: '-1.5', '4102444800.123456789'. */
  mtime?: number | string
  mode?: number
  uid?: number
  gid?: number
  xattrs?: Record<string, string>
  acl?: Acl
  defaultAcl?: Acl
}

/** What everything is dated that a case does not date itself. */
const MTIME = 1_600_000_000

/**
 * Fills a cell's directory. Paths are relative to it, one latin1 character per byte; missing parents are made. What it
 * makes for a case is the same each time, times included.
 */
export class Tree {
  readonly #root: string
  readonly #times = new Map<string, bigint>()
  readonly #mounts: string[] = []

  constructor(root: string) {
    this.#root = root
  }

  dir(path: string, attributes: Attributes = {}): void {
    this.#makeDirectory(path)
    this.#dress(path, { mode: 0o755, ...attributes })
  }

  /** A file of that text, or of so many bytes that only `seed` decides. */
  file(path: string, text: string | number | Buffer, attributes: Attributes & { seed?: number } = {}): void {
    this.#makeParent(path)
    const bytes = typeof text === 'number' ? filler(text, attributes.seed ?? 1) : text
    fs.writeFileSync(this.#at(path), typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes)
    this.#dress(path, { mode: 0o644, ...attributes })
  }

  symlink(path: string, target: string, attributes: Omit<Attributes, 'mode'> = {}): void {
    this.#makeParent(path)
    fs.symlinkSync(Buffer.from(target, 'latin1'), this.#at(path))
    this.#dress(path, attributes)
  }

  hardLink(path: string, existing: string): void {
    this.#makeParent(path)
    fs.linkSync(this.#at(existing), this.#at(path))
  }

  fifo(path: string, attributes: Attributes = {}): void {
    this.#node(path, kernel.S_IFIFO, attributes)
  }

  socket(path: string, attributes: Attributes = {}): void {
    this.#node(path, kernel.S_IFSOCK, attributes)
  }

  characterDevice(path: string, major: number, minor: number, attributes: Attributes = {}): void {
    this.#node(path, kernel.S_IFCHR, attributes, major, minor)
  }

  blockDevice(path: string, major: number, minor: number, attributes: Attributes = {}): void {
    this.#node(path, kernel.S_IFBLK, attributes, major, minor)
  }

  /** A file of `length` bytes that is one hole but for what is written at each offset. */
  sparse(path: string, length: number, data: Record<number, string>): void {
    this.file(path, '')
    const fd = fs.openSync(this.#at(path), 'r+')
    for (const [offset, text] of Object.entries(data)) fs.writeSync(fd, text, Number(offset))
    fs.ftruncateSync(fd, length)
    fs.closeSync(fd)
  }

  /** A directory that is a filesystem of its own. */
  mount(path: string): void {
    this.#makeDirectory(path)
    kernel.mountTmpfs(`${this.#root}/${path}`)
    this.#mounts.push(path)
    this.#dress(path, { mode: 0o755 })
  }

  /** Dates everything, now that nothing is added to a directory any more. */
  settle(): void {
    for (const [path, mtime] of this.#times) kernel.setTime(`${this.#root}/${path}`, mtime)
  }

  close(): void {
    for (const path of this.#mounts.splice(0)) kernel.unmount(`${this.#root}/${path}`)
  }

  #node(path: string, type: number, attributes: Attributes, major = 0, minor = 0): void {
    this.#makeParent(path)
    kernel.makeNode(`${this.#root}/${path}`, type | 0o644, major, minor)
    this.#dress(path, attributes)
  }

  #makeDirectory(path: string): void {
    if (fs.existsSync(this.#at(path))) return
    this.#makeParent(path)
    fs.mkdirSync(this.#at(path))
    this.#times.set(path, nanoseconds(MTIME))
  }

  #makeParent(path: string): void {
    const slash = path.lastIndexOf('/')
    if (slash > 0) this.#makeDirectory(path.slice(0, slash))
  }

  #dress(path: string, { mtime = MTIME, mode, uid = 0, gid = 0, xattrs = {}, acl, defaultAcl }: Attributes): void {
    const at = this.#at(path)
    if (uid !== 0 || gid !== 0) fs.lchownSync(at, uid, gid)
    if (mode !== undefined) fs.chmodSync(at, mode)
    const full = `${this.#root}/${path}`
    for (const [name, value] of Object.entries(xattrs)) kernel.setXattr(full, name, Buffer.from(value, 'latin1'))
    if (acl !== undefined) kernel.setXattr(full, 'system.posix_acl_access', encodeAcl(acl))
    if (defaultAcl !== undefined) kernel.setXattr(full, 'system.posix_acl_default', encodeAcl(defaultAcl))
    this.#times.set(path, nanoseconds(mtime))
  }

  #at(path: string): Buffer {
    return Buffer.from(`${this.#root}/${path}`, 'latin1')
  }
}

const fillers = new Map<string, Buffer>()

/** Content that does not compress and is the same for the same seed. */
export function filler(length: number, seed = 1): Buffer {
  const key = `${length} ${seed}`
  const bytes = fillers.get(key) ?? content(length, seed)
  fillers.set(key, bytes)
  return bytes
}

/** `bytes` with those at `offset` replaced. */
export function changed(bytes: Buffer, offset: number, text: string): Buffer {
  const copy = Buffer.from(bytes)
  copy.write(text, offset, 'latin1')
  return copy
}

function nanoseconds(seconds: number | string): bigint {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(String(seconds)) ?? []
  const magnitude = BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0') || '0')
  return sign === '-' ? -magnitude : magnitude
}
