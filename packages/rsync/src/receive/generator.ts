import { readFakeTarget } from '../attributes/fake-super.js'
import { askForXattrs, carriesXattrs, encodeXattrRequest, type Xattrs } from '../attributes/xattr.js'
import { sumHeadOf, writeSums } from '../delta/sums.js'
import type { Destination } from '../disk/destination.js'
import { FileError } from '../errors.js'
import {
  type FileEntry,
  isDevice,
  isDirectory,
  isRegular,
  isSpecial,
  isSymlink,
  linkGroupOf,
  STATE,
} from '../flist/entry.js'
import type { FileList } from '../flist/lists.js'
import { close, type Stat, SystemError, statAt, writeAt } from '../kernel.js'
import { daemonRefused, deltaTransmission, skippingContents, upToDate } from '../output/names.js'
import { parent, type RawPath, toBytes } from '../raw-path.js'
import { IOERR } from '../transfer.js'
import { FNAMECMP, ITEM, NDX_DEL_STATS, NDX_DONE, S_IFMT, SIGNIFICANT_ITEM_FLAGS } from '../wire/constants.js'
import { NdxCodec } from '../wire/ndx.js'
import { encodeSumHead, type SumHead } from '../wire/sum-head.js'
import { type Alternate, findAlternate, standIn } from './alternates.js'
import type { MakeRoomFor } from './deleter.js'
import type { Member } from './link-groups.js'
import type { Receiving, Where } from './receiving.js'
import { temporaryName } from './temporary.js'
import { isUnsafeSymlink } from './unsafe-symlink.js'

const SKIPPING_CONTENTS = skippingContents().text.trimEnd()

/** So many entries must be listed before a hard link, or a deletion, is decided on. */
const KNOWN_AHEAD = 500
/** Requests are sent so early: the sender works on them while the next ones are found. */
const REQUESTS_BYTES = 1 << 12
const NO_SUMS: SumHead = { count: 0, blockLength: 0, s2Length: 0, remainder: 0 }
const DEFAULT_DIRECTORY = 0o777

/** generator.c: compares every entry with what is here, does what needs no content, and asks for the rest. */
export class Generator {
  readonly #output = new NdxCodec()
  #phase = 0
  /** Lists that are not known to be complete, oldest first. */
  readonly #open: FileList[] = []
  /** Names of link groups that must be looked at once more. */
  readonly #revived: Member[] = []
  /** All below it is left alone: it could not be made, or must not be. */
  #skip: RawPath | null = null
  /** In a dry run nothing is below a directory that would have been made. */
  #dryMissing: RawPath | null = null

  constructor(readonly r: Receiving) {}

  /** generator.c generate_files() */
  async run(): Promise<void> {
    const { r } = this
    const { settings, agreement, log } = r.transfer
    if (settings.deleteWhen === 'before') await this.#deletePass()
    if (settings.verbose > 1 && r.onListed === undefined)
      log.info(deltaTransmission(settings.wholeFile === true).text.slice(0, -1))
    for (let list = r.lists.active.at(0); list !== undefined; list = await this.#nextAfter(list)) {
      await this.#knowAhead()
      this.#open.push(list)
      await this.#generate(list)
      if (!r.lists.incRecurse) this.#write(NDX_DONE)
    }
    this.#phase = 1
    await this.#until(() => r.phasesEnded >= 1, true)
    this.#phase = 2
    this.#write(NDX_DONE)
    const late = settings.deleteWhen === 'delay' || settings.deleteWhen === 'after'
    const soon = !settings.delayUpdates
    if (soon) this.#write(NDX_DONE)
    if (agreement.protocol >= 31 && !late) {
      if (soon) this.#writeDone()
    }
    await this.#until(() => r.phasesEnded >= 2, false)
    if (!soon) {
      this.#write(NDX_DONE)
      if (agreement.protocol >= 31 && !late) this.#writeDone()
    }
    await this.#until(() => r.phasesEnded >= 3, false)
    if (settings.deleteWhen === 'delay') await r.deleter.removeLater()
    if (settings.deleteWhen === 'after') await this.#deletePass()
    this.#sayLimit()
    if (agreement.protocol >= 31) {
      if (late) this.#writeDone()
      await this.#until(() => r.phasesEnded >= 4, false)
    }
    if (!r.lists.incRecurse || settings.deleteWhen === 'delay') for (const list of r.lists.active) this.#touchUp(list)
    if (r.lists.incRecurse && late) for (const dir of r.lists.directories) this.#touchUpOne(dir)
    this.#write(NDX_DONE)
    const wait = r.transfer.channel.flush()
    if (wait !== undefined) await wait
  }

