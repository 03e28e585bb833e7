import { AclCodec, readAcls } from '../attributes/acl.js'
import { fakeStat, isFaked, readFakeTarget } from '../attributes/fake-super.js'
import { type Power, readXattrs, XattrCodec, type XattrRules } from '../attributes/xattr.js'
import { changeMode } from '../chmod.js'
import { readSums } from '../delta/sums.js'
import { FileError } from '../errors.js'
import type { FilterScopes } from '../filter.js'
import { FlistEncoder } from '../flist/codec.js'
import { entryOf, type FileEntry, isDirectory, isRegular, isSymlink, missing, STATE } from '../flist/entry.js'
import { Ids } from '../flist/ids.js'
import { type FileList, FileLists } from '../flist/lists.js'
import type { SourceTree } from '../flist/source.js'
import { close, openAt, type Place, readLinkAt, type Stat, SystemError, statAt } from '../kernel.js'
import { join, parent, type RawPath } from '../raw-path.js'
import { powerOf } from '../receive/attributes.js'
import { count, flistFormat, MUNGE_PREFIX } from '../receive/receive.js'
import { isUnsafeSymlink } from '../receive/unsafe-symlink.js'
import type { ChmodRule } from '../settings.js'
import { IOERR, type Transfer } from '../transfer.js'
import { CF, NDX_FLIST_EOF, NDX_FLIST_OFFSET } from '../wire/constants.js'
import type { NdxCodec } from '../wire/ndx.js'

/** rsync.h FILECNT_LOOKAHEAD: so many entries are listed ahead of the one that is worked on. */
const ENTRIES_AHEAD = 1000
const NAME_MAX = 255
/** A list is sent in pieces of this length: the receiver takes it in while we look for more. */
const LIST_BYTES = 1 << 13

/** One of the sources of a transfer: a place, and what of it is sent. */
export interface Argument {
  tree: SourceTree
  filters: FilterScopes
  /** Below the tree; '' is the tree itself. */
  path: RawPath
  /** It was given as a directory, with a slash or a dot at its end. */
  asDirectory: boolean
  /** -R: it began with a dot of its own, which is then an implied directory as well. */
  dotted: boolean
  /** The tree's directory as it was given; '' where one stands, and with -R. */
  named: string
  /** As it was given, for complaints. */
  given: RawPath
}

/** What an entry's `origin` is: where the sender finds it again. */
export interface Origin {
  tree: SourceTree
  filters: FilterScopes
  /** The directory as it was named on the command line, for %f; '' where one stands. */
  named: string
}

export interface OutgoingOptions {
  /** A module's `numeric ids`. */
  numericIds: boolean
  chmod: readonly ChmodRule[]
  /** Names that a module keeps to itself. */
  forbidden: (path: RawPath, directory: boolean) => boolean
  /** The module munges symlinks: what was put before their targets is taken off again. */
  mungeSymlinks: boolean
}

/** flist.c send_file_list(), send_extra_file_list(): lists what is sent, a directory at a time where both ends can. */
export class OutgoingLists {
  readonly lists: FileLists
  readonly xattrs: XattrCodec | null
  readonly #encoder: FlistEncoder
  readonly #ids: Ids
  readonly #power: Power
  readonly #chmod: readonly ChmodRule[]
  readonly #xattrRules: XattrRules
  /** Directories whose content is still to be listed, the next one last. */
  readonly #pending: { entry: FileEntry; ndx: number }[] = []
  readonly #devices = new Map<SourceTree, number>()
  /** Open until `close`. */
  readonly #trees = new Set<SourceTree>()
  #entries: FileEntry[] = []
  #reported = 0
  #current: FileList | undefined

