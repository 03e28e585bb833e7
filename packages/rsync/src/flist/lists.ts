import { ProtocolError } from '../errors.js'
import { Share } from '../memory-budget.js'
import { type FileEntry, isDirectory } from './entry.js'
import { compareEntries, compareSiblings } from './order.js'

const ENTRY_COST = 450

/** The entries of one list in the order in which both ends number them; null where a duplicate was dropped. */
export class FileList {
  /** Of its files, how many the generator waits for. */
  inProgress = 0
  toRedo = 0

  constructor(
    /** The index of its first entry. One before it is the directory whose content this is. */
    readonly start: number,
    readonly entries: (FileEntry | null)[],
    readonly parent: FileEntry | null,
    /** How many entries the lists before it have. */
    readonly before: number,
  ) {}

  get end(): number {
    return this.start + this.entries.length
  }

  #names: Set<string> | undefined

  /** The paths of all its entries. */
  get names(): ReadonlySet<string> {
    if (this.#names === undefined) {
      this.#names = new Set()
      for (const entry of this.entries) if (entry !== null) this.#names.add(entry.path)
    }
    return this.#names
  }

  at(ndx: number): FileEntry | null | undefined {
    return ndx === this.start - 1 ? this.parent : this.entries[ndx - this.start]
  }
}

/** flist.c: the lists of a transfer. Without incremental recursion there is one. */
export class FileLists {
  /** Those that are not done with, in order. */
  readonly active: FileList[] = []
  /** Every directory of every list, by the index that the sender calls it when its list comes. */
  readonly directories: FileEntry[] = []
  /** No further list will come. */
  complete = false
  #next: number
  #entries = 0
  /** What is being read, and what each of the active lists takes. */
  #reading = 0
  readonly #share = new Share('file lists')
  readonly #costs = new Map<FileList, number>()
  #listed = 0

  constructor(readonly incRecurse: boolean) {
    this.#next = incRecurse ? 1 : 0
  }

  /** The index that the first entry of the next list will have. */
  get nextStart(): number {
    return this.#next
  }

  /** How many entries the active lists hold. */
  get held(): number {
    return this.#entries
  }

  /**
   * Takes a list in the order in which it was sent. `keepDuplicates`: a sender must answer for any of them. `siblings`: all
   * of them are known to be in one directory.
   */
  add(sent: FileEntry[], parent: FileEntry | null, keepDuplicates: boolean, siblings: boolean): FileList {
    const entries: (FileEntry | null)[] = sorted(sent, siblings ? compareSiblings : compareEntries)
    if (this.incRecurse)
      for (const entry of entries) if (entry !== null && isDirectory(entry.mode)) this.directories.push(entry)
    // The first list of a recursion into `.` is what is in it.
    const of = parent ?? (this.incRecurse && this.#next === 1 && entries[0]?.path === '' ? entries[0] : null)
    if (!keepDuplicates) dropDuplicates(entries)
    const list = new FileList(this.#next, entries, of, this.#listed)
    this.#next = list.end + 1
    this.#entries += entries.length
    this.#listed += entries.length
    this.active.push(list)
    this.#costs.set(list, this.#reading)
    this.#reading = 0
    return list
  }

  /** Counts an entry that a peer has sent, before it is added with its list. Throws TransferError when it is too much. */
  hold({ path }: FileEntry): void {
    const cost = ENTRY_COST + path.length
    this.#share.hold(cost)
    this.#reading += cost
  }

  /** Nothing is needed any more. */
  release(): void {
    this.#share.release()
    this.#reading = 0
    this.#costs.clear()
  }

  /** The oldest list is done with. */
  shift(): FileList | undefined {
    const done = this.active.shift()
    if (done === undefined) return undefined
    this.#entries -= done.entries.length
    this.#share.release(this.#costs.get(done) ?? 0)
    this.#costs.delete(done)
    return done
  }

  /** The list that `ndx` is in, or undefined. */
  find(ndx: number): FileList | undefined {
    for (const list of this.active) if (ndx < list.end) return ndx >= list.start - 1 ? list : undefined
    return undefined
  }

  /** As `find`, for an index that a peer has named. */
  require(ndx: number): { list: FileList; entry: FileEntry } {
    const list = this.find(ndx)
    const entry = list?.at(ndx)
    if (list === undefined || entry === undefined || entry === null)
      throw new ProtocolError('file index', `${ndx} is in no list`)
    return { list, entry }
  }
}

/** Most lists come sorted, or nearly so. */
function sorted(entries: FileEntry[], compare: (a: FileEntry, b: FileEntry) => number): FileEntry[] {
  for (let i = 1; i < entries.length; i++) if (compare(entries[i - 1], entries[i]) > 0) return entries.sort(compare)
  return entries
}

/** flist.c flist_sort_and_clean(): of two entries with one name the first stays, but a directory goes before a file. */
function dropDuplicates(entries: (FileEntry | null)[]): void {
  let files: Map<string, number> | undefined
  let last = -1
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]
    if (entry === null) continue
    const before = last < 0 ? null : entries[last]
    if (before !== null && before.path === entry.path && isDirectory(before.mode) === isDirectory(entry.mode)) {
      if (isDirectory(entry.mode)) {
        before.hasContent ||= entry.hasContent
        before.topDir ||= entry.topDir
        before.implied &&= entry.implied
      }
      entries[i] = null
      continue
    }
    if (isDirectory(entry.mode)) {
      files ??= namesOfFiles(entries)
      const file = files.get(entry.path)
      if (file !== undefined) entries[file] = null
    }
    last = i
  }
}

function namesOfFiles(entries: readonly (FileEntry | null)[]): Map<string, number> {
  const names = new Map<string, number>()
  for (const [i, entry] of entries.entries()) if (entry !== null && !isDirectory(entry.mode)) names.set(entry.path, i)
  return names
}
