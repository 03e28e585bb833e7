import { type FileEntry, isDirectory } from './entry.js'

/**
 * flist.c f_name_cmp(): the order in which both ends number the entries. In each directory its files come first,
 * then its subdirectories, each followed at once by what it holds; directories compare as `name/`. The root is first.
 */
export function compareEntries(a: FileEntry, b: FileEntry): number {
  const x = a.path as string
  const y = b.path as string
  if (x === y) return 0
  if (x === '') return -1
  if (y === '') return 1
  const shared = sharedDirectory(x, y)
  const xIsPath = isDirectory(a.mode) || x.indexOf('/', shared) >= 0
  const yIsPath = isDirectory(b.mode) || y.indexOf('/', shared) >= 0
  if (xIsPath !== yIsPath) return xIsPath ? 1 : -1
  const p = xIsPath ? `${x}/` : x
  const q = yIsPath ? `${y}/` : y
  return p < q ? -1 : 1
}

/** The same for two entries of one directory. */
export function compareSiblings(a: FileEntry, b: FileEntry): number {
  const directories = isDirectory(a.mode)
  if (directories !== isDirectory(b.mode)) return directories ? 1 : -1
  if (a.path === b.path) return 0
  return (directories ? `${a.path}/` < `${b.path}/` : a.path < b.path) ? -1 : 1
}

/** Length of the leading directories, with their slashes, that both paths have. */
function sharedDirectory(x: string, y: string): number {
  const length = Math.min(x.length, y.length)
  let end = 0
  for (let i = 0; i < length; i++) {
    const c = x.charCodeAt(i)
    if (c !== y.charCodeAt(i)) break
    if (c === SLASH) end = i + 1
  }
  return end
}

const SLASH = 0x2f
