import { carriesXattrs, type XattrCodec, type Xattrs } from '../attributes/xattr.js'
import { isMissing } from '../disk/destination.js'
import { ProtocolError } from '../errors.js'
import { type FileEntry, isDevice, isDirectory, isRegular, isSymlink, STATE } from '../flist/entry.js'
import { close, preallocate, type Stat, SystemError, statAt, syncFile, truncate } from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import type { Settings } from '../settings.js'
import type { Moved } from '../transfer.js'
import { FNAMECMP, ITEM, NDX_DEL_STATS, NDX_DONE, NDX_FLIST_EOF, NDX_FLIST_OFFSET } from '../wire/constants.js'
import type { Cursor } from '../wire/cursor.js'
import type { NdxCodec } from '../wire/ndx.js'
import { decodeSumHead, type SumHead } from '../wire/sum-head.js'
import { FileWriter } from './file-writer.js'
import type { Receiving, Where } from './receiving.js'
import { temporaryName } from './temporary.js'
import type { TokenSource } from './tokens.js'

const XNAME_MAX = 4096
const LAST_PHASE = 2

/** What the sender says of an item before its content comes. */
interface Item {
  iflags: number
  basisType: number
  xname: Buffer | null
}

/** receiver.c: takes the content that the generator has asked for, and puts it in its place. */
export class Receiver {
  readonly #decodeNdx = (c: Cursor) => this.input.decode(c)

  constructor(
    readonly r: Receiving,
    readonly tokens: TokenSource,
    readonly input: NdxCodec,
    /** Reads a further list, of what is in the directory with this index; called with incremental recursion only. */
    readonly receiveList: (directory: number) => Promise<void>,
    readonly xattrs: XattrCodec | null,
    /** Between the last phase and the goodbye a server that sends tells what it has moved. */
    readonly receiveStats: (() => Promise<void>) | undefined,
  ) {}

  /** receiver.c recv_files(), and the goodbye. */
  async run(): Promise<void> {
    const { r } = this
    for (let phase = 0; phase <= LAST_PHASE; ) {
      const ndx = await this.#next('file index')
      if (ndx !== NDX_DONE) {
        await this.#item(ndx, phase)
        continue
      }
      if (r.lists.incRecurse && r.lists.active.length > 0) {
        r.lists.shift()
        if (r.lists.active.length > 0) continue
      }
      phase++
      if (phase === LAST_PHASE) this.#replaceDelayed()
      if (phase <= LAST_PHASE) this.#phaseEnded()
    }
    await this.receiveStats?.()
    this.#phaseEnded()
    await this.#goodbye()
  }

