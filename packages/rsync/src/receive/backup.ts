import type { Destination } from '../disk/destination.js'
import { isDirectory, isRegular } from '../flist/entry.js'
import { close, readAt, SystemError, writeAt } from '../kernel.js'
import { parent, type RawPath } from '../raw-path.js'
import type { Transfer } from '../transfer.js'
import type { Where } from './receiving.js'

const COPY_BYTES = 1 << 18

/** backup.c: what is replaced or deleted gets another name first (--backup, --backup-dir, --suffix). */
export class Backup {
  #opened: Destination | null = null

  /** `open` makes and opens the backup directory, where one was asked for: when the first backup is kept, not before. */
  constructor(
    readonly transfer: Transfer,
    readonly tree: Destination,
    readonly open: (() => Destination) | null,
  ) {}

  /** Null: backups are kept beside their files. */
  get elsewhere(): Destination | null {
    if (this.open !== null) this.#opened ??= this.open()
    return this.#opened
  }

  close(): void {
    this.#opened?.close()
  }

  get #suffix(): string {
    return this.transfer.settings.suffix
  }

  /** Where the backup of `path` is kept. */
  place(path: RawPath): { tree: Destination; path: RawPath } {
    return { tree: this.elsewhere ?? this.tree, path: `${path}${this.#suffix}` as RawPath }
  }

  /** A backup beside its file is not backed up itself. */
  isBackup(path: RawPath): boolean {
    return this.open === null && path.endsWith(this.#suffix) && path.length > this.#suffix.length
  }

  /**
   * Keeps what is at `path`. `move`: it is about to be deleted, so it may go away at once; else it stays until it is
   * replaced, so that the name is never missing. Returns whether it is safe to go on; a failure was told.
   */
  keep(path: RawPath, move: boolean): boolean {
    if (this.transfer.settings.dryRun) return true
    try {
      const stat = this.tree.stat(path)
      if (stat === null) return true
      const { tree, path: to } = this.place(path)
      this.#makeRoom(tree, to)
      if (move || !isRegular(stat.mode) || !this.#link(tree, path, to)) this.#move(tree, path, to, stat.mode)
      if (this.transfer.settings.verbose > 1) this.transfer.log.info(`backed up ${path} to ${to}`)
    } catch (error) {
      this.transfer.fileError('make_backup: rename', path, error)
      return false
    }
    return true
  }

  #link(tree: Destination, path: RawPath, to: RawPath): boolean {
    try {
      tree.link(this.tree, path, to)
      return true
    } catch {
      return false // another filesystem, or one without links
    }
  }

  #move(tree: Destination, path: RawPath, to: RawPath, mode: number): void {
    try {
      this.tree.moveTo(path, tree, to)
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== 'EXDEV' || !isRegular(mode)) throw error
      copyFile(this.transfer, { tree: this.tree, path }, { tree, path: to }, mode)
      this.tree.unlink(path)
    }
  }

  /** An older backup goes, and the directories that this one needs are made as the original's are. */
  #makeRoom(tree: Destination, to: RawPath): void {
    const old = tree.stat(to)
    if (old !== null) {
      if (isDirectory(old.mode)) tree.removeDirectory(to)
      else tree.unlink(to)
    } else if (this.open !== null) this.#makeParents(tree, parent(to))
  }

  #makeParents(tree: Destination, dir: RawPath): void {
    if (dir === '' || tree.stat(dir) !== null) return
    this.#makeParents(tree, parent(dir))
    tree.makeDirectory(dir, 0o700)
    const original = this.tree.stat(dir)
    if (original === null) return
    if (this.transfer.here.root) tree.changeOwner(dir, original.uid, original.gid)
    tree.changeMode(dir, original.mode)
    tree.changeTime(dir, original.mtime, original.mtimeNsec)
  }
}

const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)

/** All of one open file into another. */
export function copyContent(source: number, target: number): void {
  for (let at = 0; ; ) {
    const length = readAt(source, buffer, at)
    if (length === 0) return
    writeAt(target, buffer.subarray(0, length), at)
    at += length
  }
}

/** A file and what it has of attributes; `to` must not exist. Throws SystemError. */
export function copyFile({ here }: Transfer, from: Where, to: Where, mode: number): void {
  const source = from.tree.openForReading(from.path)
  try {
    const target = to.tree.create(to.path, 0o600)
    try {
      copyContent(source, target)
    } finally {
      close(target)
    }
  } finally {
    close(source)
  }
  const stat = from.tree.stat(from.path)
  if (stat === null) return
  if (here.root) to.tree.changeOwner(to.path, stat.uid, stat.gid)
  to.tree.changeMode(to.path, mode)
  to.tree.changeTime(to.path, stat.mtime, stat.mtimeNsec)
}
