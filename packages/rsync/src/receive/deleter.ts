import type { Destination } from '../disk/destination.js'
import { isMissing } from '../disk/destination.js'
import { entryOf, type FileEntry, isDevice, isDirectory, isSpecial, isSymlink } from '../flist/entry.js'
import { compareEntries } from '../flist/order.js'
import { SystemError } from '../kernel.js'
import { join, type RawPath } from '../raw-path.js'
import { IOERR, reasonOf, type Transfer } from '../transfer.js'
import type { Backup } from './backup.js'
import type { Protection } from './protection.js'

export type Outcome = 'gone' | 'not-empty' | 'failed' | 'limit'

/** What shall take the place of what is deleted, for the complaint when it cannot be. */
export type MakeRoomFor = 'regular file' | 'directory' | 'symlink' | 'device file' | 'special file'

type Removal = Generator<undefined, Outcome>

function atOnce(removal: Removal): Outcome {
  for (;;) {
    const step = removal.next()
    if (step.done === true) return step.value
  }
}

/** delete.c: removes names that the sender does not have, or that are in the way, within what the options allow. */
export class Deleter {
  #deleted = 0
  /** What --max-delete has kept. */
  skipped = 0
  #warned = false
  #device: number | null = null
  readonly #later: { path: RawPath; mode: number }[] = []

  constructor(
    readonly transfer: Transfer,
    readonly tree: Destination,
    readonly protection: Protection,
    readonly backup: Backup | null,
  ) {}

