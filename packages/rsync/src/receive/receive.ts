import { AclCodec } from '../attributes/acl.js'
import { XattrCodec } from '../attributes/xattr.js'
import { changeMode } from '../chmod.js'
import { Destination } from '../disk/destination.js'
import { baseOf, ModuleRoot, parentOf, type Root } from '../disk/root.js'
import { sanitizePath } from '../disk/sanitize.js'
import { ProtocolError, TransferError } from '../errors.js'
import { type Annex, FlistDecoder, type FlistFormat, receiveIds } from '../flist/codec.js'
import { type FileEntry, isDevice, isDirectory, isRegular, isSpecial, isSymlink, STATE } from '../flist/entry.js'
import { Ids } from '../flist/ids.js'
import { FileLists } from '../flist/lists.js'
import { SystemError } from '../kernel.js'
import { fromBytes, type RawPath } from '../raw-path.js'
import { allowsIncRecurse } from '../server-options.js'
import type { ChmodRule } from '../settings.js'
import { type Here, IOERR, reasonOf, type Transfer } from '../transfer.js'
import { CF, MSG, NDX_FLIST_EOF, NDX_FLIST_OFFSET, RERR } from '../wire/constants.js'
import type { Cursor } from '../wire/cursor.js'
import { NdxCodec } from '../wire/ndx.js'
import { Attributes, powerOf } from './attributes.js'
import { Backup } from './backup.js'
import { Deleter } from './deleter.js'
import { Generator } from './generator.js'
import { LinkGroups } from './link-groups.js'
import type { Protection } from './protection.js'
import { Receiver } from './receiver.js'
import { Receiving } from './receiving.js'
import { tokenSource } from './tokens.js'

/** What the receiver of `rsync://host/module/` puts before a symlink's target where the module munges them. */
export const MUNGE_PREFIX = '/rsyncd-munged/'

export interface ReceiveOptions {
  root: Root
  /** Where it goes, as given; null only lists. */
  destination: RawPath | null
  /** What is not to be deleted, listed or not. */
  protection: Protection
  forbidden: (path: RawPath, directory: boolean) => boolean
  /** Whether the sender may send this name; a client asks for names, and believes no others. */
  expected: (path: RawPath, directory: boolean) => Expectation
  incomingChmod: readonly ChmodRule[]
  mungeSymlinks: boolean
  /** A module's `numeric ids`. */
  numericIds: boolean
  /** Symlinks that lead out of the module are made to stay in it. */
  sanitizes: boolean
  /** Where nothing may be written: what would be is said to have been (--list-only). */
  onListed?: (entry: FileEntry) => void
  /** The first list, or all of it, has come. */
  onFirstList?: () => void
  /** Reads what a sending server says that it has moved. */
  receiveStats: (() => Promise<void>) | undefined
  tellsDeletions: boolean
}

/** What was asked for, or on the way to it (-R), or neither. */
export type Expectation = 'asked' | 'above' | 'unasked'

/** The receiving end of a transfer, from the first list to the goodbye. Throws what ends a session. */
export async function receive(transfer: Transfer, options: ReceiveOptions): Promise<void> {
  const incoming = new IncomingLists(transfer, options)
  // What is not listed is deleted: where that happens at once for all, all must be listed first.
  if (
    incoming.lists.incRecurse &&
    !allowsIncRecurse({ ...transfer.settings, recursive: true, incRecursive: true }, true)
  )
    throw new ProtocolError('compatibility flags', 'incremental recursion with an option that needs the whole list')
  try {
    await received(transfer, incoming, options)
  } finally {
    incoming.lists.release()
  }
}

async function received(transfer: Transfer, incoming: IncomingLists, options: ReceiveOptions): Promise<void> {
  await incoming.first()
  options.onFirstList?.()
  if (incoming.isEmpty) return // a sender with nothing to send has gone already
  if (options.destination === null) return list(transfer, incoming, options)
  const receiving = prepared(transfer, incoming, options)
  const { tree } = receiving
  transfer.here.role = 'generator'
  try {
    await both(receiving, incoming, options)
  } finally {
    tree.close()
    for (const alternate of receiving.alternates) alternate.close()
    receiving.partials?.close()
    receiving.temporaries?.close()
    receiving.backup?.close()
  }
}