  #phaseEnded(): void {
    this.r.phasesEnded++
    this.r.wake()
  }

  /** Protocol 31: the sender answers the end of the deletions; what follows is the end of the connection. */
  async #goodbye(): Promise<void> {
    if (this.r.transfer.agreement.protocol < 31) return
    const ndx = await this.#next('goodbye')
    if (ndx !== NDX_DONE) throw new ProtocolError('goodbye', `index ${ndx}`)
    this.#phaseEnded()
  }

  /** The next index; lists that come ahead of it are taken. */
  async #next(what: string): Promise<number> {
    const { r } = this
    const { channel } = r.transfer
    for (;;) {
      const ndx = channel.tryReceive(this.#decodeNdx) ?? (await channel.receive(what, this.#decodeNdx))
      if (ndx >= 0 || ndx === NDX_DONE) return ndx
      if (ndx === NDX_DEL_STATS) for (let i = 0; i < 5; i++) await channel.receive('deletion counts', (c) => c.varint())
      else if (!r.lists.incRecurse || r.lists.complete) throw new ProtocolError('file index', `${ndx}`)
      else if (ndx === NDX_FLIST_EOF) {
        r.lists.complete = true
        r.wake()
      } else if (ndx <= NDX_FLIST_OFFSET) await this.receiveList(NDX_FLIST_OFFSET - ndx)
      else throw new ProtocolError('file index', `${ndx}`)
    }
  }

  async #item(ndx: number, phase: number): Promise<void> {
    const { r } = this
    const { transfer } = r
    const { list, entry } = r.lists.require(ndx)
    transfer.count.checked = list.before + ndx - list.start
    const item = await transfer.channel.receive('item flags', decodeItem)
    this.#checkAsked(entry, item)
    const { settings, agreement } = transfer
    const withXattrs = settings.xattrs > 0 && !settings.dryRun && (item.iflags & ITEM.REPORT_XATTR) !== 0
    if (withXattrs && carriesXattrs(item.iflags, agreement.protocol, agreement.compatFlags))
      await this.xattrs?.receiveValues(transfer.channel, entry.xattrs as Xattrs)
    const linkName = item.xname === null ? '' : item.xname.toString('latin1')
    if (!(item.iflags & ITEM.TRANSFER)) {
      transfer.log.item(entry, item.iflags, linkName, NOTHING)
      const linked = ITEM.XNAME_FOLLOWS | ITEM.LOCAL_CHANGE
      const path = r.pathOf(entry)
      if (withXattrs && (item.iflags & linked) !== linked)
        r.attributes.set(r.tree, path, entry, null, { xattrsFrom: { tree: r.tree, path } })
      if (item.iflags & ITEM.IS_NEW) countCreated(r, entry)
      return
    }
    if (phase === LAST_PHASE) throw new ProtocolError('file index', 'content in the last phase')
    if (!isRegular(entry.mode)) throw new ProtocolError('file index', `content of ${entry.path}, which is no file`)
    const again = (entry.state & STATE.SENT) !== 0
    if (!again && item.iflags & ITEM.IS_NEW) transfer.stats.createdFiles++
    transfer.stats.transferred++
    transfer.stats.transferredSize += entry.size
    if (transfer.settings.dryRun) {
      transfer.log.item(entry, item.iflags, linkName, NOTHING)
      return
    }
    const outcome = await this.#receive(entry, item, again)
    if (outcome === 'kept') return // --delay-updates: told when it is in its place
    r.report(ndx, outcome === 'damaged' ? (again ? 'failed' : 'redo') : outcome)
    if (outcome === 'arrived' && (transfer.settings.removeSourceFiles || transfer.lasts)) r.confirm(ndx)
    if (outcome === 'failed') r.refuse(ndx)
  }

  /**
   * A sender that sends ahead of what it is asked for saves a round trip, and one of ours does so in a session that lasts.
   * It must be a file then that may be written.
   */
  #checkAsked(entry: FileEntry, { iflags }: Item): void {
    if (!(iflags & ITEM.TRANSFER) && entry.state & STATE.TOLD) return
    if (iflags & ITEM.TRANSFER && (entry.state & STATE.ASKED || this.#isAhead(entry))) {
      entry.state &= ~STATE.ASKED
      return
    }
    throw new ProtocolError('file index', `${entry.path} was not asked for`)
  }

  #isAhead({ path, mode }: FileEntry): boolean {
    const { r } = this
    return r.transfer.lasts && r.onListed === undefined && !r.forbidden(path, isDirectory(mode))
  }

  /** Takes the content of one file. */
  async #receive(entry: FileEntry, item: Item, again: boolean): Promise<'arrived' | 'failed' | 'damaged' | 'kept'> {
    const { r } = this
    const { transfer } = r
    const { settings } = transfer
    const path = r.pathOf(entry)
    const head = await transfer.channel.receive('sum head', (c) => decodeSumHead(c, transfer.sums.length))
    transfer.here.role = 'receiver'
    const basis = isNew(item, head) || isUnused(item, head, settings) ? null : this.#openBasis(entry, path, item)
    const { inplace } = settings
    const target = this.#openTarget(entry, path, inplace, basis)
    let writer: FileWriter
    try {
      writer = new FileWriter(r.transfer, target?.fd ?? -1, basis?.fd ?? -1, basis?.stat.size ?? 0, head, {
        sameFile: inplace && basis?.same === true,
        appends: settings.append !== false && !again,
        sparse: settings.sparse,
        size: entry.size,
      })
    } catch (error) {
      closeBoth(basis, target)
      if (target !== null && !inplace) this.#drop(target)
      throw error
    }
    const moved: Moved = { literal: 0, matched: 0 }
    const linkName = item.xname === null ? '' : item.xname.toString('latin1')
    if (target !== null) transfer.log.begin?.(entry, item.iflags, linkName)
    transfer.log.progress?.({ entry, offset: 0, size: entry.size }, false)
    let damaged: boolean
    try {
      if (target !== null && settings.preallocate && entry.size > 0) this.#preallocate(target.fd, entry.size)
      damaged = !(await this.tokens.receive(entry, writer, moved))
      if (target !== null && settings.fsync) syncFile(target.fd)
    } catch (error) {
      await writer.settle().catch(() => undefined) // what went wrong first is told
      this.#giveUp(entry, path, target, inplace, writer.length)
      throw error
    } finally {
      closeBoth(basis, target)
    }
    transfer.stats.literalBytes += moved.literal
    transfer.stats.matchedBytes += moved.matched
    if (target === null) return 'failed'
    transfer.log.progress?.({ entry, offset: entry.size, size: entry.size }, true)
    transfer.log.item(entry, item.iflags, linkName, moved)
    if (writer.failure !== null) {
      transfer.fileError('write failed on', path, writer.failure, 'receiver')
      if (!inplace) this.#drop(target)
      return 'failed'
    }
    return this.#finish(entry, path, target, basis, inplace, damaged, again)
  }

  #preallocate(fd: number, size: number): void {
    try {
      preallocate(fd, size)
    } catch {
      // Not every filesystem can.
    }
  }

  /** Puts what has arrived where it belongs. */
  #finish(
    entry: FileEntry,
    path: RawPath,
    target: Where,
    basis: Basis | null,
    inplace: boolean,
    damaged: boolean,
    again: boolean,
  ): 'arrived' | 'failed' | 'damaged' | 'kept' {
    const { r } = this
    const { settings } = r.transfer
    r.transfer.here.role = 'receiver'
    const partial = r.partial(path)
    const from = basis?.where ?? { tree: r.tree, path }
    if (!damaged && settings.delayUpdates && partial !== null && !inplace) {
      if (!this.#moveTo(entry, target, partial, true, from)) return 'failed'
      r.delayed.push(entry)
      return 'kept'
    }
    if (!damaged || inplace) {
      if (!this.#place(entry, path, target, inplace, !damaged, from)) return 'failed'
      if (basis?.partial === true && partial !== null) r.dropPartial(partial)
    } else if (settings.partial && (partial !== null || settings.partialDir === null)) {
      this.#moveTo(entry, target, partial ?? { tree: r.tree, path }, false, from)
    } else this.#drop(target)
    if (!damaged) return 'arrived'
    this.#sayDamaged(path, inplace, again)
    return 'damaged'
  }

  #sayDamaged(path: RawPath, inplace: boolean, again: boolean): void {
    const { transfer } = this.r
    const { settings, log } = transfer
    const kept =
      !settings.partial && !inplace ? 'discarded' : settings.partialDir !== null ? 'put into partial-dir' : 'retained'
    if (again) {
      transfer.failed = true
      log.fileError(`ERROR: ${path} failed verification -- update ${kept}.`)
    } else if (settings.verbose > 0)
      log.warning(`WARNING: ${path} failed verification -- update ${kept} (will try again).`)
  }

  /** rsync.c finish_transfer() */
  #place(entry: FileEntry, path: RawPath, target: Where, inplace: boolean, sound: boolean, from: Where): boolean {
    const { r } = this
    if (inplace && target.path === path) {
      r.attributes.set(r.tree, path, entry, null, { exact: true, skipTime: !sound, xattrsFrom: from })
      return true
    }
    if (r.backup !== null && !r.backup.isBackup(path) && !r.backup.keep(path, false)) {
      this.#drop(target)
      return true
    }
    r.attributes.set(target.tree, target.path, entry, null, { exact: true, skipTime: !sound, xattrsFrom: from })
    return this.#rename(target, { tree: r.tree, path })
  }

  #moveTo(entry: FileEntry, target: Where, to: Where, sound: boolean, from: Where): boolean {
    const { r } = this
    if (to.path !== r.pathOf(entry) && !r.makePartialDir(to)) {
      r.transfer.log.error(
        `Unable to create partial-dir for ${entry.path} -- discarding ${sound ? 'completed' : 'partial'} file.`,
      )
      this.#drop(target)
      return false
    }
    r.attributes.set(target.tree, target.path, entry, null, { exact: true, skipTime: !sound, xattrsFrom: from })
    return this.#rename(target, to)
  }

  /** Another filesystem (--temp-dir) takes a copy. */
  #rename(from: Where, to: Where): boolean {
    const { transfer } = this.r
    try {
      from.tree.moveTo(from.path, to.tree, to.path)
      return true
    } catch (error) {
      if (error instanceof SystemError && error.code === 'EXDEV') return this.#copyOver(from, to)
      transfer.fileError('rename', from.path, error, 'receiver')
      this.#drop(from)
      return false
    }
  }

  #copyOver(from: Where, to: Where): boolean {
    const { r } = this
    try {
      const beside = { tree: to.tree, path: temporaryName(to.path) }
      const stat = from.tree.stat(from.path)
      r.copyFile(from, beside, stat?.mode ?? 0o600)
      beside.tree.rename(beside.path, to.path)
      return true
    } catch (error) {
      r.transfer.fileError('copy', from.path, error, 'receiver')
      return false
    } finally {
      this.#drop(from)
    }
  }

  #drop({ tree, path }: Where): void {
    try {
      tree.unlink(path)
    } catch (error) {
      if (!isMissing(error)) this.r.transfer.fileError('unlink', path, error, 'receiver')
    }
  }

  /** The session breaks off: what has arrived is kept with --partial, else nothing is left behind. */
  #giveUp(
    entry: FileEntry,
    path: RawPath,
    target: (Where & { fd: number }) | null,
    inplace: boolean,
    length: number,
  ): void {
    const { r } = this
    if (target === null || inplace) return
    const { settings } = r.transfer
    if (!settings.partial || length === 0) return this.#drop(target)
    truncate(target.fd, length)
    this.#moveTo(entry, target, r.partial(path) ?? { tree: r.tree, path }, false, { tree: r.tree, path })
  }

  /** receiver.c handle_delayed_updates() */
  #replaceDelayed(): void {
    const { r } = this
    for (const entry of r.delayed.splice(0)) {
      const path = r.pathOf(entry)
      const partial = r.partial(path)
      if (partial === null) continue
      if (r.backup !== null && !r.backup.isBackup(path) && !r.backup.keep(path, false)) continue
      if (this.#rename(partial, { tree: r.tree, path })) r.dropPartial(partial)
    }
  }

  #openBasis(entry: FileEntry, path: RawPath, item: Item): Basis | null {
    const { r } = this
    const where = this.#basisOf(path, item)
    if (where === null) return null
    let fd: number
    try {
      fd = where.tree.openForReading(where.path)
    } catch {
      return null
    }
    try {
      const stat = statAt(fd, '')
      if (isRegular(stat.mode)) {
        const same = (where.tree === r.tree && where.path === path) || item.basisType === FNAMECMP.BACKUP
        return { fd, stat, where, same, partial: item.basisType === FNAMECMP.PARTIAL_DIR }
      }
    } catch (error) {
      r.transfer.fileError('fstat', entry.path, error, 'receiver')
    }
    close(fd)
    return null
  }

  #basisOf(path: RawPath, { basisType, xname }: Item): Where | null {
    const { r } = this
    switch (basisType) {
      case FNAMECMP.FNAME:
        return { tree: r.tree, path }
      case FNAMECMP.PARTIAL_DIR:
        return r.partial(path)
      case FNAMECMP.BACKUP:
        return r.backup === null ? { tree: r.tree, path } : r.backup.place(path)
      default: {
        void xname // --fuzzy is not ours: we never ask for it
        const tree = r.alternates.at(basisType)
        if (basisType > FNAMECMP.BASIS_DIR_HIGH || tree === undefined)
          throw new ProtocolError('basis type', `${basisType}`)
        return { tree, path }
      }
    }
  }

  /** Where the content goes: beside its place, so that a name always leads to something whole. */
  #openTarget(entry: FileEntry, path: RawPath, inplace: boolean, basis: Basis | null): (Where & { fd: number }) | null {
    const { r } = this
    const { tree, temporaries } = r
    try {
      if (inplace) {
        const partial = basis?.partial === true ? r.partial(path) : null
        const where = partial ?? { tree, path }
        return { ...where, fd: where.tree.openForWriting(where.path, 0o600) }
      }
    } catch (error) {
      r.transfer.fileError('open', path, error, 'receiver')
      return null
    }
    const mode = (entry.mode & 0o700) | (r.transfer.settings.fakeSuper ? 0o600 : 0o200)
    const where = { tree: temporaries ?? tree, path: temporaryName(path, temporaries !== null) }
    try {
      return { ...where, fd: where.tree.create(where.path, mode) }
    } catch (error) {
      r.transfer.fileError('mkstemp', where.path, error, 'receiver')
      return null
    }
  }
}