  constructor(
    readonly transfer: Transfer,
    readonly codec: NdxCodec,
    readonly options: OutgoingOptions,
  ) {
    const { settings, agreement, channel, here } = transfer
    const incRecurse = (agreement.compatFlags & CF.INC_RECURSE) !== 0
    this.lists = new FileLists(incRecurse)
    this.#ids = new Ids(here.root, options.numericIds)
    this.#power = powerOf(transfer)
    this.#chmod = [...settings.chmod, ...options.chmod]
    this.#xattrRules = { power: this.#power, sender: true, all: settings.xattrs > 1 }
    const acls = settings.acls
      ? new AclCodec({ power: this.#power, ids: settings.numericIds ? null : this.#ids, incRecurse })
      : null
    this.xattrs = settings.xattrs > 0 ? new XattrCodec(this.#xattrRules) : null
    const annexes = [acls, this.xattrs].filter((annex): annex is AclCodec | XattrCodec => annex !== null)
    const ids = incRecurse && !settings.numericIds ? this.#ids : undefined
    this.#encoder = new FlistEncoder(flistFormat(transfer, annexes, ids), channel.out)
  }

  /** Nothing of what was named is looked at any more. */
  close(): void {
    for (const tree of this.#trees) tree.leave()
    this.#trees.clear()
  }

  /** The first list, or the only one: what was named, and with recursion what is in it. */
  async send(args: AsyncIterable<Argument> | Iterable<Argument>): Promise<void> {
    const { lists, transfer } = this
    const { settings, agreement, channel } = transfer
    const startMs = performance.now()
    const startBytes = channel.bytesWritten
    this.#encoder.begin(lists.nextStart)
    for await (const arg of args) await this.#argument(arg)
    this.#endList()
    const list = this.#keep(null)
    if (!lists.incRecurse && !settings.numericIds) {
      const withZero = (agreement.compatFlags & CF.ID0_NAMES) !== 0
      this.#ids.encode(channel.out, settings.owner || settings.acls, settings.group || settings.acls, withZero)
    }
    this.#sayIncomplete()
    if (!lists.incRecurse) lists.complete = true
    else if (this.#pending.length === 0) this.#complete()
    else if (list.entries.length === 1) await this.#sendNext() // whether it is alone decides where it goes
    transfer.stats.flistBuildMs = performance.now() - startMs
    const wait = channel.flush()
    if (wait !== undefined) await wait
    transfer.stats.flistBytes += channel.bytesWritten - startBytes
  }

  /** Nothing was found of what was named. */
  get isEmpty(): boolean {
    return this.lists.complete && this.lists.active.every(({ entries }) => entries.length === 0)
  }

  /** Lists more directories when few entries are left ahead. Returns a promise only when the caller has to wait. */
  more(): Promise<void> | undefined {
    if (this.lists.complete || this.#ahead() >= ENTRIES_AHEAD) return undefined
    return this.#sendMore()
  }

  async #sendMore(): Promise<void> {
    while (!this.lists.complete && this.#ahead() < ENTRIES_AHEAD) await this.#sendNext()
  }

  #ahead(): number {
    const current = (this.#current ?? this.lists.active.at(0))?.start ?? 0
    let ahead = 0
    for (let i = this.lists.active.length - 1; i >= 0 && this.lists.active[i].start > current; i--)
      ahead += this.lists.active[i].entries.length
    return ahead
  }

  /** What the receiver asks for. Throws ProtocolError for an index of no list. */
  entryAt(ndx: number): FileEntry {
    const { list, entry } = this.lists.require(ndx)
    this.#current = list
    this.transfer.count.checked = list.before + ndx - list.start
    return entry
  }

  /** The receiver is done with the oldest list. True when there are more: they are worked on next. */
  listDone(): boolean {
    if (!this.lists.incRecurse || this.lists.active.length === 0) return false
    const done = this.lists.shift()
    // Nothing of the next one may ever be asked for, and yet more must be listed behind it.
    if (this.#current === undefined || this.#current === done) this.#current = this.lists.active.at(0)
    return this.lists.active.length > 0
  }

  /** The list of the next directory, and of others with its name. */
  async #sendNext(): Promise<void> {
    const { lists, transfer } = this
    const next = this.#pending.pop()
    if (next === undefined) return this.#complete()
    const { out } = transfer.channel
    this.codec.encode(out, NDX_FLIST_OFFSET - next.ndx)
    this.#encoder.begin(lists.nextStart)
    await this.#content(next.entry)
    for (let same = this.#pending.at(-1); same?.entry.path === next.entry.path; same = this.#pending.at(-1)) {
      this.#pending.pop()
      await this.#content(same.entry)
    }
    this.#endList()
    this.#keep(next.entry)
    if (this.#pending.length === 0) this.#complete()
    this.#sayIncomplete()
    const wait = transfer.channel.relieve()
    if (wait !== undefined) await wait
  }

  #complete(): void {
    if (this.lists.complete) return
    this.codec.encode(this.transfer.channel.out, NDX_FLIST_EOF)
    this.lists.complete = true
    this.transfer.count.complete = true
  }

  #endList(): void {
    const { settings, ioError } = this.transfer
    this.#encoder.end(settings.ignoreErrors || ioError === this.#reported ? 0 : ioError)
  }

  /** Who cannot be told at a list's end is told by a message. */
  #sayIncomplete(): void {
    const { transfer } = this
    if (transfer.ioError === this.#reported || transfer.settings.ignoreErrors) return
    this.#reported = transfer.ioError
    transfer.sayIoError()
  }

  #keep(of: FileEntry | null): FileList {
    const { lists, transfer } = this
    const first = lists.directories.length
    const list = lists.add(this.#entries, of, true, of !== null)
    this.#entries = []
    transfer.count.listed += list.entries.length
    // The last one is listed next: what is in a directory comes before its neighbours.
    for (let ndx = lists.directories.length - 1; ndx >= first; ndx--) {
      const entry = lists.directories[ndx]
      if (entry.path !== '') this.#pending.push({ entry, ndx })
    }
    return list
  }

  // What was named

  async #argument(arg: Argument): Promise<void> {
    const { transfer } = this
    const { settings } = transfer
    const { tree, filters, path } = arg
    let stat: Stat
    let at: (Place & { release(): void }) | null = null
    try {
      if (!this.#trees.has(tree)) tree.enter()
      this.#trees.add(tree)
      at = tree.place(path)
      const follow = arg.asDirectory || settings.copyDirlinks || settings.copyLinks
      stat = follow
        ? this.#followed(tree, path, statAt(at.dir, at.name), settings.copyLinks || arg.asDirectory)
        : this.#lstat(at, path)
      if (this.#isForbidden(toldPath(tree, path), isDirectory(stat.mode))) throw new SystemError('stat', 2, 'ENOENT')
    } catch (error) {
      at?.release()
      return this.#missing(arg, error)
    }
    try {
      if (path !== '' && filters.hides(path, isDirectory(stat.mode))) return
      if (isDirectory(stat.mode) && !settings.recursive && !settings.dirs) {
        transfer.log.info(`skipping directory ${path === '' ? '.' : path}`)
        return
      }
      if (settings.oneFileSystem > 0) this.#devices.set(tree, stat.dev)
      if (settings.relative) this.#implied(arg)
      const entry = this.#entry(path, stat, at, arg)
      if (entry === null) return
      const fills = settings.recursive || (settings.dirs && arg.asDirectory)
      entry.topDir = isDirectory(entry.mode) && fills
      entry.hasContent = entry.topDir
      this.#send(entry)
      const now = path === '' || !this.lists.incRecurse
      if (entry.hasContent && now) await this.#content(entry, settings.recursive && !this.lists.incRecurse)
      const wait = transfer.channel.relieve()
      if (wait !== undefined) await wait
    } finally {
      at.release()
    }
  }

  #lstat(at: Place, path: RawPath): Stat {
    const stat = statAt(at.dir, at.name)
    return this.transfer.settings.fakeSuper ? fakeStat(at, stat, path) : stat
  }

  #followed(tree: SourceTree, path: RawPath, stat: Stat, always: boolean): Stat {
    if (!isSymlink(stat.mode)) return stat
    const target = tree.statFollowing(path)
    return always || isDirectory(target.mode) ? target : stat
  }

  #missing(arg: Argument, error: unknown): void {
    const { given, path } = arg
    const { transfer } = this
    const { settings } = transfer
    if (!(error instanceof SystemError)) throw error
    if (error.code === 'ENOENT' && settings.deleteMissingArgs) {
      if (settings.relative) this.#implied(arg)
      return this.#send(missing(path))
    }
    if (error.code === 'ENOENT' && settings.ignoreMissingArgs) return
    transfer.ioError |= IOERR.GENERAL
    transfer.fileError('link_stat', given, error)
  }

  /** -R: the directories on the way to what was named. */
  #implied({ tree, path, filters, dotted, named }: Argument): void {
    const above: RawPath[] = dotted ? ['' as RawPath] : []
    for (let dir = parent(path); dir !== ''; dir = parent(dir)) above.unshift(dir)
    for (const dir of above) {
      if (this.#impliedSent.has(dir)) continue
      this.#impliedSent.add(dir)
      try {
        const stat = tree.statFollowing(dir)
        const at = tree.place(dir)
        try {
          const entry = this.#entry(dir, stat, at, { tree, filters, named })
          if (entry === null) continue
          entry.implied = true
          this.#send(entry)
        } finally {
          at.release()
        }
      } catch (error) {
        if (!(error instanceof SystemError)) throw error
        this.transfer.ioError |= IOERR.GENERAL
        this.transfer.fileError('link_stat', dir, error)
      }
    }
  }
  readonly #impliedSent = new Set<string>()

  // What is in a directory

  /** Lists what is in `dir`; `deeply` also what is in the directories there. */
  async #content(dir: FileEntry, deeply = false): Promise<void> {
    const { channel } = this.transfer
    const pending = [dir]
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      if (!next.hasContent || next.state & STATE.MOUNT_DIR) continue
      const directories: FileEntry[] = []
      for (const entry of this.#directory(next)) {
        this.#encode(entry)
        ;(isDirectory(entry.mode) ? directories : this.#entries).push(entry)
        const wait = channel.relieve(LIST_BYTES)
        if (wait !== undefined) await wait
      }
      // So both ends number them: behind the files, and by their names with a slash.
      directories.sort((a, b) => (`${a.path}/` < `${b.path}/` ? -1 : 1))
      for (const entry of directories) {
        this.#entries.push(entry)
        if (deeply) pending.push(entry)
      }
    }
  }

  /** What is sent of what is in a directory, by the names. */
  #directory(dir: FileEntry): FileEntry[] {
    const { transfer } = this
    const origin = dir.origin as Origin
    const scope = origin.filters.in(dir.path)
    const hides = scope.hides.bind(scope)
    const make = (path: RawPath, stat: Stat, at: Place) =>
      at.name.length > NAME_MAX ? null : this.#found(path, stat, at, origin, hides)
    const failed = (error: FileError) => this.#fail(error)
    try {
      const entries = origin.tree.entries(dir.path, make, failed)
      if (entries !== null) return entries
      transfer.ioError |= IOERR.VANISHED
      transfer.log.warning(`directory has vanished: ${transfer.fullName(this.#told(dir.path, origin))}`)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      transfer.ioError |= IOERR.GENERAL
      transfer.fileError('opendir', this.#told(dir.path, origin), error.cause ?? error)
    }
    return []
  }

  #fail(error: FileError): void {
    const { transfer } = this
    transfer.ioError |= IOERR.GENERAL
    transfer.fileError('readlink_stat', error.path, error.cause ?? error)
  }

  /** A path as the machine, or the module, knows it. */
  #told(path: RawPath, { tree }: Origin): RawPath {
    return toldPath(tree, path)
  }