  /** The end of the deletions; with --stats the sender is told how many there were. */
  #writeDone(): void {
    const { settings, stats, channel } = this.r.transfer
    if (settings.deleteWhen !== null || settings.force) {
      if (this.r.tellsDeletions) {
        this.#output.encode(channel.out, NDX_DEL_STATS)
        const { deletedFiles, deletedDirectories, deletedSymlinks, deletedDevices, deletedSpecials } = stats
        for (const count of [deletedFiles, deletedDirectories, deletedSymlinks, deletedDevices, deletedSpecials])
          channel.out.varint(count)
      }
    }
    this.#write(NDX_DONE)
  }

  #sayLimit(): void {
    const { transfer, deleter } = this.r
    if (deleter.skipped === 0) return
    transfer.log.warning(`Deletions stopped due to --max-delete limit (${deleter.skipped} skipped)`)
    transfer.ioError |= IOERR.DEL_LIMIT
  }

  #write(ndx: number): void {
    this.#output.encode(this.r.transfer.channel.out, ndx)
  }

  async #generate(list: FileList): Promise<void> {
    const { r } = this
    r.transfer.here.role = 'generator'
    const { settings, channel } = r.transfer
    const { parent: of } = list
    if (r.lists.incRecurse && of !== null && r.onListed === undefined) {
      try {
        await this.#directory(of, list.start - 1, true)
      } catch (error) {
        this.#refused(of, error)
      }
      const deletesNow = settings.deleteWhen === 'during' || settings.deleteWhen === 'delay'
      if (deletesNow && of.hasContent && !(of.state & STATE.MISSING_DIR) && !r.nothingThere)
        await this.#deleteIn(of, list)
    }
    for (let i = 0; i < list.entries.length; i++) {
      const entry = list.entries[i]
      if (entry === null) continue
      const { failures } = r.transfer
      const wait = this.#entry(list, entry, list.start + i)
      if (r.transfer.failures > failures) r.refuse(list.start + i)
      if (wait !== undefined) await wait
      if (r.finished.length > 0 || this.#revived.length > 0 || this.#open.length > 1) await this.#finished(list, false)
      const relief = channel.relieve(REQUESTS_BYTES)
      if (relief !== undefined) await relief
    }
  }

  /**
   * With incremental recursion other names of a file may come late, and so may the word that something could not be
   * listed, after which nothing is deleted. The sender lists so much ahead without being asked.
   */
  async #knowAhead(): Promise<void> {
    const { r } = this
    if (!r.lists.incRecurse || (r.links === null && r.transfer.settings.deleteWhen === null)) return
    while (!r.lists.complete && r.lists.held < KNOWN_AHEAD) await this.#settle()
  }

  async #nextAfter(list: FileList): Promise<FileList | undefined> {
    const { r } = this
    if (!r.lists.incRecurse) return undefined
    for (;;) {
      await this.#finished(list, true)
      const next = r.lists.active.find((other) => other.start > list.start)
      if (next !== undefined || r.lists.complete) return next
      await this.#settle()
    }
  }

  /** Waits for something to change, after everything that is there has been sent. */
  async #settle(): Promise<void> {
    const { r } = this
    const changed = r.changed()
    changed.catch(() => undefined) // if sending fails first, that is what is thrown
    // What has come of content is put in its place before we speak, which wakes the other end up.
    await new Promise<void>((resolve) => process.nextTick(resolve))
    const wait = r.transfer.channel.flush()
    if (wait !== undefined) await wait
    await changed
  }

  async #until(condition: () => boolean, redo: boolean): Promise<void> {
    for (;;) {
      await this.#finished(null, redo)
      if (condition()) return
      await this.#settle()
    }
  }

  /** generator.c check_for_finished_files(): links, files to be sent again, and lists before `current` that are complete. */
  async #finished(current: FileList | null, redo: boolean): Promise<void> {
    const { r } = this
    for (;;) {
      if (r.finished.length > 0) this.#finishLinks()
      if (this.#revived.length > 0) await this.#revive()
      const ndx = redo ? r.redo.shift() : undefined
      if (ndx !== undefined) {
        const { list, entry } = r.lists.require(ndx)
        await this.#regular(list, entry, ndx, true)
        if (r.lists.incRecurse) list.toRedo--
        continue
      }
      const first = this.#open.at(0)
      if (!r.lists.incRecurse || first === undefined || first === current) return
      if (first.inProgress > 0 || first.toRedo > 0) return
      this.#open.shift()
      this.#write(NDX_DONE)
      if (first.parent !== null && r.transfer.settings.deleteWhen !== 'delay') this.#touchUpOne(first.parent)
    }
  }

  /** Returns a promise only when the caller has to wait. */
  #entry(list: FileList, entry: FileEntry, ndx: number): Promise<void> | undefined {
    const { r } = this
    r.transfer.here.role = 'generator'
    if (r.onListed !== undefined) {
      r.onListed(entry)
      return undefined
    }
    const group = r.links !== null && entry.linkGroup !== '' ? r.links.of(entry) : null
    if (group !== null) group.ahead--
    if (this.#isSkipped(entry)) {
      if (isDirectory(entry.mode)) entry.state |= STATE.MISSING_DIR
      else this.#skippedLink(entry)
      return undefined
    }
    if (r.forbidden(entry.path, isDirectory(entry.mode))) {
      if (isDirectory(entry.mode)) this.#skipBelow(entry)
      r.transfer.failed = true
      r.transfer.log.fileError(
        daemonRefused(entry.path, isDirectory(entry.mode) ? 'directory' : 'file').text.slice(0, -1),
      )
      if (isDirectory(entry.mode) && r.transfer.settings.recursive) r.transfer.log.error(SKIPPING_CONTENTS)
      return undefined
    }
    try {
      if (r.transfer.settings.relative && !r.transfer.settings.impliedDirs) this.#makeParents(entry)
      if (entry.mode === 0) return this.#missing(entry)
      if (isDirectory(entry.mode))
        return this.#directory(entry, ndx, !r.lists.incRecurse)?.catch((error) => this.#refused(entry, error))
      if (isRegular(entry.mode)) return this.#regular(list, entry, ndx, false)
      this.#special(list, entry, ndx)
    } catch (error) {
      this.#refused(entry, error)
    }
    return undefined
  }

  /** --no-implied-dirs: directories on the way are made without attributes, where they are missing. */
  #makeParents({ path }: FileEntry): void {
    const { r } = this
    const dir = parent(path)
    if (dir === '' || dir === this.#madeParent || r.transfer.settings.dryRun) return
    this.#madeParent = dir
    if (r.tree.stat(dir) === null) r.tree.makePath(dir, DEFAULT_DIRECTORY & ~r.transfer.here.umask)
  }
  #madeParent: RawPath | null = null

  /** What the kernel refuses of one entry is told, and the others go on. */
  #refused(entry: FileEntry, error: unknown): void {
    if (!(error instanceof SystemError || error instanceof FileError)) throw error
    this.r.transfer.fileError('recv_generator:', entry.path, error)
  }

  #isSkipped({ path }: FileEntry): boolean {
    return this.#skip !== null && isBelow(path, this.#skip)
  }

  #skipBelow(entry: FileEntry): void {
    this.#skip = entry.path
    entry.state |= STATE.MISSING_DIR
  }

  /** A name that the sender says it does not have (--delete-missing-args). */
  #missing(entry: FileEntry): undefined {
    const { r } = this
    const stat = r.tree.stat(entry.path)
    if (stat !== null) r.deleter.removeMissing(entry.path, stat.mode)
    return undefined
  }

  #stat(path: RawPath): Stat | null {
    const { r } = this
    if (r.nothingThere || (this.#dryMissing !== null && isBelow(path, this.#dryMissing))) return null
    return r.attributes.stat(r.tree, path)
  }

  /** Whether an option says to leave this name alone. */
  #leaveAlone(entry: FileEntry, stat: Stat | null, inFull: boolean): boolean {
    const { settings, log } = this.r.transfer
    const what = isDirectory(entry.mode) ? 'directory' : 'file'
    if (settings.existing && stat === null) {
      if (isDirectory(entry.mode)) {
        if (!inFull) return true
        this.#skipBelow(entry)
      } else this.#skippedLink(entry)
      if (settings.verbose > 1) log.info(`not creating new ${what} "${entry.path}"`)
      return true
    }
    if (settings.ignoreExisting && stat !== null && !(isDirectory(entry.mode) && isDirectory(stat.mode))) {
      if (settings.verbose > 1 && inFull) log.info(`${entry.path} exists`)
      this.#skippedLink(entry)
      return true
    }
    return false
  }

  /**
   * A directory. With incremental recursion it is met twice: in the list of its parent, where it is only made, and
   * `inFull` just before what it holds.
   */
  #directory(entry: FileEntry, ndx: number, inFull: boolean): Promise<void> | undefined {
    const { r } = this
    const { settings } = r.transfer
    const path = r.pathOf(entry)
    if (inFull && (entry.state & STATE.MISSING_DIR || this.#isSkipped(entry))) {
      entry.state |= STATE.MISSING_DIR
      return undefined
    }
    let stat = this.#stat(path)
    let at = path
    if (settings.keepDirlinks && stat !== null && isSymlink(stat.mode)) {
      const behind = r.tree.directoryAt(path)
      if (behind !== null) [stat, at] = [behind, `${path}/.` as RawPath]
    }
    if (this.#leaveAlone(entry, stat, inFull)) return undefined
    if (!settings.impliedDirs && entry.implied) return undefined
    if (stat !== null && !isDirectory(stat.mode)) {
      if (!r.deleter.makeRoom(path, stat.mode, 'directory')) {
        if (inFull) this.#skipContents(entry)
        return undefined
      }
      stat = null
    }
    if (!inFull) {
      // Made at once, so that the time of its parent can be set when the parent's list is done.
      if (stat === null && !settings.dryRun) this.#makeDirectory(entry, entry.mode & 0o700, false)
      return undefined
    }
    if (settings.dryRun && stat === null) {
      this.#dryMissing ??= path
      entry.state |= STATE.MISSING_DIR
    }
    const created = stat === null || (entry.state & STATE.DIR_CREATED) !== 0
    entry.mode = r.attributes.localMode(entry, created ? null : stat)
    if (!created) this.#itemize(path, entry, ndx, stat, 0)
    else this.#itemizeNew(path, entry, ndx)
    if (stat === null && !settings.dryRun && !this.#makeDirectory(entry, entry.mode, true)) return undefined
    this.#setUnchanged(entry, at, stat)
    this.#keepWritable(entry, at)
    const deletesNow = settings.deleteWhen === 'during' || settings.deleteWhen === 'delay'
    const deletes = !r.lists.incRecurse && deletesNow && this.#phase === 0 && entry.hasContent
    if (!deletes || entry.state & STATE.MISSING_DIR) return undefined
    return this.#deleteIn(entry, r.lists.active[0])
  }

  /** A new directory is told of as far as it differs from its like in an alternate directory. */
  #itemizeNew(path: RawPath, entry: FileEntry, ndx: number): void {
    const { r } = this
    const found = r.alternates.length === 0 ? null : findAlternate(r, entry, path)
    if (found?.level !== 3 || this.#tellsAll) this.#itemize(path, entry, ndx, found?.stat ?? null, ITEM.LOCAL_CHANGE)
  }

  /** -ii, -vv: what is as it should be is told as well. */
  get #tellsAll(): boolean {
    const { itemize, verbose } = this.r.transfer.settings
    return itemize > 1 || verbose > 1
  }

  #makeDirectory(entry: FileEntry, mode: number, told: boolean): boolean {
    const { tree, transfer } = this.r
    try {
      // With --fake-super the mode is kept elsewhere, and whoever is not root must be able to use what he makes.
      tree.makeDirectory(this.r.pathOf(entry), (mode & 0o7777) | (transfer.settings.fakeSuper ? 0o700 : 0))
      entry.state |= STATE.DIR_CREATED
      return true
    } catch (error) {
      if (error instanceof SystemError && error.code === 'EEXIST') return true
      if (!told) return false
      if (error instanceof SystemError && error.code === 'ENOENT' && transfer.settings.relative) {
        try {
          tree.makePath(entry.path, DEFAULT_DIRECTORY & ~transfer.here.umask)
          entry.state |= STATE.DIR_CREATED
          return true
        } catch {
          // told below
        }
      }
      transfer.fileError('recv_generator: mkdir', entry.path, error)
      this.#skipContents(entry)
      return false
    }
  }

  #skipContents(entry: FileEntry): void {
    this.r.transfer.log.error(SKIPPING_CONTENTS)
    this.#skipBelow(entry)
  }

  /** Who is not root needs the owner's write permission while he fills a directory; it goes again in the end. */
  #keepWritable(entry: FileEntry, path: RawPath): void {
    const { tree, transfer } = this.r
    const { here, settings } = transfer
    if (here.root || settings.fakeSuper || settings.dryRun || entry.mode & 0o200) return
    try {
      tree.changeMode(path, entry.mode | 0o200)
    } catch (error) {
      transfer.fileError('failed to modify permissions on', path, error)
    }
  }

  /** Symlinks, devices, FIFOs and sockets need no content: they are made here. */
  #special(list: FileList, entry: FileEntry, ndx: number): void {
    const { r } = this
    const { settings, here, log } = r.transfer
    const path = r.pathOf(entry)
    let stat = this.#stat(path)
    if (this.#leaveAlone(entry, stat, true)) return
    entry.mode = r.attributes.localMode(entry, stat !== null && !isDirectory(stat.mode) ? stat : null)
    if (this.#linked(list, entry, ndx, path, stat)) return
    const makes = isSymlink(entry.mode)
      ? settings.links
      : isDevice(entry.mode)
        ? settings.devices && (here.root || settings.fakeSuper)
        : isSpecial(entry.mode) && settings.specials
    if (!makes) {
      log.info(`skipping non-regular file "${path}"`)
      return
    }
    if (isSymlink(entry.mode) && settings.safeLinks && isUnsafeSymlink(entry.target, path)) {
      if (settings.verbose > 0) log.info(`ignoring unsafe symlink ${r.transfer.fullName(path)} -> "${entry.target}"`)
      return
    }
    let before: Stat | null = stat
    if (stat !== null && this.#givesWay(entry, path, stat)) stat = null
    if (stat !== null) {
      if (this.#isSame(entry, path, stat)) {
        this.#unchanged(entry, path, ndx, stat)
        this.#done(entry, path)
        if (settings.removeSourceFiles) r.confirm(ndx)
        return
      }
      if ((stat.mode & S_IFMT) !== (entry.mode & S_IFMT) && !(isDevice(stat.mode) && isDevice(entry.mode)))
        before = null
      if (!isSymlink(entry.mode) || isDirectory(stat.mode))
        if (!r.deleter.makeRoom(path, stat.mode, kindOf(entry))) return
      if (!isSymlink(entry.mode) || isDirectory(stat.mode)) stat = null
    }
    const found = stat === null && r.alternates.length > 0 ? findAlternate(r, entry, path) : null
    if (found !== null) {
      if (found.level === 3 && this.#standsFor(entry, path, ndx, found)) return
      before = found.stat
    }
    if (!settings.dryRun && !this.#make(entry, path, stat)) return
    r.attributes.set(r.tree, path, entry, null, { exact: true })
    if (found?.level !== 3 || settings.alternates?.kind !== 'copy')
      this.#itemize(path, entry, ndx, before, ITEM.LOCAL_CHANGE | ITEM.REPORT_CHANGE)
    this.#done(entry, path)
    if (settings.removeSourceFiles) r.confirm(ndx)
  }

  /** With --link-dest and --compare-dest even what is here goes where an alternate is its like in every respect. */
  #givesWay(entry: FileEntry, path: RawPath, stat: Stat): boolean {
    const { r } = this
    const { alternates, dryRun } = r.transfer.settings
    if (alternates === null || alternates.kind === 'copy' || !this.#isSame(entry, path, stat)) return false
    const found = findAlternate(r, entry, path)
    if (found?.level !== 3 || linkGroupOf(found.stat) === linkGroupOf(stat)) return false
    if (!dryRun) r.tree.unlink(path)
    return true
  }

  #isSame(entry: FileEntry, path: RawPath, stat: Stat): boolean {
    const { tree, transfer } = this.r
    if ((stat.mode & S_IFMT) !== (entry.mode & S_IFMT)) return false
    if (isSymlink(entry.mode))
      return (transfer.settings.fakeSuper ? fakeTarget(tree, path) : tree.readLink(path)) === entry.target
    return isSpecial(entry.mode) || (stat.rdevMajor === entry.rdevMajor && stat.rdevMinor === entry.rdevMinor)
  }

  /** syscall.c do_symlink(): with --fake-super a plain file passes for anything, and holds the target of a symlink. */
  #makeFake(entry: FileEntry, path: RawPath): void {
    const fd = this.r.tree.create(path, 0o600)
    try {
      if (isSymlink(entry.mode)) writeAt(fd, toBytes(entry.target), 0)
    } finally {
      close(fd)
    }
  }

  /** What takes another's place is made beside it and renamed, so that the name is never missing. */
  #make(entry: FileEntry, path: RawPath, stat: Stat | null): boolean {
    const { r } = this
    const target = stat === null ? path : temporaryName(path)
    try {
      if (r.transfer.settings.fakeSuper) this.#makeFake(entry, target)
      else if (isSymlink(entry.mode)) r.tree.symlink(entry.target, target)
      else r.tree.makeNode(target, entry.mode, entry.rdevMajor, entry.rdevMinor)
    } catch (error) {
      const what = isSymlink(entry.mode) ? 'symlink' : 'mknod'
      if (isSymlink(entry.mode)) {
        r.transfer.failed = true
        r.transfer.fileError(what, path, error)
      } else r.transfer.fileError(what, path, error)
      return false
    }
    if (target === path) return true
    try {
      if (r.backup !== null && !r.backup.isBackup(path)) r.backup.keep(path, true)
      r.tree.rename(target, path)
      return true
    } catch (error) {
      r.transfer.fileError('rename', path, error)
      r.tree.unlink(target)
      return false
    }
  }

  /** generator.c try_dests_non(): with an alternate that is its like in every respect nothing may be left to do. */
  #standsFor(entry: FileEntry, path: RawPath, ndx: number, { tree, stat }: Alternate): boolean {
    const { r } = this
    const { alternates, dryRun } = r.transfer.settings
    const linked = ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS
    if (alternates?.kind === 'link') {
      try {
        if (!dryRun) r.tree.link(tree, path, path)
      } catch {
        return false // another filesystem
      }
      if (this.#tellsAll) this.#itemize(path, entry, ndx, stat, linked, '')
      this.#done(entry, path)
      return true
    }
    if (this.#tellsAll) this.#itemize(path, entry, ndx, stat, alternates?.kind === 'compare' ? 0 : ITEM.LOCAL_CHANGE)
    return alternates?.kind === 'compare'
  }

  /** Returns a promise only when the caller has to wait. `again`: it has arrived damaged before. */
  #regular(list: FileList, entry: FileEntry, ndx: number, again: boolean): Promise<void> | undefined {
    const { r } = this
    const { settings, log } = r.transfer
    const path = r.pathOf(entry)
    let stat = this.#stat(path)
    if (!again) {
      if (this.#leaveAlone(entry, stat, true)) return undefined
      entry.mode = r.attributes.localMode(entry, stat !== null && !isDirectory(stat.mode) ? stat : null)
      if (this.#linked(list, entry, ndx, path, stat)) return undefined
      if (this.#outOfBounds(entry, path)) return undefined
      if (settings.update && stat !== null && !isDirectory(stat.mode) && r.attributes.isNewer(stat, entry)) {
        if (settings.verbose > 1) log.info(`${path} is newer`)
        this.#skippedLink(entry)
        return undefined
      }
    }
    if (stat !== null && !isRegular(stat.mode)) {
      if (!r.deleter.makeRoom(path, stat.mode, 'regular file')) return undefined
      stat = null
    }
    let basis: Basis | null = stat === null ? null : { tree: r.tree, path, stat, type: FNAMECMP.FNAME }
    if (r.alternates.length > 0 && !again && (stat === null || settings.alternates?.kind !== 'copy')) {
      const found = standIn(r, entry, path, stat)
      if (found?.done === true) return this.#stoodIn(entry, path, ndx, found.stat, found.changed)
      if (found !== null) basis = found.basis
    }
    const partial = this.#partialOf(path)
    if (stat === null && basis === null && partial === null && this.#waitsForOther(list, entry, ndx)) return undefined
    if (stat !== null && r.attributes.unchanged(r.tree, path, entry, stat, again)) {
      if (partial !== null) r.dropPartial(partial)
      this.#unchanged(entry, path, ndx, stat)
      this.#done(entry, path)
      if (settings.removeSourceFiles) r.confirm(ndx)
      return undefined
    }
    if (settings.append !== false && !again && stat !== null && stat.size >= entry.size) {
      this.#skippedLink(entry)
      return undefined
    }
    const itemStat = stat ?? (basis !== null ? basis.stat : null)
    if (partial !== null) basis = { ...partial.where, stat: partial.stat, type: FNAMECMP.PARTIAL_DIR }
    return this.#ask(list, entry, ndx, path, basis, itemStat, again)
  }

  /** What it holds is as it shall be: what else differs is told, and set. */
  #unchanged(entry: FileEntry, path: RawPath, ndx: number, stat: Stat): void {
    // An ACL brings its permission bits with it: rsync tells of the ACL alone then.
    this.#itemize(path, entry, ndx, stat, 0, undefined, ITEM.REPORT_ACL)
    this.#setUnchanged(entry, path, stat)
  }

  /** Its content is as it shall be; -vv says so, unless items are told. */
  #setUnchanged(entry: FileEntry, path: RawPath, stat: Stat | null): void {
    const { r } = this
    const { settings, log } = r.transfer
    // What differs is seen before it is set; the item that tells it follows.
    const changed = r.attributes.set(r.tree, path, entry, stat)
    if (settings.verbose <= 1 || settings.itemize > 0 || stat === null) return
    const directory = isDirectory(entry.mode)
    if (!changed) log.info(upToDate(path === '' ? '.' : path, directory).text.slice(0, -1))
  }

  #outOfBounds(entry: FileEntry, path: RawPath): boolean {
    const { settings, log } = this.r.transfer
    const over = settings.maxSize !== null && entry.size > settings.maxSize
    const under = settings.minSize !== null && entry.size < settings.minSize
    if ((over || under) && settings.verbose > 1) log.info(`${path} is ${over ? 'over max-size' : 'under min-size'}`)
    return over || under
  }

  #partialOf(path: RawPath): ({ where: Where; stat: Stat } & Where) | null {
    const { r } = this
    if (r.nothingThere) return null
    const where = r.partial(path)
    const stat = where === null ? null : where.tree.stat(where.path)
    return where !== null && stat !== null && isRegular(stat.mode) ? { where, stat, ...where } : null
  }

  /** Asks the sender for the content, with the sums of what is here of it. */
  #ask(
    list: FileList,
    entry: FileEntry,
    ndx: number,
    path: RawPath,
    from: Basis | null,
    itemStat: Stat | null,
    again: boolean,
  ): Promise<void> | undefined {
    const { r } = this
    const { settings, channel, sums } = r.transfer
    const { out } = channel
    let basis = from
    let fd = -1
    if (basis !== null && !settings.dryRun && settings.wholeFile !== true && basis.stat.size > 0) {
      try {
        fd = basis.tree.openForReading(basis.path)
        if (!isRegular(statAt(fd, '').mode)) throw new Error('not a regular file')
      } catch (error) {
        if (fd >= 0) close(fd)
        fd = -1
        r.transfer.fileError('failed to open, continuing:', basis.path, error)
        basis = null
      }
    }
    if (settings.inplace && r.backup !== null && !again && !settings.dryRun && basis?.type === FNAMECMP.FNAME) {
      const kept = this.#copyToBackup(path, basis.stat)
      if (!kept) {
        if (fd >= 0) close(fd)
        return undefined
      }
      if (fd >= 0) basis = { ...basis, type: FNAMECMP.BACKUP }
    }
    if (r.lists.incRecurse && !settings.dryRun) list.inProgress++
    if (r.links !== null && entry.linkGroup !== '') r.links.of(entry).asked = true
    const type = basis?.type ?? FNAMECMP.FNAME
    let iflags: number = ITEM.TRANSFER
    if (settings.checksum && !again) iflags |= ITEM.REPORT_CHANGE
    if (type !== FNAMECMP.FNAME) iflags |= ITEM.BASIS_TYPE_FOLLOWS
    iflags = r.attributes.differences(basis?.tree ?? r.tree, basis?.path ?? path, entry, itemStat, iflags, null)
    entry.state |= STATE.TOLD | STATE.ASKED
    this.#write(ndx)
    out.u16(iflags)
    if (type !== FNAMECMP.FNAME) out.u8(type)
    this.#requestXattrs(
      entry,
      iflags,
      itemStat === null ? null : { tree: basis?.tree ?? r.tree, path: basis?.path ?? path },
    )
    if (settings.dryRun) {
      this.#done(entry, path)
      return undefined
    }
    if (fd < 0 || basis === null) {
      encodeSumHead(out, NO_SUMS)
      return undefined
    }
    const size = basis.stat.size
    const head = sumHeadOf(size, settings.blockSize, again, sums.length)
    if (head === null) {
      close(fd)
      encodeSumHead(out, NO_SUMS)
      return undefined
    }
    encodeSumHead(out, head)
    if (settings.append !== false && !again) {
      close(fd)
      return undefined
    }
    return writeSums(fd, head, size, sums, out, () => channel.relieve()).finally(() => close(fd))
  }

  /** With --inplace the old content is copied before it is written over. */
  #copyToBackup(path: RawPath, stat: Stat): boolean {
    const { r } = this
    const { backup, tree } = r
    if (backup === null || backup.isBackup(path)) return true
    try {
      const to = backup.place(path)
      if (to.tree.stat(to.path) !== null) to.tree.unlink(to.path)
      else if (parent(to.path) !== '') to.tree.makePath(parent(to.path), 0o700)
      r.copyFile({ tree, path }, to, stat.mode)
      return true
    } catch (error) {
      r.transfer.fileError('backup of', path, error)
      return false
    }
  }

  /** A file of an alternate directory has been linked, copied or found to be the same. */
  #stoodIn(entry: FileEntry, path: RawPath, ndx: number, stat: Stat, copied: boolean): undefined {
    const { settings } = this.r.transfer
    if (copied) this.#itemize(path, entry, ndx, stat, ITEM.LOCAL_CHANGE)
    else if (settings.alternates?.kind === 'compare') this.#itemize(path, entry, ndx, stat, 0)
    else if (settings.itemize > 1 || settings.verbose > 1)
      this.#itemize(path, entry, ndx, stat, ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS, '')
    if (copied || settings.alternates?.kind === 'link') this.#done(entry, path)
    if (settings.removeSourceFiles) this.r.confirm(ndx)
    return undefined
  }

  /** generator.c itemize(): tells the sender, which tells the receiver, so that all is in order. */
  #itemize(
    path: RawPath,
    entry: FileEntry,
    ndx: number,
    stat: Stat | null,
    iflags: number,
    xname?: string,
    bringsMode = 0,
  ): void {
    const { r } = this
    const { settings, channel } = r.transfer
    let flags = r.attributes.differences(r.tree, path, entry, stat, iflags, xname ?? null) & 0xffff
    if (flags & bringsMode && !settings.dryRun && stat !== null && ((stat.mode ^ entry.mode) & 0o7000) === 0)
      flags &= ~ITEM.REPORT_PERMS
    const telling =
      (flags & (SIGNIFICANT_ITEM_FLAGS | ITEM.REPORT_XATTR)) !== 0 ||
      settings.verbose > 1 ||
      settings.itemize > 1 ||
      (xname !== undefined && xname !== '')
    if (!telling) return
    entry.state |= STATE.TOLD
    this.#write(ndx)
    channel.out.u16(flags)
    if (flags & ITEM.XNAME_FOLLOWS) channel.out.vstring(xname ?? '')
    this.#requestXattrs(entry, flags, stat === null ? null : { tree: r.tree, path })
  }

  /** Asks for values of extended attributes that were too long for the list. */
  #requestXattrs(entry: FileEntry, iflags: number, from: Where | null): void {
    const { transfer, attributes } = this.r
    const { settings, agreement, channel } = transfer
    if (settings.xattrs === 0 || settings.dryRun || !carriesXattrs(iflags, agreement.protocol, agreement.compatFlags))
      return
    const have = from === null ? [] : attributes.xattrs(from.tree, from.path)
    encodeXattrRequest(channel.out, askForXattrs(entry.xattrs as Xattrs, have))
  }

  // Hard links

  /** hlink.c hard_link_check(): true when this name is, or will be, a link to another of its group. */
  #linked(list: FileList, entry: FileEntry, ndx: number, path: RawPath, stat: Stat | null): boolean {
    const { r } = this
    if (r.links === null || entry.linkGroup === '') return false
    const group = r.links.of(entry)
    if (group.done !== null) {
      this.#linkTo(entry, ndx, path, stat, group.done)
      return true
    }
    if (!group.asked) return false
    group.waiting.push({ ndx, entry, list })
    if (r.lists.incRecurse) list.inProgress++
    return true
  }

  /** Another name of its group that is still to come may already be here: wait for it. */
  #waitsForOther(list: FileList, entry: FileEntry, ndx: number): boolean {
    const { r } = this
    if (r.links === null || entry.linkGroup === '') return false
    const group = r.links.of(entry)
    if (group.ahead === 0) return false
    group.waiting.push({ ndx, entry, list })
    if (r.lists.incRecurse) list.inProgress++
    return true
  }

  /** hlink.c maybe_hard_link() */
  #linkTo(entry: FileEntry, ndx: number, path: RawPath, stat: Stat | null, existing: RawPath): void {
    const { r } = this
    const { settings } = r.transfer
    const other = this.#stat(existing)
    entry.state |= STATE.HLINK_DONE
    let before = stat
    if (stat !== null) {
      if (other !== null && linkGroupOf(stat) === linkGroupOf(other)) {
        this.#itemize(path, entry, ndx, stat, ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS, '')
        if (settings.removeSourceFiles) r.confirm(ndx)
        return
      }
      if (isDirectory(stat.mode) && !r.deleter.makeRoom(path, stat.mode, 'regular file')) return
      if (isDirectory(stat.mode)) before = null
    }
    try {
      if (!settings.dryRun) this.#replaceByLink(path, before, existing)
    } catch (error) {
      r.transfer.failed = true
      r.transfer.fileError('link', path, error)
      return
    }
    this.#itemize(path, entry, ndx, stat, ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS, existing)
    if (settings.removeSourceFiles) r.confirm(ndx)
  }

  #replaceByLink(path: RawPath, stat: Stat | null, existing: RawPath): void {
    const { tree, backup } = this.r
    if (stat === null) return tree.link(tree, existing, path)
    const temporary = temporaryName(path)
    tree.link(tree, existing, temporary)
    if (backup !== null && !backup.isBackup(path)) backup.keep(path, true)
    tree.rename(temporary, path)
  }

  /** hlink.c finish_hard_link(): this name of a group is as it shall be, and those that wait for it are linked to it. */
  #done(entry: FileEntry, path: RawPath): void {
    const { r } = this
    if (r.links === null || entry.linkGroup === '') return
    const group = r.links.of(entry)
    if (group.done !== null) return
    group.done = path
    for (const { ndx, entry: other, list } of group.waiting.splice(0).reverse()) {
      const otherPath = r.pathOf(other)
      this.#linkTo(other, ndx, otherPath, this.#stat(otherPath), path)
      if (r.lists.incRecurse) list.inProgress--
    }
  }

  #finishLinks(): void {
    const { r } = this
    for (const { ndx, arrived } of r.finished.splice(0)) {
      const { list, entry } = r.lists.require(ndx)
      if (arrived) this.#done(entry, r.pathOf(entry))
      else this.#failedLink(entry)
      if (r.lists.incRecurse) list.inProgress--
    }
  }

  /** The name that was asked for did not arrive: another of its group is asked for instead. */
  #failedLink(entry: FileEntry): void {
    const group = this.r.links?.of(entry)
    if (group === undefined || group.done !== null) return
    group.asked = false
    this.#skippedLink(entry)
  }

  /** generator.c handle_skipped_hlink(): the last name of a group is left out, and an earlier one waits for it. */
  #skippedLink(entry: FileEntry): void {
    const { r } = this
    if (r.links === null || entry.linkGroup === '') return
    const group = r.links.of(entry)
    if (group.ahead > 0 || group.asked || group.done !== null) return
    const next = group.waiting.pop()
    if (next === undefined) return
    if (r.lists.incRecurse) next.list.inProgress--
    this.#revived.push(next)
  }

  async #revive(): Promise<void> {
    for (const { list, entry, ndx } of this.#revived.splice(0)) {
      if (isRegular(entry.mode)) await this.#regular(list, entry, ndx, false)
      else this.#special(list, entry, ndx)
    }
  }

  // Deletions and the end of directories

  async #deletePass(): Promise<void> {
    if (this.r.onListed !== undefined) return
    const { r } = this
    if (r.nothingThere || r.localName !== null) return
    for (const list of r.lists.active)
      for (const entry of list.entries)
        if (entry !== null && isDirectory(entry.mode) && entry.hasContent && !(entry.state & STATE.MISSING_DIR))
          await this.#deleteIn(entry, list)
  }

  async #deleteIn(dir: FileEntry, list: FileList): Promise<void> {
    const { r } = this
    if (r.localName !== null) return
    const names = list.names
    await r.deleter.emptyOf(dir, (path) => names.has(path), r.transfer.settings.deleteWhen === 'delay')
  }

  #touchUp(list: FileList): void {
    // What is deepest first: setting a directory's time must be the last thing that happens in it.
    for (let i = list.entries.length - 1; i >= 0; i--) {
      const entry = list.entries[i]
      if (entry !== null && isDirectory(entry.mode)) this.#touchUpOne(entry)
    }
  }

  /** generator.c touch_up_dirs(): what was changed while a directory was filled becomes as it shall be. */
  #touchUpOne(entry: FileEntry): void {
    const { r } = this
    const { settings, here } = r.transfer
    if (
      settings.dryRun ||
      r.onListed !== undefined ||
      r.localName !== null ||
      entry.state & STATE.MISSING_DIR ||
      (!settings.impliedDirs && entry.implied)
    )
      return
    try {
      if (!here.root && !settings.fakeSuper && !(entry.mode & 0o200)) r.tree.changeMode(entry.path, entry.mode)
      if (!settings.times || settings.omitDirTimes) return
      const stat = r.tree.stat(entry.path)
      if (stat !== null && isDirectory(stat.mode) && !r.attributes.sameTime(entry, stat))
        r.tree.changeTime(entry.path, entry.mtime, entry.mtimeNsec)
    } catch (error) {
      r.transfer.fileError('failed to set times on', entry.path, error)
    }
  }
}

function fakeTarget(tree: Destination, path: RawPath): RawPath {
  const fd = tree.openForReading(path)
  try {
    return readFakeTarget(fd)
  } finally {
    close(fd)
  }
}

/** A file that is here and whose blocks may be in the new content. */
export interface Basis extends Where {
  stat: Stat
  type: number
}

function kindOf(entry: FileEntry): MakeRoomFor {
  if (isSymlink(entry.mode)) return 'symlink'
  return isDevice(entry.mode) ? 'device file' : 'special file'
}

const isBelow = (path: RawPath, dir: RawPath) => path !== dir && (dir === '' || path.startsWith(`${dir}/`))