/** The generator and the receiver, at once; what ends one ends the other. */
async function both(receiving: Receiving, incoming: IncomingLists, options: ReceiveOptions): Promise<void> {
  const { transfer } = receiving
  receiving.tellsDeletions = options.tellsDeletions
  incoming.attach(receiving)
  const { channel } = transfer
  const before = channel.onMessage
  channel.onMessage = (tag, payload) => {
    if (tag !== MSG.NO_SEND || payload.length !== 4) return before?.(tag, payload) ?? false
    receiving.report(payload.readInt32LE(), 'failed')
    return true
  }
  const receiver = new Receiver(
    receiving,
    tokenSource(transfer),
    incoming.codec,
    (directory) => incoming.further(directory),
    incoming.xattrs,
    options.receiveStats,
  )
  const received = receiver.run().catch((error: unknown) => {
    receiving.fail(error)
    channel.interrupt(error as Error) // the generator may be waiting for room, which nobody makes any more
    throw error
  })
  received.catch(() => undefined) // it is waited for below, whatever the generator does
  try {
    await new Generator(receiving).run()
    await received
  } catch (error) {
    transfer.channel.abort(error as Error)
    await received.catch(() => undefined)
    throw error
  } finally {
    channel.onMessage = before
  }
}

/** Without a destination the lists are only shown; the sender is told that nothing is wanted. */
async function list(transfer: Transfer, incoming: IncomingLists, options: ReceiveOptions): Promise<void> {
  const receiving = unwritten(transfer, incoming, options)
  await both(receiving, incoming, options)
}

/** flist.c recv_file_list(): takes the lists of a transfer off the channel, and checks every name. */
class IncomingLists {
  readonly lists: FileLists
  readonly codec = new NdxCodec()
  readonly xattrs: XattrCodec | null
  readonly #acls: AclCodec | null
  readonly #decoder: FlistDecoder
  readonly #decode: (c: Cursor) => ReturnType<FlistDecoder['decode']>
  readonly #ids: Ids
  #receiving: Receiving | undefined