  /** Removes something to make room; a directory only when it is empty, or with --force or --delete. */
  makeRoom(path: RawPath, mode: number, forWhat: MakeRoomFor): boolean {
    const { settings } = this.transfer
    const outcome = atOnce(this.#remove(path, mode, settings.deleteWhen !== null || settings.force, forWhat))
    if (outcome === 'gone') return true
    this.transfer.failed = true
    this.transfer.log.fileError(`could not make way for new ${forWhat}: ${path}`)
    return false
  }

  /** Removes a name that is listed as missing at the sender (--delete-missing-args). */
  removeMissing(path: RawPath, mode: number): void {
    const { settings } = this.transfer
    atOnce(this.#remove(path, mode, settings.deleteWhen !== null || settings.force, null))
  }

  /** generator.c delete_in_dir(): removes what is in `dir` and not listed. `later`: only remembers it (--delete-delay). */
  async emptyOf(dir: FileEntry, isListed: (path: RawPath) => boolean, later: boolean): Promise<void> {
    const { transfer, tree } = this
    if (transfer.ioError & ~IOERR.DEL_LIMIT && !transfer.settings.ignoreErrors) {
      if (!this.#warned) transfer.log.info('IO error encountered -- skipping file deletion')
      this.#warned = true
      return
    }
    const stat = tree.stat(dir.path)
    if (stat === null || !isDirectory(stat.mode)) return
    if (transfer.settings.oneFileSystem > 0) {
      if (dir.topDir || this.#device === null) this.#device = stat.dev
      else if (stat.dev !== this.#device) return
    }
    for (const entry of this.#content(dir.path).reverse()) {
      if (isListed(entry.path)) continue
      if (transfer.settings.oneFileSystem > 0 && this.#isMountPoint(entry)) continue
      if (later) this.#later.push({ path: entry.path, mode: entry.mode })
      else await this.#inTurns(this.#remove(entry.path, entry.mode, true, null))
    }
  }

  /** Removes what --delete-delay has remembered. */
  async removeLater(): Promise<void> {
    for (const { path, mode } of this.#later.splice(0)) await this.#inTurns(this.#remove(path, mode, true, null))
  }

  /** The peer is told of each name: it must have the time to hear it, and others in this process theirs. */
  async #inTurns(removal: Removal): Promise<void> {
    const { channel, here } = this.transfer
    while (removal.next().done !== true) {
      const wait = channel.relieve()
      if (wait === undefined) continue
      await wait
      here.role = 'generator'
    }
  }

  /** What is in a directory and may be deleted, in the order of a file list. */
  #content(dir: RawPath, inDeletion = false): FileEntry[] {
    const entries: FileEntry[] = []
    let names: string[]
    try {
      names = this.tree.list(dir)
    } catch (error) {
      if (!isMissing(error)) {
        this.transfer.ioError |= IOERR.GENERAL
        this.transfer.fileError('opendir', dir, error)
      }
      return entries
    }
    for (const name of names) {
      const path = join(dir, name)
      const stat = this.tree.stat(path)
      if (stat !== null && !this.protection.protects(path, isDirectory(stat.mode), inDeletion))
        entries.push(entryOf(path, stat))
    }
    return entries.sort(compareEntries)
  }

  #isMountPoint(entry: FileEntry): boolean {
    if (!isDirectory(entry.mode)) return false
    const stat = this.tree.stat(entry.path)
    return stat !== null && this.#device !== null && stat.dev !== this.#device
  }

  /** delete.c delete_item(). Yields behind each name. */
  *#remove(path: RawPath, mode: number, recurse: boolean, forWhat: MakeRoomFor | null): Removal {
    if (isDirectory(mode)) {
      const outcome = yield* this.#removeContent(path, recurse)
      if (outcome !== 'gone') return outcome
    }
    const { settings } = this.transfer
    if (forWhat === null && settings.maxDelete !== null && this.#deleted >= settings.maxDelete) {
      this.skipped++
      return 'limit'
    }
    try {
      this.#removeOne(path, mode, forWhat)
    } catch (error) {
      if (error instanceof SystemError && error.code === 'ENOENT') return 'gone'
      return this.#complain(path, mode, error)
    }
    if (forWhat === null) this.#tell(path, mode)
    yield
    return 'gone'
  }

  #removeOne(path: RawPath, mode: number, forWhat: MakeRoomFor | null): void {
    const { backup, tree, transfer } = this
    if (transfer.settings.dryRun) return
    if (isDirectory(mode)) return tree.removeDirectory(path)
    if (backup !== null && !backup.isBackup(path)) {
      if (!backup.keep(path, true)) throw new Error('the backup failed')
      return
    }
    void forWhat
    tree.unlink(path)
  }

  #complain(path: RawPath, mode: number, error: unknown): Outcome {
    const { log, here } = this.transfer
    if (isDirectory(mode) && error instanceof SystemError && (error.code === 'ENOTEMPTY' || error.code === 'EEXIST')) {
      log.info(`cannot delete non-empty directory: ${path}`)
      return 'not-empty'
    }
    const what = isDirectory(mode) ? 'rmdir' : 'unlink'
    this.transfer.failed = true
    log.fileError(`rsync: [${here.role}] delete_file: ${what}(${path}) failed: ${reasonOf(error)}`)
    return 'failed'
  }

  #tell(path: RawPath, mode: number): void {
    const { stats, log } = this.transfer
    this.#deleted++
    if (isDirectory(mode)) stats.deletedDirectories++
    else if (isSymlink(mode)) stats.deletedSymlinks++
    else if (isDevice(mode)) stats.deletedDevices++
    else if (isSpecial(mode)) stats.deletedSpecials++
    else stats.deletedFiles++
    log.deleted(path, mode)
  }

  /** delete.c delete_dir_contents(): without `recurse` only says whether there is something. */
  *#removeContent(dir: RawPath, recurse: boolean): Removal {
    this.#makeWritable(dir)
    const entries = this.#content(dir, true)
    let outcome: Outcome = this.#protectedIn(dir, entries.length) ? 'not-empty' : 'gone'
    if (entries.length > 0 && !recurse) outcome = 'not-empty'
    else
      for (const entry of entries.reverse())
        if ((yield* this.#remove(entry.path, entry.mode, true, null)) !== 'gone') outcome = 'not-empty'
    if (outcome === 'not-empty') this.transfer.log.info(`cannot delete non-empty directory: ${dir}`)
    return outcome
  }

  /** Who owns a directory may take names out of it, whatever its mode says for now. */
  #makeWritable(dir: RawPath): void {
    const { here, settings } = this.transfer
    if (here.root || settings.dryRun) return
    const stat = this.tree.stat(dir)
    if (stat === null || stat.mode & 0o200 || stat.uid !== process.geteuid?.()) return
    try {
      this.tree.changeMode(dir, stat.mode | 0o200)
    } catch {
      // Then its names stay, and that is told.
    }
  }

  #protectedIn(dir: RawPath, unprotected: number): boolean {
    try {
      return this.tree.list(dir).length > unprotected
    } catch {
      return false
    }
  }
}
