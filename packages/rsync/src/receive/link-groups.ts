import type { FileEntry } from '../flist/entry.js'
import type { FileList } from '../flist/lists.js'
import type { RawPath } from '../raw-path.js'

/** A name of an inode that waits for another name of it to be there. */
export interface Member {
  ndx: number
  entry: FileEntry
  list: FileList
}

/** The names of one inode at the sender. */
export interface LinkGroup {
  /** Where it is, once one of its names is there. */
  done: RawPath | null
  /** One of its names has been asked for. */
  asked: boolean
  /** Names that will be linked when it is done. */
  waiting: Member[]
  /** How many names are listed and not looked at yet. */
  ahead: number
}

/** hlink.c: which names shall be one file. */
export class LinkGroups {
  readonly #groups = new Map<string, LinkGroup>()

  /** Counts the names of a list that has come. */
  add(entries: readonly (FileEntry | null)[]): void {
    for (const entry of entries) {
      if (entry === null || entry.linkGroup === '') continue
      const group = this.#groups.get(entry.linkGroup)
      if (group !== undefined) group.ahead++
      else this.#groups.set(entry.linkGroup, { done: null, asked: false, waiting: [], ahead: 1 })
    }
  }

  of(entry: FileEntry): LinkGroup {
    const group = this.#groups.get(entry.linkGroup)
    if (group === undefined) throw new Error(`no link group for ${entry.path}`)
    return group
  }
}
