import type { Destination } from '../disk/destination.js'
import { type FileEntry, STATE } from '../flist/entry.js'
import type { FileLists } from '../flist/lists.js'
import { parent, type RawPath } from '../raw-path.js'
import type { Transfer } from '../transfer.js'
import { MSG } from '../wire/constants.js'
import type { Attributes } from './attributes.js'
import { type Backup, copyFile } from './backup.js'
import type { Deleter } from './deleter.js'
import type { LinkGroups } from './link-groups.js'

/** A file in some tree. */
export interface Where {
  tree: Destination
  path: RawPath
}

/** What the generator and the receiver of one transfer share: they are two loops over the same lists. */
export class Receiving {
  /** Files that arrived damaged, to be asked for again. */
  readonly redo: number[] = []
  /** Files that have arrived and that others of their link group wait for, or that failed. */
  readonly finished: { ndx: number; arrived: boolean }[] = []
  /** How many of its phases the sender has ended. */
  phasesEnded = 0
  /** Files whose replacement waits for the end (--delay-updates). */
  readonly delayed: FileEntry[] = []
  /** The client wants to know how many names were deleted (--stats). */
  tellsDeletions = false
  #waiting: (() => void) | undefined
  /** Since the generator waited last. */
  #news = false
  #failure: unknown

  constructor(
    readonly transfer: Transfer,
    readonly tree: Destination,
    readonly lists: FileLists,
    readonly attributes: Attributes,
    readonly deleter: Deleter,
    readonly backup: Backup | null,
    readonly links: LinkGroups | null,
    /** --compare-dest, --copy-dest, --link-dest: where else to look for a file. */
    readonly alternates: readonly Destination[],
    /** An absolute --partial-dir, and --temp-dir, where there are such. */
    readonly partials: Destination | null,
    readonly temporaries: Destination | null,
    /** The only file goes to this name, whatever it is called in the list. */
    readonly localName: RawPath | null,
    /** Whether the daemon's own filter forbids the name. */
    readonly forbidden: (path: RawPath, directory: boolean) => boolean,
    /** Nothing is at the destination, and --dry-run did not make it. */
    readonly nothingThere: boolean,
    /** --list-only: what to do with each entry instead of anything else. */
    readonly onListed: ((entry: FileEntry) => void) | undefined,
  ) {}

  pathOf(entry: FileEntry): RawPath {
    return this.localName ?? entry.path
  }

  /** Where the parts of `path` are kept (--partial-dir), or null. */
  partial(path: RawPath): Where | null {
    const { partialDir } = this.transfer.settings
    if (partialDir === null) return null
    const name = path.slice(path.lastIndexOf('/') + 1)
    if (this.partials !== null) return { tree: this.partials, path: name as RawPath }
    const dir = parent(path)
    return { tree: this.tree, path: `${dir === '' ? '' : `${dir}/`}${partialDir}/${name}` as RawPath }
  }

  /** Makes the directory that `partial` is in. False when it cannot be had. */
  makePartialDir(partial: Where): boolean {
    if (this.partials !== null) return true
    const dir = parent(partial.path)
    try {
      const stat = partial.tree.stat(dir)
      if (stat !== null && (stat.mode & 0o170000) === 0o040000) return true
      if (stat !== null) partial.tree.unlink(dir)
      partial.tree.makePath(dir, 0o700)
      return true
    } catch (error) {
      this.transfer.fileError('mkdir', dir, error)
      return false
    }
  }

  /** Removes a part that is not needed any more, and its directory when that is empty. */
  dropPartial(partial: Where): void {
    try {
      partial.tree.unlink(partial.path)
    } catch {
      // It was moved into place.
    }
    if (this.partials !== null) return
    try {
      partial.tree.removeDirectory(parent(partial.path))
    } catch {
      // Others have parts in it.
    }
  }

  /** MSG_SUCCESS: the sender may delete its own (--remove-source-files). */
  confirm(ndx: number): void {
    if (!this.transfer.settings.dryRun) this.#say(MSG.SUCCESS, ndx)
  }

  /** In a session that lasts: the errors that were told since the last one are about this entry. */
  refuse(ndx: number): void {
    if (this.transfer.lasts) this.#say(MSG.FAILED, ndx)
  }

  #say(tag: number, ndx: number): void {
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(ndx)
    this.transfer.channel.sendMessage(tag, payload)
  }

  /** Copies a file with what it has of attributes; `to` must not exist. */
  copyFile(from: Where, to: Where, mode: number): void {
    copyFile(this.transfer, from, to, mode)
  }

  /** io.c got_flist_entry_status(): what became of a file that the generator waits for. */
  report(ndx: number, outcome: 'arrived' | 'failed' | 'redo'): void {
    const { list, entry } = this.lists.require(ndx)
    if (this.lists.incRecurse) list.inProgress--
    if (outcome === 'redo') {
      if (this.lists.incRecurse) list.toRedo++
      entry.state |= STATE.SENT
      this.redo.push(ndx)
    } else if (this.links !== null && entry.linkGroup !== '') {
      if (this.lists.incRecurse) list.inProgress++
      this.finished.push({ ndx, arrived: outcome === 'arrived' })
    }
    this.wake()
  }

  /** Until the receiver has something to say that the generator has not looked at. Rejects when it has failed. */
  async changed(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure
    if (!this.#news)
      await new Promise<void>((resolve) => {
        this.#waiting = resolve
      })
    this.#news = false
    if (this.#failure !== undefined) throw this.#failure
  }

  /** The generator may have looked already and not begun to wait yet: then it looks once more. */
  wake(): void {
    this.#news = true
    this.#waiting?.()
    this.#waiting = undefined
  }

  /** The receiver has failed, and the generator need not go on. */
  fail(error: unknown): void {
    this.#failure ??= error
    this.wake()
  }
}
