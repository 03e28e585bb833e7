import { setImmediate as nextTurn } from 'node:timers/promises'
import { type FileEntry, type Filter, type Found, isDirectory, type RawPath, type SourceTree } from '@syncline/rsync'

const SLICE_MS = 8

interface Group {
  paths: Set<RawPath>
  /** The link count and the names found when the whole tree was searched: while both hold, the others are outside. */
  searchedFor: number
  foundThen: number
}

/**
 * The names of each file that has several. An event names one of them, but only a list with all of them keeps them
 * one file at the receiver.
 */
export class LinkIndex {
  readonly #groups = new Map<string, Group>()

  constructor(
    readonly source: SourceTree,
    readonly filter: Filter,
  ) {}

  /** Remembers what a scan met. */
  note(entry: FileEntry): void {
    if (entry.linkGroup === '') return
    const group = this.#groups.get(entry.linkGroup)
    if (group === undefined)
      this.#groups.set(entry.linkGroup, { paths: new Set([entry.path]), searchedFor: 0, foundThen: 0 })
    else group.paths.add(entry.path)
  }

  /** All names of the files in `found`, with what was found; searches the tree when some are not known. */
  async siblings(found: readonly Found[]): Promise<Found[]> {
    for (const { entry } of found) this.note(entry)
    const incomplete = found.filter((one) => !this.#isComplete(one))
    if (incomplete.length > 0) {
      await this.#search()
      for (const { entry, stat } of incomplete) {
        const group = this.#groups.get(entry.linkGroup) // gone when all its names went meanwhile
        if (group === undefined) continue
        group.searchedFor = stat.nlink
        group.foundThen = this.#verify(entry.linkGroup).length
      }
    }
    const seen = new Map<RawPath, Found>()
    for (const { entry } of found) for (const one of this.#verify(entry.linkGroup)) seen.set(one.entry.path, one)
    return [...seen.values()]
  }

  #isComplete({ entry, stat }: Found): boolean {
    const known = this.#verify(entry.linkGroup).length
    const group = this.#groups.get(entry.linkGroup)
    return known >= stat.nlink || (group?.searchedFor === stat.nlink && group.foundThen === known)
  }

  /** The names that still are this file; the others are forgotten. */
  #verify(linkGroup: string): Found[] {
    const group = this.#groups.get(linkGroup)
    const valid: Found[] = []
    for (const path of group?.paths ?? []) {
      const one = this.source.look(path)
      if (one?.entry.linkGroup === linkGroup) valid.push(one)
      else group!.paths.delete(path)
    }
    if (valid.length === 0) this.#groups.delete(linkGroup)
    return valid
  }

  async #search(): Promise<void> {
    let sliceStart = performance.now()
    const open: RawPath[] = ['' as RawPath]
    for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
      const list = this.#list(dir)
      for (const { entry } of list) {
        if (isDirectory(entry.mode)) open.push(entry.path)
        else this.note(entry)
      }
      if (performance.now() - sliceStart < SLICE_MS) continue
      await nextTurn()
      sliceStart = performance.now()
    }
  }

  /** What cannot be listed holds no names that we could send. */
  #list(dir: RawPath): Found[] {
    const keep = (path: RawPath, directory: boolean) => !this.filter.excludes(path, directory)
    try {
      return this.source.list(dir, keep, () => undefined) ?? []
    } catch {
      return []
    }
  }
}
