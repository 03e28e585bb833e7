import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  ancestors,
  compareEntries,
  type FileEntry,
  FileError,
  type Filter,
  isDirectory,
  isRegular,
  missing,
  parent,
  type RawPath,
  type SourceTree,
} from '@syncline/rsync'
import type { Mark } from './dirty.js'
import type { LinkIndex } from './links.js'

const SLICE_MS = 8

/** One file list, made from marks by looking at the disk now. */
export interface Batch {
  /** In the order of the file list. */
  entries: FileEntry[]
  /** Directories that are listed only because something below them is. */
  parents: Set<RawPath>
  /** What could not be looked at; when there is any, the list is not complete. */
  failed: FileError[]
  missing: number
  /** Directories whose listing will delete what could not be deleted by name. */
  levels: Set<RawPath>
  /** Files that are too large to go along with others; they are not listed. */
  large: RawPath[]
  /** Found gone, and not to be deleted yet; they are not listed. */
  held: Mark[]
  /** Missing names whose content has another name at the target. */
  moved: Set<RawPath>
  /** The files with several names that are listed. */
  linkGroups: Set<string>
  /** The whole tree is listed. */
  whole: boolean
}

export interface BatchOptions {
  source: SourceTree
  filter: Filter
  links: LinkIndex
  /** Whether what is missing here shall be deleted there, and how: by name, or later by listing its directory. */
  deletion: 'none' | 'by-name' | 'by-listing'
  /** A marked file from this size on is left to a session of its own. */
  largeBytes: number
  /** Whether a marked name that is gone is not to be deleted yet. */
  holdsBack?: (mark: Mark) => boolean
}

/** Looks at every marked path: what is there is listed, what is not is listed as missing. Slices its work. */
export async function buildBatch(marks: readonly Mark[], options: BatchOptions): Promise<Batch> {
  return new BatchBuilder(options).build(marks)
}

class BatchBuilder {
  readonly #entries = new Map<RawPath, FileEntry>()
  readonly #wanted = new Set<RawPath>() // listed for their own sake
  readonly #linked: FileEntry[] = []
  readonly #failed: FileError[] = []
  readonly #levels = new Set<RawPath>()
  readonly #large: RawPath[] = []
  readonly #held: Mark[] = []
  readonly #moved = new Set<RawPath>()
  #missing = 0
  #sliceStart = performance.now()

  constructor(readonly options: BatchOptions) {}

  async build(marks: readonly Mark[]): Promise<Batch> {
    const trees = new Set(marks.filter((mark) => mark.scope === 'tree').map((mark) => mark.path))
    for (const mark of marks) {
      if (coveredByTree(mark, trees)) continue
      try {
        await this.#add(mark)
      } catch (error) {
        this.#fail(error)
      }
      if (performance.now() - this.#sliceStart > SLICE_MS) await this.#pause()
    }
    await this.#addSiblings()
    this.#addParents()
    // Nearly in order already, which costs this sort little more than one look at each.
    const entries = [...this.#entries.values()].sort(compareEntries)
    const parents = new Set<RawPath>()
    for (const path of this.#entries.keys()) if (!this.#wanted.has(path)) parents.add(path)
    return {
      entries,
      parents,
      failed: this.#failed,
      missing: this.#missing,
      levels: this.#levels,
      large: this.#large,
      held: this.#held,
      moved: this.#moved,
      linkGroups: new Set(entries.flatMap(({ linkGroup }) => (linkGroup === '' ? [] : linkGroup))),
      whole: trees.has('' as RawPath),
    }
  }

  async #add(mark: Mark): Promise<void> {
    const { source, filter } = this.options
    const found = source.look(mark.path)
    // Of what is gone nobody knows whether it was a directory: what the filter might protect stays.
    const hidden =
      found === null
        ? filter.hides(mark.path, true) || filter.hides(mark.path, false)
        : filter.hides(mark.path, isDirectory(found.mode))
    if (hidden) return
    if (found === null) return this.#addGone(mark)
    if (isRegular(found.mode) && found.size >= this.options.largeBytes) return void this.#large.push(mark.path)
    this.#list(found)
    if (!isDirectory(found.mode) || mark.scope === 'entry') return
    if (mark.scope === 'tree') await this.#addTree(found)
    else this.#addLevel(found)
  }

  #list(entry: FileEntry): void {
    this.#entries.set(entry.path, entry)
    this.#wanted.add(entry.path)
    this.options.links.note(entry)
    if (entry.linkGroup !== '') this.#linked.push(entry)
  }

  async #addTree(root: FileEntry): Promise<void> {
    const { source, filter, links } = this.options
    const keep = (path: RawPath, directory: boolean) => !filter.excludes(path, directory)
    const fail = (error: unknown) => this.#fail(error)
    // Depth first, in list order: the map then needs no sorting.
    const open: FileEntry[][] = []
    const enter = (directory: FileEntry) => {
      let list: FileEntry[] | null
      const failedBefore = this.#failed.length
      try {
        list = source.list(directory.path, keep, fail)
      } catch (error) {
        return fail(error)
      }
      if (list === null) return void this.#entries.delete(directory.path) // its event is on the way
      // A daemon with "ignore errors" deletes what is not listed even where the list is known to be incomplete.
      directory.hasContent = this.#failed.length === failedBefore
      open.push(list.reverse())
    }
    enter(root)
    while (open.length > 0) {
      const next = open[open.length - 1].pop()
      if (next === undefined) {
        open.pop()
        continue
      }
      this.#entries.set(next.path, next)
      this.#wanted.add(next.path)
      links.note(next)
      // A name outside this tree may belong to the same file; in a walk of everything there is none.
      if (next.linkGroup !== '' && root.path !== '') this.#linked.push(next)
      if (isDirectory(next.mode)) enter(next)
      if (performance.now() - this.#sliceStart > SLICE_MS) await this.#pause()
    }
  }

  #addGone(mark: Mark): void {
    const { deletion, holdsBack } = this.options
    if (deletion !== 'none' && holdsBack?.(mark)) return void this.#held.push(mark)
    const path = this.#highestMissing(mark.path)
    if (mark.moved && path === mark.path) this.#moved.add(path)
    this.#addMissing(path)
  }

