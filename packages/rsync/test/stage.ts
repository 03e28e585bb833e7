import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { type BigIntStats, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import {
  compareEntries,
  type FileEntry,
  type Filter,
  fromBytes,
  isDirectory,
  type RawPath,
  SourceTree,
} from '../src/index.js'

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'rsync-test-'))
  t.after(() => execFileSync('rm', ['-rf', '--one-file-system', directory]))
  return directory
}

export function openTree(t: TestContext, root: string): SourceTree {
  const tree = new SourceTree(fromBytes(Buffer.from(root)))
  tree.enter()
  t.after(() => tree.leave())
  return tree
}

const ROOT = '' as RawPath

/** Everything in the tree that `filter` lets through, as a full sync lists it. */
export function listAll(source: SourceTree, filter?: Filter): FileEntry[] {
  const root = source.look(ROOT)
  if (root === null) throw new Error('the root is gone')
  const entries = [{ ...root, hasContent: true, topDir: true }]
  const visit = (dir: RawPath) => {
    const keep = (path: RawPath, directory: boolean) => !filter?.hides(path, directory)
    const raise = (error: Error) => {
      throw error
    }
    for (const entry of source.list(dir, keep, raise) ?? []) {
      entries.push(isDirectory(entry.mode) ? { ...entry, hasContent: true } : entry)
      if (isDirectory(entry.mode)) visit(entry.path)
    }
  }
  visit(ROOT)
  return entries.sort(compareEntries)
}

export interface DescribeOptions {
  /** Nanoseconds of times are compared; some protocols do not carry them. */
  nanoseconds?: boolean
}

/** Each path below `root` and all that rsync -aH carries of it, as a text that can be compared. */
export function describeTree(root: string, options: DescribeOptions = {}): Record<string, string> {
  const found: Record<string, string> = {}
  const firstNames = new Map<bigint, string>()
  const visit = (path: string): void => {
    const absolute = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')])
    const stat = lstatSync(absolute, { bigint: true })
    const first = firstNames.get(stat.ino) ?? path
    firstNames.set(stat.ino, first)
    found[path] = `${describe(absolute, stat, options)}${first === path ? '' : ` = ${first}`}`
    if (!stat.isDirectory()) return
    for (const name of readdirSync(absolute, 'latin1').sort()) visit(path === '' ? name : `${path}/${name}`)
  }
  visit('')
  return found
}

function describe(path: Buffer, stat: BigIntStats, { nanoseconds = true }: DescribeOptions): string {
  const time = nanoseconds ? stat.mtimeNs : stat.mtimeNs / 1_000_000_000n // none before 1970 has a fraction
  const common = `${stat.mode.toString(8)} ${stat.uid}:${stat.gid} @${time}`
  if (stat.isFile()) return `${common} ${stat.size} ${createHash('sha1').update(readFileSync(path)).digest('hex')}`
  if (stat.isSymbolicLink()) return `${common} -> ${readlinkSync(path, 'latin1')}`
  if (stat.isCharacterDevice() || stat.isBlockDevice()) return `${common} ${stat.rdev}`
  return common
}

export const repeat = (text: string, length: number) => text.repeat(Math.ceil(length / text.length)).slice(0, length)

/** Numbers that look random and are the same on every run. */
export function pseudoRandom(seed: number): () => number {
  let state = seed >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state / 2 ** 32
  }
}

export function randomBytes(length: number, seed: number): Buffer {
  const next = pseudoRandom(seed)
  const bytes = Buffer.allocUnsafe(length)
  for (let i = 0; i < length; i++) bytes[i] = next() * 256
  return bytes
}