  constructor(
    readonly transfer: Transfer,
    readonly options: ReceiveOptions,
  ) {
    const { settings, agreement, here } = transfer
    const incRecurse = (agreement.compatFlags & CF.INC_RECURSE) !== 0
    this.lists = new FileLists(incRecurse)
    this.#ids = new Ids(here.root || settings.fakeSuper, options.numericIds)
    const power = powerOf(transfer)
    this.#acls = settings.acls ? new AclCodec({ power, ids: settings.numericIds ? null : this.#ids, incRecurse }) : null
    this.xattrs = settings.xattrs > 0 ? new XattrCodec({ power, sender: false, all: settings.xattrs > 1 }) : null
    const annexes = [this.#acls, this.xattrs].filter((annex): annex is AclCodec | XattrCodec => annex !== null)
    this.#decoder = new FlistDecoder(
      flistFormat(transfer, annexes, incRecurse && !settings.numericIds ? this.#ids : undefined),
    )
    this.#decode = (c) => this.#decoder.decode(c)
  }

  /** Nothing will come, and who sends is not there any more. */
  get isEmpty(): boolean {
    return !this.transfer.here.server && this.lists.active.every(({ entries }) => entries.length === 0)
  }

  attach(receiving: Receiving): void {
    this.#receiving = receiving
  }

  /** The first list, and the second where the first has one entry: whether it is alone decides where it goes. */
  async first(): Promise<void> {
    const { lists, transfer } = this
    await this.#read(null)
    if (!lists.incRecurse) {
      lists.complete = true
      return
    }
    if (lists.active[0].entries.length !== 1) return
    const ndx = await transfer.channel.receive('file index', (c) => this.codec.decode(c))
    if (ndx === NDX_FLIST_EOF) lists.complete = true
    else if (ndx <= NDX_FLIST_OFFSET) await this.further(NDX_FLIST_OFFSET - ndx)
    else throw new ProtocolError('file index', `${ndx}, where a list was due`)
  }

  /** The list of what is in the directory with this index. */
  async further(directory: number): Promise<void> {
    const parent = this.lists.directories[directory]
    if (parent === undefined) throw new ProtocolError('directory index', `${directory} is in no list`)
    await this.#read(parent)
    this.#receiving?.wake()
  }

  async #read(parent: FileEntry | null): Promise<void> {
    const { lists, transfer, options } = this
    const { channel, settings } = transfer
    const before = channel.bytesRead
    this.#decoder.begin(lists.nextStart)
    const entries: FileEntry[] = []
    for (;;) {
      const entry = channel.tryReceive(this.#decode) ?? (await channel.receive('file list', this.#decode))
      if ('end' in entry) {
        if (!settings.ignoreErrors) transfer.ioError |= entry.ioError & (IOERR.GENERAL | IOERR.VANISHED)
        break
      }
      this.#check(entry, parent)
      if (!channel.own) lists.hold(entry)
      if (settings.chmod.length > 0 && !isSymlink(entry.mode))
        entry.mode = changeMode(settings.chmod, entry.mode, transfer.here.umask)
      if (options.sanitizes && !options.mungeSymlinks && isSymlink(entry.mode))
        entry.target = sanitizePath(entry.target, entry.path.split('/').length - 1)
      if (options.mungeSymlinks && isSymlink(entry.mode)) entry.target = MUNGE_PREFIX + entry.target
      entries.push(entry)
      count(transfer, entry)
    }
    if (!lists.incRecurse && !settings.numericIds) await this.#readIds(entries)
    const added = lists.add(entries, parent, false, parent !== null && !settings.relative)
    if (settings.relative)
      for (const entry of added.entries) if (entry !== null) entry.path = entry.path.replace(/^\/+/, '') as RawPath
    if (settings.pruneEmptyDirs) prune(added.entries)
    this.#receiving?.links?.add(added.entries)
    transfer.stats.flistBytes += channel.bytesRead - before
    transfer.count.listed += added.entries.length
    transfer.count.complete = lists.complete
  }

  /** A name that nobody asked for, or that is not in the directory that it is said to be in, ends the session. */
  #check(entry: FileEntry, parent: FileEntry | null): void {
    const { path, mode } = entry
    const { settings } = this.transfer
    if (!isKnownType(mode) && !(mode === 0 && settings.deleteMissingArgs))
      throw new ProtocolError('file list', `${path} has the mode ${mode.toString(8)}`)
    if (path === '' && !isDirectory(mode)) throw new ProtocolError('file list', 'the root is no directory')
    const within = parent === null || settings.relative || isIn(path, parent.path)
    const bare = path.startsWith('/') ? (path.replace(/^\/+/, '') as RawPath) : path
    const expected = within ? this.options.expected(bare, isDirectory(mode)) : 'unasked'
    if (expected === 'asked') return
    if (expected === 'above' && isDirectory(mode)) {
      // Only the way to what was asked for: what else is in it here is none of the sender's business.
      entry.hasContent = false
      entry.topDir = false
      entry.implied = true
      return
    }
    throw new ProtocolError('file list', `rejecting unrequested file-list name: ${path}`)
  }

