import type { BigIntStats } from 'node:fs'
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs'

/** A name or path as latin1 text, one character per byte: a Map key that loses nothing. */
type Raw = string

interface Entry {
  path: Buffer
  stats: BigIntStats
}

export interface CompareOptions {
  /** Stop after so many differences. */
  limit?: number
  /** Paths (relative, latin1) that are not looked at, with all below them. */
  ignore?: (path: string) => boolean
  /** Attributes that need not be equal, e.g. where the daemon does not run as root. */
  except?: readonly Attribute[]
}

type Attribute = 'mode' | 'uid' | 'gid' | 'mtime' | 'links'

/**
 * What makes `right` differ from `left`, as readable lines; none when they are equal: names, types, content, mode,
 * uid, gid, mtime to the nanosecond, symlink targets, device numbers, and which names are links of one file.
 */
export function differences(left: string, right: string, options: CompareOptions = {}): string[] {
  const { limit = 20 } = options
  const found: string[] = []
  const a = walk(left, options.ignore)
  const b = walk(right, options.ignore)
  const groupsA = linkGroups(a)
  const groupsB = linkGroups(b)
  for (const [path, entry] of a) {
    const other = b.get(path)
    if (other === undefined) found.push(`${show(path)}: missing at the destination (${kind(entry.stats)})`)
    else found.push(...compare(path, entry, other, options))
    if (other !== undefined && !options.except?.includes('links') && groupsA.get(path) !== groupsB.get(path)) {
      const name = (group: Raw | undefined) => (group === undefined ? 'not linked' : `linked to ${show(group)}`)
      found.push(`${show(path)}: ${name(groupsA.get(path))}, at the destination ${name(groupsB.get(path))}`)
    }
    if (found.length >= limit) return found
  }
  for (const [path, entry] of b) {
    if (a.has(path)) continue
    found.push(`${show(path)}: only at the destination (${kind(entry.stats)})`)
    if (found.length >= limit) return found
  }
  return found
}

/** Everything below `root` as lines of text, to prove later that nothing changed there. */
export function snapshot(root: string): string {
  const lines = [...walk(root)].map(([path, { stats }]) => {
    return `${show(path)} ${stats.mode} ${stats.uid}:${stats.gid} ${stats.size} ${stats.mtimeNs} ${stats.ctimeNs} ${stats.ino}`
  })
  return lines.sort().join('\n')
}

/** Every path below `root`, relative and in latin1, the root itself not included. */
export function paths(root: string): Raw[] {
  return [...walk(root).keys()].filter((path) => path !== '').sort()
}

/** A raw path for humans: printable ASCII as it is, the rest as \xNN. */
export function show(path: Raw): string {
  if (path === '') return '(root)'
  const hex = (char: string) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`
  const text = path.replace(/[^\x20-\x7e]/g, hex)
  return text.length > 160 ? `${text.slice(0, 120)}…(${path.length} bytes)…${text.slice(-20)}` : text
}

function walk(root: string, ignore: (path: Raw) => boolean = () => false): Map<Raw, Entry> {
  const found = new Map<Raw, Entry>()
  const top = Buffer.from(root)
  const visit = (relative: Raw): void => {
    const path = relative === '' ? top : join(top, relative)
    // While the tree still changes, entries vanish under our eyes; they are then simply not there.
    const stats = vanishing(() => lstatSync(path, { bigint: true }))
    if (stats === undefined) return
    found.set(relative, { path, stats })
    if (!stats.isDirectory()) return
    for (const name of vanishing(() => readdirSync(path, { encoding: 'latin1' })) ?? []) {
      const child = relative === '' ? name : `${relative}/${name}`
      if (!ignore(child)) visit(child)
    }
  }
  visit('')
  return found
}

function compare(path: Raw, a: Entry, b: Entry, { except = [] }: CompareOptions): string[] {
  const found: string[] = []
  const differ = (what: string, left: unknown, right: unknown) => {
    if (left !== right) found.push(`${show(path)}: ${what} ${left}, at the destination ${right}`)
  }
  differ('type', kind(a.stats), kind(b.stats))
  if (found.length > 0) return found
  if (!except.includes('mode')) differ('mode', mode(a.stats), mode(b.stats))
  if (!except.includes('uid')) differ('uid', a.stats.uid, b.stats.uid)
  if (!except.includes('gid')) differ('gid', a.stats.gid, b.stats.gid)
  if (!except.includes('mtime')) differ('mtime', a.stats.mtimeNs, b.stats.mtimeNs)
  if (a.stats.isCharacterDevice() || a.stats.isBlockDevice()) differ('device', a.stats.rdev, b.stats.rdev)
  if (a.stats.isSymbolicLink()) differ('symlink target', target(a), target(b))
  if (a.stats.isFile()) {
    differ('size', a.stats.size, b.stats.size)
    if (a.stats.size === b.stats.size && vanishing(() => sameContent(a.path, b.path)) !== true) {
      found.push(`${show(path)}: content differs (${a.stats.size} bytes)`)
    }
  }
  return found
}

/** Each path that shares its inode with others in the tree, and the first (bytewise) of those names. */
function linkGroups(tree: Map<Raw, Entry>): Map<Raw, Raw> {
  const names = new Map<string, Raw[]>()
  for (const [path, { stats }] of tree) {
    if (stats.nlink < 2n || stats.isDirectory()) continue
    const inode = `${stats.dev}:${stats.ino}`
    names.set(inode, [...(names.get(inode) ?? []), path])
  }
  const groups = new Map<Raw, Raw>()
  for (const group of names.values()) {
    if (group.length < 2) continue
    const first = group.sort()[0]
    for (const path of group) groups.set(path, first)
  }
  return groups
}

function sameContent(a: Buffer, b: Buffer): boolean {
  const left = openSync(a, 'r')
  try {
    const right = openSync(b, 'r')
    try {
      return sameBytes(left, right)
    } finally {
      closeSync(right)
    }
  } finally {
    closeSync(left)
  }
}

const CHUNK_BYTES = 256 * 1024
const [chunkA, chunkB] = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)]

function sameBytes(left: number, right: number): boolean {
  for (;;) {
    const length = readSync(left, chunkA)
    if (readSync(right, chunkB) !== length) return false
    if (length === 0) return true
    if (!chunkA.subarray(0, length).equals(chunkB.subarray(0, length))) return false
  }
}

function kind(stats: BigIntStats): string {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'directory'
  if (stats.isSymbolicLink()) return 'symlink'
  if (stats.isFIFO()) return 'FIFO'
  if (stats.isSocket()) return 'socket'
  return stats.isCharacterDevice() ? 'character device' : 'block device'
}

const mode = (stats: BigIntStats) => (stats.mode & 0o7777n).toString(8)
const target = (entry: Entry) => vanishing(() => readlinkSync(entry.path, 'latin1'))
const join = (top: Buffer, relative: Raw) => Buffer.concat([top, Buffer.from('/'), Buffer.from(relative, 'latin1')])

function vanishing<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined
    throw error
  }
}