interface Basis {
  fd: number
  stat: Stat
  where: Where
  /** It is the file that is being replaced, or the same as it. */
  same: boolean
  /** It is a part that an earlier run has left. */
  partial: boolean
}

function closeBoth(basis: Basis | null, target: { fd: number } | null): void {
  if (basis !== null) close(basis.fd)
  if (target !== null) close(target.fd)
}

const NOTHING = { literal: 0, matched: 0 }

/** rsync.c read_ndx_and_attrs() */
function decodeItem(c: Cursor): Item {
  const iflags = c.u16()
  const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : FNAMECMP.FNAME
  const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(XNAME_MAX) : null
  return { iflags, basisType, xname }
}

/** Nothing of it is here: not even a look for it is worth while. */
const isNew = ({ iflags, basisType }: Item, head: SumHead) =>
  (iflags & ITEM.IS_NEW) !== 0 && basisType === FNAMECMP.FNAME && head.count === 0

/** No block of it can be named, and it is not written to. */
const isUnused = ({ basisType }: Item, head: SumHead, { inplace, append }: Settings) =>
  basisType === FNAMECMP.FNAME && head.count === 0 && !inplace && append === false

function countCreated({ transfer }: Receiving, { mode }: FileEntry): void {
  const { stats } = transfer
  if (isRegular(mode)) return
  if (isDirectory(mode)) stats.createdDirectories++
  else if (isSymlink(mode)) stats.createdSymlinks++
  else if (isDevice(mode)) stats.createdDevices++
  else stats.createdSpecials++
}