  async #readIds(entries: readonly FileEntry[]): Promise<void> {
    const { settings, agreement, channel } = this.transfer
    const withZero = (agreement.compatFlags & CF.ID0_NAMES) !== 0
    const acls = settings.acls
    if (settings.owner || acls) await receiveIds(channel, withZero, (id, name) => void this.#ids.user(id, name))
    if (settings.group || acls) await receiveIds(channel, withZero, (id, name) => void this.#ids.group(id, name))
    for (const entry of entries) {
      if (settings.owner) entry.uid = this.#ids.user(entry.uid, '')
      if (settings.group) entry.gid = this.#ids.group(entry.gid, '')
    }
    this.#acls?.mapIds()
  }
}

/** How entries look on the wire, for either end. */
export function flistFormat(transfer: Transfer, annexes: readonly Annex[], ids: Ids | undefined): FlistFormat {
  const { settings, agreement, sums } = transfer
  const format: FlistFormat = {
    protocol: agreement.protocol,
    varintFlags: (agreement.compatFlags & CF.VARINT_FLIST_FLAGS) !== 0,
    safeFlist: (agreement.compatFlags & CF.SAFE_FLIST) !== 0,
    keeps: {
      users: settings.owner,
      groups: settings.group,
      devices: settings.devices,
      specials: settings.specials,
      links: settings.links,
    },
    checksumLength: settings.checksum ? (sums.list?.length ?? sums.length) : 0,
    relative: settings.relative,
    annexes,
  }
  return ids === undefined ? format : { ...format, ids }
}

const isKnownType = (mode: number) =>
  isRegular(mode) || isDirectory(mode) || isSymlink(mode) || isDevice(mode) || isSpecial(mode)

const isIn = (path: RawPath, dir: RawPath) => {
  const slash = path.lastIndexOf('/')
  return (slash < 0 ? '' : path.slice(0, slash)) === dir
}

export function count({ stats }: Transfer, { mode, size }: FileEntry): void {
  stats.files++
  if (isRegular(mode)) {
    stats.regular++
    stats.totalSize += size
  } else if (isDirectory(mode)) stats.directories++
  else if (isSymlink(mode)) {
    stats.symlinks++
    stats.totalSize += size
  } else if (isDevice(mode)) stats.devices++
  else if (isSpecial(mode)) stats.specials++
}

/** --prune-empty-dirs: directories below which nothing is listed. */
function prune(entries: (FileEntry | null)[]): void {
  const full = new Set<string>()
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i]
    if (entry === null) continue
    if (isDirectory(entry.mode) && !full.has(entry.path)) {
      entries[i] = null
      continue
    }
    for (let slash = entry.path.lastIndexOf('/'); slash >= 0; slash = entry.path.lastIndexOf('/', slash - 1))
      full.add(entry.path.slice(0, slash))
    full.add('')
  }
}

interface Target {
  tree: Destination
  /** The tree's path, as the root takes it. */
  base: RawPath
  localName: RawPath | null
  nothingThere: boolean
}

function prepared(transfer: Transfer, incoming: IncomingLists, options: ReceiveOptions): Receiving {
  const opened: Destination[] = []
  try {
    return prepare(transfer, incoming, options, opened)
  } catch (error) {
    for (const one of opened) one.close()
    if (!(error instanceof SystemError)) throw error
    throw new TransferError(`rsync: [${transfer.here.role}] ${error.message}`, RERR.FILEIO)
  }
}

/** Opens all that will be written, and all that it will be compared with, and adds it to `opened`. */
function prepare(
  transfer: Transfer,
  incoming: IncomingLists,
  options: ReceiveOptions,
  opened: Destination[],
): Receiving {
  const { settings } = transfer
  const { root } = options
  const target = openDestination(transfer, incoming.lists, options)
  const { tree } = target
  opened.push(tree)
  const elsewhere = (path: string) => whereabouts(root, target, path as RawPath)
  const alternates = (settings.alternates?.dirs ?? []).flatMap((dir) => openAlternate(transfer, elsewhere(dir)))
  opened.push(...alternates)
  const { partialDir } = settings
  const backupDir = settings.backupDir === null ? null : root.option(settings.backupDir as RawPath)
  const tempDir = settings.tempDir === null ? null : root.option(settings.tempDir as RawPath)
  if (backupDir !== null) backupDirCanBe(elsewhere(backupDir), backupDir)
  const openBackup = backupDir === null ? null : () => makeAndOpen(elsewhere(backupDir))
  const backup = settings.backup ? new Backup(transfer, tree, openBackup) : null
  const partials = partialDir?.startsWith('/') ? makeAndOpen(elsewhere(partialDir)) : null
  if (partials !== null) opened.push(partials)
  return assemble(transfer, incoming, options, target, {
    backup,
    alternates,
    partials,
    temporaries: tempDir === null ? null : openTemporary(elsewhere(tempDir), tempDir),
  })
}

