import { setImmediate as nextTurn } from 'node:timers/promises'
import {
  type FileEntry,
  FileError,
  type Filter,
  isDirectory,
  parent,
  type RawPath,
  type SourceTree,
  SystemError,
} from '@syncline/rsync'

const SLICE_MS = 8

interface Group {
  paths: Set<RawPath>
  /** Names that a look has found with a single link: perhaps this file still, whose other name went a moment ago. */
  single: Set<RawPath>
  /** The link count when one of the names was last looked at, less the names that left since. */
  nlink: number
  /** The link count and the names found when the whole tree was searched: while both hold, the others are outside. */
  searchedFor: number
  foundThen: number
}

/** A name that is no longer the file that it was. */
export interface Departure {
  path: RawPath
  /** The other names of that file; null when not all are known. To be asked at once. */
  others: () => RawPath[] | null
}

/**
 * The names of each file that has several. An event names one of them, but only a list with all of them keeps them one
 * file at the receiver; and where the named one goes before anybody has looked, the others hold what changed.
 */
export class LinkIndex {
  readonly #groups = new Map<string, Group>()
  readonly #groupAt = new Map<RawPath, string>()
  /** By directory: the names in it that are in groups, and the directories in it that lead to such names. */
  readonly #within = new Map<RawPath, Set<RawPath>>()

  constructor(
    readonly source: SourceTree,
    readonly filter: Filter,
    /** Told of every name that leaves a group, whoever finds it out: an event, or a look that was quicker. */
    readonly onDeparture: (departure: Departure) => void = () => undefined,
  ) {}

  /** Remembers what a look has met. */
  note({ path, linkGroup, nlink }: Pick<FileEntry, 'path' | 'linkGroup' | 'nlink'>): void {
    if (linkGroup === '') {
      const group = this.#groups.get(this.#groupAt.get(path) ?? '')
      group?.single.add(path)
      this.#depart(path)
    } else this.#add(path, linkGroup).nlink = nlink
  }

  /** Looks at a name that was created or deleted, or moved away. */
  follow(path: RawPath): void {
    const found = this.look(path)
    if (found === null) this.#depart(path)
    else this.note(found)
  }

  /** A file was moved; where it is now it may be gone again, and is that file until an event says so. */
  followMove(from: RawPath, to: RawPath): void {
    const linkGroup = this.#groupAt.get(from)
    if (linkGroup !== undefined) this.#add(to, linkGroup).nlink++
    this.#depart(from)
  }

  /** A directory left the tree, or, with `to`, is found there now. */
  followDirectory(from: RawPath, to?: RawPath): void {
    for (const path of this.#namesBelow(from)) {
      if (to === undefined) this.#depart(path)
      else this.followMove(path, `${to}${path.slice(from.length)}` as RawPath)
    }
  }

  /** What a name is now, at any time; null also when it cannot be looked at. */
  look(path: RawPath): FileEntry | null {
    try {
      this.source.enter()
    } catch (error) {
      if (error instanceof SystemError) return null // others see to a root that is not there
      throw error
    }
    try {
      return this.source.look(path)
    } catch (error) {
      if (error instanceof FileError) return null
      throw error
    } finally {
      this.source.leave()
    }
  }

  /** All names of the files in `found`, with what was found; searches the tree when some are not known. */
  async siblings(found: readonly FileEntry[]): Promise<FileEntry[]> {
    const groups = [...new Set(found.map((entry) => entry.linkGroup))]
    const incomplete = groups.filter((linkGroup) => !this.#isComplete(linkGroup))
    if (incomplete.length > 0) {
      await this.#search()
      for (const linkGroup of incomplete) {
        const foundThen = this.#verify(linkGroup).length
        const group = this.#groups.get(linkGroup) // gone when all its names went meanwhile
        if (group === undefined) continue
        group.searchedFor = group.nlink
        group.foundThen = foundThen
      }
    }
    return groups.flatMap((linkGroup) => this.#verify(linkGroup))
  }

  #isComplete(linkGroup: string): boolean {
    this.#verify(linkGroup)
    const group = this.#groups.get(linkGroup)
    return group === undefined || knowsAll(group)
  }

  /** The names that still are this file; the others are forgotten. */
  #verify(linkGroup: string): FileEntry[] {
    const valid: FileEntry[] = []
    for (const path of [...(this.#groups.get(linkGroup)?.paths ?? [])]) {
      const one = this.source.look(path)
      if (one?.linkGroup === linkGroup) valid.push(one)
      else if (one === null) this.#depart(path)
      else this.note(one)
    }
    for (const one of valid) this.note(one) // after the departures, for its link count is of now
    return valid
  }

  #add(path: RawPath, linkGroup: string): Group {
    let group = this.#groups.get(linkGroup)
    if (group === undefined) {
      group = { paths: new Set(), single: new Set(), nlink: 0, searchedFor: 0, foundThen: 0 }
      this.#groups.set(linkGroup, group)
    }
    if (group.paths.has(path)) return group
    this.#depart(path)
    group.paths.add(path)
    group.single.delete(path)
    this.#groupAt.set(path, linkGroup)
    for (let name = path; name !== ''; name = parent(name)) {
      const within = this.#within.get(parent(name))
      if (within !== undefined) {
        within.add(name)
        break // what is above leads here already
      }
      this.#within.set(parent(name), new Set([name]))
    }
    return group
  }

  #depart(path: RawPath): void {
    const linkGroup = this.#groupAt.get(path)
    if (linkGroup === undefined) return
    const group = this.#groups.get(linkGroup)!
    const complete = knowsAll(group)
    group.nlink--
    group.paths.delete(path)
    if (group.paths.size === 0) this.#groups.delete(linkGroup)
    this.#groupAt.delete(path)
    for (let name = path; name !== '' && !this.#within.has(name) && !this.#groupAt.has(name); name = parent(name)) {
      const within = this.#within.get(parent(name))!
      within.delete(name)
      if (within.size === 0) this.#within.delete(parent(name))
    }
    // Only who asks has the names copied: a file may have tens of thousands.
    const others = () => [...group.paths, ...group.single].filter((other) => other !== path)
    this.onDeparture({ path, others: () => (complete ? others() : null) })
  }

  #namesBelow(dir: RawPath): RawPath[] {
    const names: RawPath[] = []
    const open = [dir]
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      if (this.#groupAt.has(name)) names.push(name)
      for (const inner of this.#within.get(name) ?? []) open.push(inner)
    }
    return names
  }

  async #search(): Promise<void> {
    let sliceStart = performance.now()
    const open: RawPath[] = ['' as RawPath]
    for (let dir = open.pop(); dir !== undefined; dir = open.pop()) {
      for (const one of this.#list(dir)) {
        if (isDirectory(one.mode)) open.push(one.path)
        else this.note(one)
      }
      if (performance.now() - sliceStart < SLICE_MS) continue
      await nextTurn()
      sliceStart = performance.now()
    }
  }

  /** What cannot be listed holds no names that we could send. */
  #list(dir: RawPath): FileEntry[] {
    const keep = (path: RawPath, directory: boolean) => !this.filter.excludes(path, directory)
    try {
      return this.source.list(dir, keep, () => undefined) ?? []
    } catch {
      return []
    }
  }
}

const knowsAll = ({ paths, nlink, searchedFor, foundThen }: Group) =>
  paths.size >= nlink || (searchedFor === nlink && foundThen === paths.size)
