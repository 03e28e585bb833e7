import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  ancestors,
  compareEntries,
  type FileEntry,
  type Filter,
  isDirectory,
  isRegular,
  type RawPath,
  type SourceTree,
} from '@syncline/rsync'

const SLICE_MS = 8

/** A name was moved within the source. */
export interface Move {
  from: RawPath
  to: RawPath
  directory: boolean
}

/**
 * The list that makes a receiver give what it has at `from` the name `to` as well: each regular file is listed under
 * both, as two names of one file (-H), and it links what it finds unchanged under either. That is only right where it
 * has nothing at `to`. Files that have several names here are left out, for they may be on their way under another one.
 * Null when there is nothing at `to`, or no place for `from`. Throws FileError.
 */
export async function pairedEntries(
  source: SourceTree,
  filter: Filter,
  from: RawPath,
  to: RawPath,
): Promise<FileEntry[] | null> {
  const top = source.look(to)
  if (top === null || filter.hides(to, isDirectory(top.mode))) return null
  const entries = new Map<RawPath, FileEntry>()
  for (const dir of new Set(['' as RawPath, ...ancestors(from), ...ancestors(to)])) {
    const entry = source.look(dir)
    // What is above `from` may be gone by now, and is listed all the same so that `from` can be: it goes afterwards.
    if (entry === null && from.startsWith(`${dir}/`)) entries.set(dir, { ...entries.get('' as RawPath)!, path: dir })
    else if (entry === null || !isDirectory(entry.mode)) return null
    else entries.set(dir, entry)
  }
  const keep = (path: RawPath, directory: boolean) => !filter.excludes(path, directory)
  const open = [top]
  let sliceStart = performance.now()
  for (let entry = open.pop(); entry !== undefined; entry = open.pop()) {
    const formerly = `${from}${entry.path.slice(to.length)}` as RawPath
    if (entry.linkGroup !== '') continue
    entries.set(entry.path, entry)
    if (isDirectory(entry.mode)) {
      entries.set(formerly, { ...entry, path: formerly })
      open.push(...(source.list(entry.path, keep, () => undefined) ?? []))
    } else if (isRegular(entry.mode) && keep(formerly, false)) {
      entry.linkGroup = `moved:${entry.path}`
      entries.set(formerly, { ...entry, path: formerly })
    }
    if (performance.now() - sliceStart < SLICE_MS) continue
    await nextTurn()
    sliceStart = performance.now()
  }
  return [...entries.values()].sort(compareEntries)
}
