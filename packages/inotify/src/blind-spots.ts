import { ERRNO, errnoName } from './kernel.js'
import { currentLimit, mend, type Notice, settingOf } from './limits.js'
import { printable, type RawPath } from './raw-path.js'
import type { WatchTable, Wd } from './watch-table.js'

/** Directories that exist and could not be watched, by their parent and name. */
export class BlindSpots {
  readonly #names = new Map<Wd, Set<RawPath>>()
  #count = 0
  #noticed = new Set<number>()

  constructor(
    readonly table: WatchTable,
    readonly rootPath: RawPath,
    readonly pollSeconds: number,
    readonly notice: Notice,
  ) {}

  get count(): number {
    return this.#count
  }

  add(parent: Wd, name: RawPath, errno: number): void {
    const names = this.#names.get(parent) ?? new Set()
    this.#names.set(parent, names)
    if (!names.has(name)) this.#count++
    names.add(name)
    this.#noticeOnce(parent, name, errno)
  }

  /** False when there was none. */
  delete(parent: Wd, name: RawPath): boolean {
    const names = this.#names.get(parent)
    if (!names?.delete(name)) return false
    this.#count--
    if (names.size === 0) this.#names.delete(parent)
    return true
  }

  has(parent: Wd, name: RawPath): boolean {
    return this.#names.get(parent)?.has(name) === true
  }

  /** Says so when there are none any more. While one is being tried again, nobody should ask. */
  tellWhenNone(): void {
    if (this.#count > 0 || this.#noticed.size === 0) return
    this.#noticed.clear()
    this.notice(`${printable(this.rootPath)}: every directory is watched now`)
  }

  /** All of them; those whose parent has left the tree are forgotten. */
  list(): [Wd, RawPath][] {
    for (const [parent, names] of this.#names) {
      if (this.table.pathOf(parent) !== undefined && this.table.has(parent)) continue
      this.#names.delete(parent)
      this.#count -= names.size
    }
    return [...this.#names].flatMap(([parent, names]) => [...names].map((name): [Wd, RawPath] => [parent, name]))
  }

  #noticeOnce(parent: Wd, name: RawPath, errno: number): void {
    if (this.#noticed.has(errno)) return
    this.#noticed.add(errno)
    const path = printable(`${this.rootPath}/${this.table.pathOfChild(parent, name) ?? name}` as RawPath)
    const consequence = `it and others that fail alike are looked at every ${this.pollSeconds} s instead`
    this.notice(`cannot watch ${path}: ${reason(errno)}; ${consequence}. ${mending(errno)}`)
  }
}

function reason(errno: number): string {
  if (errno !== -ERRNO.ENOSPC) return errnoName(errno)
  return `this user's limit of inotify watches is reached (${settingOf('max_user_watches')} is ${currentLimit('max_user_watches')})`
}

function mending(errno: number): string {
  if (errno === -ERRNO.ENOSPC) return `To mend it: ${mend('max_user_watches')}`
  if (errno === -ERRNO.EACCES) return 'To mend it: grant read and search permission on it, or exclude it'
  if (errno === -ERRNO.EMFILE) return 'To mend it: raise the limit of open files (ulimit -n)'
  return 'To mend it: make it readable, or exclude it'
}