/** A directory that an option names. */
interface Elsewhere {
  root: Root
  path: RawPath
  /** As it is told. */
  told: RawPath
}

/**
 * What an option names within the destination is not looked for outside of it, whatever somebody who can write there has
 * made of it meanwhile. What leads elsewhere is the operator's.
 */
function whereabouts(root: Root, { tree, base, nothingThere }: Target, path: RawPath): Elsewhere {
  const told = root.resolve(base, path)
  if (nothingThere || path.startsWith('/') || path.split('/').includes('..')) return { root, path: told, told }
  const inside = new ModuleRoot(tree.root)
  return { root: inside, path: inside.resolve('' as RawPath, path), told }
}

/** main.c do_recv(): a backup directory may be missing until it is needed, but not be something else. */
function backupDirCanBe({ root, path }: Elsewhere, given: RawPath): void {
  const stat = root.stat(path)
  if (stat !== null && !isDirectory(stat.mode))
    throw new TransferError(`The backup-dir is not a directory: ${given}`, RERR.SYNTAX)
}

interface Others {
  backup: Backup | null
  alternates: Destination[]
  partials: Destination | null
  temporaries: Destination | null
}

function assemble(
  transfer: Transfer,
  incoming: IncomingLists,
  options: ReceiveOptions,
  { tree, localName, nothingThere }: Target,
  { backup, alternates, partials, temporaries }: Others,
): Receiving {
  const links = transfer.settings.hardLinks ? new LinkGroups() : null
  for (const list of incoming.lists.active) links?.add(list.entries)
  return new Receiving(
    transfer,
    tree,
    incoming.lists,
    new Attributes(transfer, options.incomingChmod),
    new Deleter(transfer, tree, options.protection, backup),
    backup,
    links,
    alternates,
    partials,
    temporaries,
    localName,
    options.forbidden,
    nothingThere,
    options.onListed,
  )
}

/** For --list-only: nothing is opened, nothing is there. */
function unwritten(transfer: Transfer, incoming: IncomingLists, options: ReceiveOptions): Receiving {
  const target = { tree: new Destination(-1), base: '' as RawPath, localName: null, nothingThere: true }
  const none = { backup: null, alternates: [], partials: null, temporaries: null }
  return assemble(transfer, incoming, options, target, none)
}

function openTemporary({ root, path }: Elsewhere, given: string): Destination {
  const stat = root.stat(path)
  const problem = stat === null ? 'does not exist' : isDirectory(stat.mode) ? null : 'is not a directory'
  if (problem !== null) throw new TransferError(`The temp-dir ${problem}: ${given}`, RERR.SYNTAX)
  return new Destination(root.open(path))
}

function openAlternate(transfer: Transfer, { root, path, told }: Elsewhere): Destination[] {
  const { log, settings } = transfer
  const option = `--${settings.alternates?.kind}-dest`
  const stat = root.stat(path)
  if (stat === null) log.warning(`${option} arg does not exist: ${told}`)
  else if (!isDirectory(stat.mode)) log.warning(`${option} arg is not a dir: ${told}`)
  else return [new Destination(root.open(path))]
  return []
}

function makeAndOpen({ root, path }: Elsewhere): Destination {
  const missing: RawPath[] = []
  for (let at = path; root.stat(at) === null && at !== '' && at !== '/' && at !== '.'; at = parentOf(at))
    missing.unshift(at)
  for (const at of missing) root.makeDirectory(at, 0o777 & ~process.umask())
  return new Destination(root.open(path))
}