  /** flist.c make_file(): what is sent of a name, or null. */
  #found(path: RawPath, found: Stat, at: Place, origin: Origin, hides: (path: RawPath, directory: boolean) => boolean) {
    const { settings } = this.transfer
    let stat = found
    if (settings.fakeSuper) stat = fakeStat(at, stat, path)
    let followed = false
    if (isSymlink(stat.mode) && (settings.copyLinks || settings.copyUnsafeLinks || settings.copyDirlinks)) {
      const target = this.#referent(path, at, origin, hides)
      if (target === null) return null
      followed = target !== found
      if (followed) stat = target
    }
    const directory = isDirectory(stat.mode)
    if (this.#isForbidden(this.#told(path, origin), directory) || hides(path, directory)) return null
    const entry = this.#entry(path, stat, at, origin, followed)
    if (entry === null) return null
    if (directory && settings.recursive) {
      entry.hasContent = true
      const device = settings.oneFileSystem > 0 ? this.#devices.get(origin.tree) : undefined
      if (device !== undefined && stat.dev !== device) {
        if (settings.oneFileSystem > 1) return null
        entry.hasContent = false
        entry.state |= STATE.MOUNT_DIR
      }
    }
    return entry
  }

  /** What a symlink leads to, where the options want that instead; the link itself where not; null where it leads nowhere. */
  #referent(
    path: RawPath,
    at: Place,
    origin: Origin,
    hides: (path: RawPath, directory: boolean) => boolean,
  ): Stat | null {
    const { transfer } = this
    const { settings } = transfer
    const link = statAt(at.dir, at.name)
    const wanted =
      settings.copyLinks || (settings.copyUnsafeLinks && isUnsafeSymlink(readLinkAt(at.dir, at.name), path))
    if (!wanted && !settings.copyDirlinks) return link
    try {
      const target = origin.tree.statFollowing(path)
      return wanted || isDirectory(target.mode) ? target : link
    } catch (error) {
      if (!wanted) return link
      if (hides(path, false)) return null
      transfer.ioError |= IOERR.GENERAL
      transfer.failed = true
      if (error instanceof SystemError && error.code === 'ENOENT')
        transfer.log.fileError(`symlink has no referent: ${transfer.fullName(this.#told(path, origin))}`)
      else transfer.fileError('readlink_stat', path, error)
      return null
    }
  }

  #isForbidden(path: RawPath, directory: boolean): boolean {
    return this.options.forbidden(path, directory)
  }

  #entry(path: RawPath, stat: Stat, at: Place, origin: Origin, followed = false): FileEntry | null {
    const { settings, here } = this.transfer
    let target = ''
    if (isSymlink(stat.mode) && settings.links) {
      target = this.#target(at)
      if (target === '') {
        this.transfer.ioError |= IOERR.GENERAL
        this.transfer.failed = true
        this.transfer.log.fileError(`skipping symlink with 0-length value: ${this.transfer.fullName(path)}`)
        return null
      }
    }
    const entry = entryOf(path, stat, target)
    entry.origin = { ...originOf(origin), followed } satisfies Origin & { followed: boolean }
    if (!followed) entry.origin = originOf(origin)
    if (isSymlink(stat.mode) && !settings.links) entry.size = stat.size
    if (isDirectory(stat.mode)) entry.size = stat.size
    if (!settings.hardLinks) entry.linkGroup = ''
    if (this.#chmod.length > 0 && !isSymlink(entry.mode)) entry.mode = changeMode(this.#chmod, entry.mode, here.umask)
    if (settings.checksum && isRegular(entry.mode)) entry.sum = this.#sum(entry, followed)
    if (settings.acls || settings.xattrs > 0) return this.#withAttributes(entry, stat, at)
    return entry
  }

  #target(at: Place): string {
    const fake = this.transfer.settings.fakeSuper && isFaked(statAt(at.dir, at.name).mode) === false
    const target = fake ? this.#fakeTarget(at) : readLinkAt(at.dir, at.name)
    const munged = this.options.mungeSymlinks && target.startsWith(MUNGE_PREFIX)
    return munged ? target.slice(MUNGE_PREFIX.length) : target
  }

  /** --fake-super: a plain file that passes for a symlink holds its target. */
  #fakeTarget(at: Place): string {
    const fd = openAt(at.dir, at.name, 0)
    try {
      return readFakeTarget(fd)
    } finally {
      close(fd)
    }
  }

  #withAttributes(entry: FileEntry, stat: Stat, at: Place): FileEntry | null {
    const { settings } = this.transfer
    try {
      if (settings.acls && !isSymlink(stat.mode)) entry.acl = readAcls(at, stat.mode, this.#power, entry.path)
      if (settings.xattrs > 0) entry.xattrs = readXattrs(at, this.#xattrRules)
      return entry
    } catch (error) {
      if (!(error instanceof SystemError || error instanceof FileError)) throw error
      this.transfer.ioError |= IOERR.GENERAL
      this.transfer.fileError('get attributes of', entry.path, error)
      return null
    }
  }

  #sum(entry: FileEntry, followed: boolean): Buffer | null {
    const { tree } = entry.origin as Origin
    const { sums } = this.transfer
    try {
      const fd = followed ? tree.openFollowing(entry.path) : tree.open(entry.path)
      try {
        return readSums(fd, entry.size, sums.list?.digest ?? sums.file)
      } finally {
        close(fd)
      }
    } catch (error) {
      if (!(error instanceof FileError || error instanceof SystemError)) throw error
      return null // an unreadable file is told of when it is to be sent
    }
  }

  #send(entry: FileEntry): void {
    this.#encode(entry)
    this.#entries.push(entry)
  }

  #encode(entry: FileEntry): void {
    const { transfer } = this
    if (!this.lists.incRecurse && !transfer.settings.numericIds) {
      if (transfer.settings.owner) this.#ids.userName(entry.uid)
      if (transfer.settings.group) this.#ids.groupName(entry.gid)
    }
    this.#encoder.encode(entry)
    count(transfer, entry)
  }
}

/** A path as the machine, or the module, knows it. */
export function toldPath(tree: SourceTree, path: RawPath): RawPath {
  const base = tree.path === '.' ? '' : tree.path.replace(/(?<=.)\/+(?:\.\/*)?$/, '')
  return join(base as RawPath, path)
}

/** One object for all entries of a source. */
const origins = new WeakMap<SourceTree, Origin>()
function originOf({ tree, filters, named }: Origin): Origin {
  const known = origins.get(tree)
  if (known !== undefined && known.filters === filters) return known
  const origin = { tree, filters, named }
  origins.set(tree, origin)
  return origin
}