  #addMissing(path: RawPath): void {
    this.#missing++
    if (this.options.deletion === 'by-name') {
      this.#entries.set(path, missing(path))
      this.#wanted.add(path)
    } else if (this.options.deletion === 'by-listing') this.#levels.add(parent(path))
  }

  /** A directory with all that is in it, but nothing below. */
  #addLevel(dir: FileEntry): void {
    const { source, filter } = this.options
    const failedBefore = this.#failed.length
    const list = source.list(
      dir.path,
      (path, directory) => !filter.excludes(path, directory),
      (error) => this.#fail(error),
    )
    if (list === null) return
    dir.hasContent = this.#failed.length === failedBefore
    for (const one of list) if (!this.#entries.has(one.path)) this.#list(one)
  }

  /** When a whole tree is gone, the name to delete is its top, not the leaf that an event was about. */
  #highestMissing(path: RawPath): RawPath {
    for (const dir of ancestors(path)) {
      const found = this.options.source.look(dir)
      if (found === null) return dir
      if (!isDirectory(found.mode)) {
        this.#list(found) // something else has taken its place, which also removes what was below it
        return path
      }
    }
    return path
  }

  async #addSiblings(): Promise<void> {
    if (this.#linked.length === 0) return
    try {
      for (const one of await this.options.links.siblings(this.#linked)) {
        if (!this.options.filter.hides(one.path, false)) this.#list(one)
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Receivers since 3.5 want every directory above a listed name in the list. */
  #addParents(): void {
    const { source } = this.options
    const root = source.look('' as RawPath)
    if (root !== null && !this.#entries.has('' as RawPath)) this.#entries.set('' as RawPath, root)
    for (const path of [...this.#entries.keys()]) {
      for (const dir of ancestors(path)) {
        const listed = this.#entries.get(dir)
        if (listed !== undefined && isDirectory(listed.mode)) continue
        if (listed === undefined) {
          const found = this.#lookAbove(dir)
          if (found !== null && isDirectory(found.mode)) {
            this.#entries.set(dir, found)
            continue
          }
        }
        // The directory went while we looked: what is below it cannot be sent, and its own event is on the way.
        this.#entries.delete(path)
        break
      }
    }
  }

  #lookAbove(dir: RawPath): FileEntry | null {
    try {
      return this.options.source.look(dir)
    } catch (error) {
      this.#fail(error)
      return null
    }
  }

  #fail(error: unknown): void {
    if (!(error instanceof FileError)) throw error
    this.#failed.push(error)
  }

  async #pause(): Promise<void> {
    await nextTurn()
    this.#sliceStart = performance.now()
  }
}

function coveredByTree(mark: Mark, trees: ReadonlySet<RawPath>): boolean {
  if (trees.size === 0 || mark.path === '') return false
  if (trees.has('' as RawPath)) return true
  return ancestors(mark.path).some((dir) => trees.has(dir))
}