/** main.c get_local_name(): a directory to fill, or the name that a single file gets. */
function openDestination(transfer: Transfer, lists: FileLists, { root, destination }: ReceiveOptions): Target {
  const { settings, here, log } = transfer
  const path = (destination === null || destination === '' ? '.' : destination) as RawPath
  const total = lists.active.reduce((sum, { entries }) => sum + entries.filter((entry) => entry !== null).length, 0)
  const first = lists.active[0]?.entries.find((entry) => entry !== null) ?? null
  const resolved = root.resolve('' as RawPath, path)
  const stat = root.stat(resolved)
  if (stat === null) parentIsDirectory(transfer, root, resolved, path)
  if (stat !== null && isDirectory(stat.mode)) return opened(transfer, root, resolved, null)
  if (stat !== null) {
    if (total > 1)
      throw new TransferError('ERROR: destination must be a directory when copying more than 1 file', RERR.FILESELECT)
    if (first !== null && isDirectory(first.mode))
      throw new TransferError('ERROR: cannot overwrite non-directory with a directory', RERR.FILESELECT)
  }
  if (total > 1 || path.endsWith('/')) {
    if (stat !== null) throw new TransferError('ERROR: destination path is not a directory', RERR.SYNTAX)
    const tells = settings.verbose > 0 || settings.itemize > 0 || settings.progress === 'file'
    const say = () => {
      if (tells) log.info(`created directory ${path.replace(/(?<=.)\/+$/, '')}`)
    }
    if (settings.dryRun) say()
    if (settings.dryRun) return { tree: new Destination(-1), base: resolved, localName: null, nothingThere: true }
    try {
      if (settings.mkpath) makePath(transfer, root, parentOf(resolved))
      root.makeDirectory(resolved, 0o777 & ~here.umask)
    } catch (error) {
      throw new TransferError(
        `rsync: [Receiver] mkdir ${transfer.fullName(path.replace(/(?<=.)\/+$/, ''))} failed: ${reasonOf(error)}`,
        RERR.FILEIO,
      )
    }
    if (first !== null && first.path === '') first.state |= STATE.DIR_CREATED
    say()
    return opened(transfer, root, resolved, null)
  }
  if (settings.mkpath && !settings.dryRun) makePath(transfer, root, parentOf(resolved))
  return opened(transfer, root, parentOf(resolved), baseOf(resolved))
}

/** Below a file nothing can be made: stock rsync finds out when it looks at the destination. */
function parentIsDirectory(transfer: Transfer, root: Root, resolved: RawPath, path: RawPath): void {
  const parent = root.stat(parentOf(resolved))
  if (parent === null || isDirectory(parent.mode)) return
  const problem = `cannot stat destination ${transfer.fullName(path)}: Not a directory (20)`
  throw new TransferError(`rsync: [Receiver] ERROR: ${problem}`, RERR.FILESELECT)
}

/** --mkpath */
function makePath(transfer: Transfer, root: Root, path: RawPath): void {
  const missing: RawPath[] = []
  for (let at = path; at !== '.' && at !== '/' && at !== '' && root.stat(at) === null; at = parentOf(at))
    missing.unshift(at)
  for (const at of missing) root.makeDirectory(at, 0o777 & ~transfer.here.umask)
}

function opened(transfer: Transfer, root: Root, base: RawPath, localName: RawPath | null): Target {
  try {
    const tree = new Destination(root.open(base), transfer.settings.keepDirlinks)
    const { here } = transfer
    here.base = baseTold(here, base)
    return { tree, base, localName, nothingThere: false }
  } catch (error) {
    throw new TransferError(
      `rsync: [Receiver] change_dir#${localName === null ? 1 : 3} ${transfer.fullName(base)} failed: ${reasonOf(error)}`,
      RERR.FILESELECT,
    )
  }
}

/** What the names of a transfer begin with where they are told: `base` is its destination. */
export const baseTold = (here: Here, base: RawPath): string =>
  here.module === '' ? absolute(base) : `${here.top}${base}`.replace(/(?<=.)\/$/, '')

function absolute(path: RawPath): string {
  if (path.startsWith('/')) return path.length > 1 ? path.replace(/\/+$/, '') : path
  const cwd = fromBytes(Buffer.from(process.cwd()))
  return path === '.' || path === '' ? cwd : `${cwd}/${path.replace(/\/+$/, '')}`
}
