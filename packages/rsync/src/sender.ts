import type { Xattr } from './attributes/xattr.js'
import type { Channel } from './channel.js'
import { BlockSearch, type BlockSums } from './delta/search.js'
import type { Sums } from './digest.js'
import { FileError, ProtocolError } from './errors.js'
import { type FileEntry, isRegular, linkGroupOf, STATE } from './flist/entry.js'
import type { SourceTree } from './flist/source.js'
import { close, readAt, type Stat, SystemError, statAt } from './kernel.js'
import { Share } from './memory-budget.js'
import type { RawPath } from './raw-path.js'
import { AHEAD_BYTES, AHEAD_FROM, ReadAhead } from './read-ahead.js'
import type { Moved } from './transfer.js'
import { FNAMECMP, ITEM, MSG, NDX_DEL_STATS, NDX_DONE } from './wire/constants.js'
import { type Cursor, within } from './wire/cursor.js'
import { NdxCodec } from './wire/ndx.js'
import { decodeSumHead, encodeSumHead, type SumHead } from './wire/sum-head.js'
import type { TokenEncoder } from './wire/token.js'

const READ_BYTES = 1 << 17
const XNAME_MAX = 4096
const LAST_PHASE = 2

/** What became of the files of one list. */
export interface SenderReport {
  /** Files that could not be read, or were gone. */
  failed: FileError[]
  /** Files that changed while they were read: what arrived is torn and must be sent again. */
  changed: RawPath[]
  /** Files that `defer` put off. */
  deferred: RawPath[]
  /** Names whose content was sent. */
  sent: number
  literalBytes: number
  matchedBytes: number
  /** What the search for the receiver's blocks met: blocks found, places with the weak sum of one, and those in vain. */
  search: { matches: number; hits: number; falseAlarms: number }
}

export interface SenderOptions {
  protocol: number
  sums: Sums
  /** For each file: names say which are not worth compressing. */
  tokens: (entry: FileEntry) => TokenEncoder
  dryRun: boolean
  /** Told each item that the receiver reports: what it would change, or has changed. */
  onItem?: ((entry: FileEntry, iflags: number) => void) | undefined
  /** True for a file whose content shall not go with this list; the receiver is told that none will come. */
  defer?: ((entry: FileEntry) => boolean) | undefined
  /** Send every regular file before it is asked for; see TransferOptions. */
  ahead: boolean
  /** What a transfer by rsync's own options needs; a mirror does without. */
  general?: GeneralOptions
}

/** What rsync's options ask of a sender beyond what a mirror uses. */
export interface GeneralOptions {
  /** --append: only what follows the receiver's copy is sent; with `verify` all of it is summed up. */
  append: false | 'append' | 'verify'
  /** --inplace: a block may only come from behind what the receiver has already written over. */
  inplace: boolean
  /** The long extended attributes that an item asks for are read from where the entry was found. */
  xattrs: ((entry: FileEntry, iflags: number) => XattrAnswer | null) | undefined
  /** Its content is about to go, has gone on, or is complete. */
  onProgress?: ((entry: FileEntry, offset: number, done: boolean) => void) | undefined
  /** Told after the content has gone, or at once where none goes. */
  onItem: (entry: FileEntry, iflags: number, linkName: string, moved: Moved) => void
  onBegin: (entry: FileEntry, iflags: number, linkName: string) => void
  onFailure: (error: FileError, entry: FileEntry) => void
  /** Between the phases and the goodbye a server that sends says what it has moved. */
  sendStats: (() => void) | undefined
  /** How many names the receiver has deleted, by kind. */
  onDeleteStats: (counts: readonly number[]) => void
}

/** The answer to a request for extended attributes: what was asked for is read first, then the values go. */
export interface XattrAnswer {
  decode(c: Cursor): Xattr[]
  write(): void
}

/** The lists that a sender answers for. */
export interface Outgoing {
  /** Throws ProtocolError for an index that is in no list. */
  entryAt(ndx: number): FileEntry
  /** Lists more of what is to be sent, before the next request is read. */
  more?(): Promise<void> | undefined
  /** The receiver has done with a list; true when there is another. */
  listDone?(): boolean
}

const NOTHING = { literal: 0, matched: 0 }

const NO_BLOCKS: BlockSums = {
  head: { count: 0, blockLength: 0, s2Length: 0, remainder: 0 },
  weak: new Uint32Array(0),
  strong: Buffer.alloc(0),
}

interface Request {
  iflags: number
  basisType: number
  xname: Buffer | null
  xattrs: XattrAnswer | null
  /** How the receiver's own copy is cut into blocks; null when no content is asked for. */
  head: SumHead | null
}

/** sender.c send_files(): answers the generator's requests, one file at a time, until both have nothing left. */
export async function sendFiles(
  channel: Channel,
  source: SourceTree,
  entries: readonly FileEntry[],
  options: SenderOptions,
): Promise<SenderReport> {
  const entryAt = (ndx: number) => {
    within('file index', ndx, 0, entries.length - 1)
    return entries[ndx]
  }
  const sender = new Sender(channel, source, { entryAt }, new NdxCodec(), options)
  await sender.run(entries)
  return sender.report
}

/** The same for lists that grow while they are worked on; `codec` is the one that their own indexes go by. */
export async function sendLists(
  channel: Channel,
  outgoing: Outgoing,
  codec: NdxCodec,
  options: SenderOptions,
): Promise<SenderReport> {
  const sender = new Sender(channel, null, outgoing, codec, options)
  await sender.run([])
  return sender.report
}

class Sender {
  readonly report: SenderReport = {
    failed: [],
    changed: [],
    deferred: [],
    sent: 0,
    literalBytes: 0,
    matchedBytes: 0,
    search: { matches: 0, hits: 0, falseAlarms: 0 },
  }
  readonly #input = new NdxCodec()
  readonly #decodeNdx = (c: Cursor) => this.#input.decode(c)
  readonly #sentAhead = new Set<number>()
  #ahead = false

  constructor(
    readonly channel: Channel,
    readonly source: SourceTree | null,
    readonly outgoing: Outgoing,
    readonly output: NdxCodec,
    readonly options: SenderOptions,
  ) {}

  async run(entries: readonly FileEntry[]): Promise<void> {
    const { channel, outgoing } = this
    if (this.options.ahead) await this.#sendAhead(entries)
    for (let phase = 0; phase <= LAST_PHASE; ) {
      const listing = outgoing.more?.()
      if (listing !== undefined) await listing
      const ndx = channel.tryReceive(this.#decodeNdx) ?? (await channel.receive('file index', this.#decodeNdx))
      if (ndx === NDX_DONE) {
        if (outgoing.listDone?.() !== true) phase++
        this.output.encode(channel.out, NDX_DONE)
      } else if (ndx === NDX_DEL_STATS) await this.#deleteStats()
      else {
        const wait = this.#serve(ndx, phase)
        if (wait !== undefined) await wait
      }
    }
    this.options.general?.sendStats?.()
    await this.#finalGoodbye()
  }

  /** Returns a promise only when the caller has to wait: most files are small, and a promise for each is not free. */
  #serve(ndx: number, phase: number): Promise<void> | undefined {
    const { channel } = this
    const entry = this.outgoing.entryAt(ndx)
    const request = channel.tryReceive(decodeRequest)
    if (request !== undefined) return this.#serveRequest(ndx, entry, phase, request)
    return channel.receive('item flags', decodeRequest).then((late) => this.#serveRequest(ndx, entry, phase, late))
  }

  #serveRequest(ndx: number, entry: FileEntry, phase: number, request: Request): Promise<void> | undefined {
    const xattrs = this.options.general?.xattrs?.(entry, request.iflags) ?? null
    if (xattrs === null) return this.#serveItem(ndx, entry, phase, request)
    return this.#serveXattrs(ndx, entry, phase, request, xattrs)
  }

  async #serveXattrs(
    ndx: number,
    entry: FileEntry,
    phase: number,
    request: Request,
    xattrs: XattrAnswer,
  ): Promise<void> {
    const items = await this.channel.receive('attribute request', (c) => xattrs.decode(c))
    for (const item of items) item.asked = true
    await this.#serveItem(ndx, entry, phase, { ...request, xattrs })
  }

  #serveItem(ndx: number, entry: FileEntry, phase: number, request: Request): Promise<void> | undefined {
    const { channel, options } = this
    if (request.iflags & ITEM.TRANSFER && !options.dryRun) {
      const head = channel.tryReceive(this.#decodeHead)
      if (head !== undefined) return this.#serveContent(ndx, entry, phase, request, head)
      return channel
        .receive('sum head', this.#decodeHead)
        .then((late) => this.#serveContent(ndx, entry, phase, request, late))
    }
    options.onItem?.(entry, request.iflags)
    options.general?.onItem(entry, request.iflags, request.xname?.toString('latin1') ?? '', NOTHING)
    this.output.encode(channel.out, ndx)
    encodeRequest(channel.out, request)
    return channel.relieve()
  }
  readonly #decodeHead = (c: Cursor) => decodeSumHead(c, this.options.sums.length)

  #serveContent(
    ndx: number,
    entry: FileEntry,
    phase: number,
    request: Request,
    head: SumHead,
  ): Promise<void> | undefined {
    const { options } = this
    options.onItem?.(entry, request.iflags)
    if (!isRegular(entry.mode)) {
      throw new ProtocolError('file index', `${ndx} is no regular file, yet its content is asked for`)
    }
    if (phase === LAST_PHASE) throw new ProtocolError('file index', 'content is asked for in the last phase')
    const again = (entry.state & STATE.SENT) !== 0
    const asked = { ...request, head }
    if (head.count > 0 && (options.general === undefined || options.general.append === false || again))
      return this.#answerWithBlocks(ndx, entry, asked, head, phase)
    if (this.#hasGoneAhead(ndx, phase)) return undefined
    return this.#answer(ndx, entry, asked, { ...NO_BLOCKS, head })
  }

  /** The generator asks for what has gone ahead, too; when it asks in a later phase, that did not arrive well. */
  #hasGoneAhead(ndx: number, phase: number): boolean {
    return phase === 0 && this.#sentAhead.delete(ndx)
  }

  async #answerWithBlocks(
    ndx: number,
    entry: FileEntry,
    request: Request,
    head: SumHead,
    phase: number,
  ): Promise<void> {
    const share = new Share('block sums')
    try {
      const blocks = await readBlocks(this.channel, head, share)
      if (!this.#hasGoneAhead(ndx, phase)) await this.#answer(ndx, entry, request, blocks)
    } finally {
      share.release()
    }
  }

  async #deleteStats(): Promise<void> {
    const counts: number[] = []
    for (let i = 0; i < 5; i++) counts.push(await this.channel.receive('deletion counts', (c) => c.varint()))
    this.options.general?.onDeleteStats(counts)
  }

  async #sendAhead(entries: readonly FileEntry[]): Promise<void> {
    this.#ahead = true
    for (const [ndx, entry] of entries.entries()) {
      if (!isRegular(entry.mode)) continue
      const { sent, failed, changed, deferred } = this.report
      const lengths = [failed, changed, deferred].map((list) => list.length)
      const request = { iflags: ITEM.TRANSFER, basisType: -1, xname: null, xattrs: null, head: NO_BLOCKS.head }
      await this.#answer(ndx, entry, request, NO_BLOCKS)
      if (this.report.sent > sent) this.#sentAhead.add(ndx)
      // What could not be sent ahead is asked for, and answered then.
      else for (const [i, list] of [failed, changed, deferred].entries()) list.length = lengths[i]
    }
    this.#ahead = false
  }

  /** Returns a promise only when the caller has to wait. */
  #answer(ndx: number, entry: FileEntry, request: Request, blocks: BlockSums): Promise<void> | undefined {
    const { report } = this
    if (this.options.defer?.(entry)) {
      report.deferred.push(entry.path)
      this.#noSend(ndx)
      return undefined
    }
    let fd: number
    try {
      fd = this.#open(entry)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      this.#failed(error, entry)
      this.#noSend(ndx)
      return undefined
    }
    const small = blocks.head.count === 0 && entry.size < READ_BYTES
    return small ? this.#answerSmall(ndx, entry, request, fd) : this.#answerLarge(ndx, entry, request, blocks, fd)
  }

  #open(entry: FileEntry): number {
    const { tree, followed } = (entry.origin ?? { tree: this.source }) as { tree: SourceTree; followed?: boolean }
    return followed === true ? tree.openFollowing(entry.path) : tree.open(entry.path)
  }

  /** What arrived is not what is here now. */
  #torn(entry: FileEntry): void {
    entry.state |= STATE.TORN
    this.report.changed.push(entry.path)
  }

  #failed(error: FileError, entry: FileEntry): void {
    this.report.failed.push(error)
    this.options.general?.onFailure(error, entry)
  }

  /** A file that one read takes: nothing of it is sent before all of it is known. */
  #answerSmall(ndx: number, entry: FileEntry, request: Request, fd: number): Promise<void> | undefined {
    const { report, channel } = this
    let length: number
    let after: Stat
    try {
      length = readAtLeast(fd, entry.size)
      after = statAt(fd, '')
    } catch (error) {
      // What else has taken the name may not be readable so: a directory, a FIFO.
      if (!isOfEntry(statAt(fd, ''), entry)) this.#torn(entry)
      else this.#failed(new FileError(entry.path, (error as Error).message, false, { cause: error }), entry)
      this.#noSend(ndx)
      return undefined
    } finally {
      close(fd)
    }
    const known = isOfEntry(after, entry)
    // A file that has the size and the time of its entry after it was read is the one that was listed.
    if (!known || length !== entry.size || !sameContent(after, entry)) this.#torn(entry)
    if (!known) {
      this.#noSend(ndx)
      return undefined
    }
    this.#begin(ndx, entry, request)
    const tokens = this.options.tokens(entry)
    const { file } = this.options.sums
    const bytes = readBuffer.subarray(0, length)
    file.reset()
    if (length > 0) {
      file.update(bytes)
      tokens.literal(bytes)
      this.options.general?.onProgress?.(entry, length, false)
    }
    tokens.end()
    const sum = file.final()
    channel.out.bytes(sum)
    report.literalBytes += length
    report.sent++
    this.#told(entry, request, { literal: length, matched: 0, sum })
    return channel.relieve()
  }

  #told(entry: FileEntry, request: Request, moved: Moved): void {
    entry.state |= STATE.SENT
    const { general } = this.options
    general?.onProgress?.(entry, entry.size, true)
    general?.onItem(entry, request.iflags, request.xname?.toString('latin1') ?? '', moved)
  }

  async #answerLarge(ndx: number, entry: FileEntry, request: Request, blocks: BlockSums, fd: number): Promise<void> {
    const { report, channel } = this
    try {
      const before = statAt(fd, '')
      if (!isOfEntry(before, entry)) {
        this.#torn(entry)
        return this.#noSend(ndx)
      }
      this.#begin(ndx, entry, request)
      const { literalBytes, matchedBytes } = report
      const { size, sum } = await this.#sendContent(fd, before.size, entry, request, blocks)
      this.#told(entry, request, {
        literal: report.literalBytes - literalBytes,
        matched: report.matchedBytes - matchedBytes,
        sum,
      })
      if (size !== entry.size || !sameContent(statAt(fd, ''), entry)) this.#torn(entry)
      report.sent++
    } finally {
      close(fd)
    }
    const wait = channel.relieve()
    if (wait !== undefined) await wait
  }

  #begin(ndx: number, entry: FileEntry, request: Request): void {
    const { out } = this.channel
    this.options.general?.onBegin(entry, request.iflags, request.xname?.toString('latin1') ?? '')
    this.output.encode(out, ndx)
    encodeRequest(out, request)
  }

  /** Tells the receiver that nothing will come for this one. */
  #noSend(ndx: number): void {
    if (this.#ahead) return
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(ndx)
    this.channel.sendMessage(MSG.NO_SEND, payload)
  }

  /**
   * Sends `size` bytes of the file, fewer when it shrinks meanwhile, and returns how many: the sum of the whole file is of
   * what was sent, so the receiver's copy is sound. A read error ends the file with a sum that cannot be right.
   */
  async #sendContent(
    fd: number,
    size: number,
    entry: FileEntry,
    request: Request,
    blocks: BlockSums,
  ): Promise<{ size: number; sum: Buffer }> {
    const { report, channel } = this
    const { general, sums } = this.options
    const { file } = sums
    const tokens = new CountedTokens(this.options.tokens(entry), blocks.head, report)
    // The receiver writes over the file that its blocks are of.
    const forward = general?.inplace === true && (request.basisType < 0 || request.basisType === FNAMECMP.FNAME)
    const searches = blocks.head.count > 0 && blocks.weak.length > 0
    const search = searches ? new BlockSearch(blocks, sums.block, tokens, forward) : undefined
    let damaged = false
    let at = 0
    file.reset()
    if (blocks.head.count > 0 && !searches) at = this.#sumUp(fd, blocks.head, general?.append === 'verify')
    // Who sends slowly needs nothing ahead, and shall send little at a time.
    const runsAhead = channel.pace === undefined && size - at >= AHEAD_FROM
    const ahead = runsAhead ? new ReadAhead(fd, at, size, aheadBuffers()) : null
    try {
      while (at < size) {
        let bytes: Buffer
        try {
          bytes = ahead === null ? readSome(fd, at, size) : await ahead.next()
        } catch (error) {
          this.#failed(new FileError(entry.path, (error as Error).message, false, { cause: error }), entry)
          damaged = true
          break
        }
        if (bytes.length === 0) break // it shrank
        file.update(bytes)
        at += bytes.length
        if (search === undefined) tokens.literal(bytes)
        else search.take(bytes)
        general?.onProgress?.(entry, at, false)
        if (at < size) {
          // A few bytes say what takes the receiver as long as us: it begins while we go on.
          const wait = search === undefined ? channel.relieve() : (channel.flush() ?? channel.relieve())
          if (wait !== undefined) await wait
        }
      }
      search?.finish()
    } finally {
      search?.close()
      if (ahead !== null) {
        await ahead.close()
        if (spareBuffers.length < SPARE_MAX) spareBuffers.push(ahead.buffers)
      }
    }
    if (search !== undefined) {
      report.search.hits += search.hits
      report.search.falseAlarms += search.falseAlarms
    }
    tokens.end()
    const sum = file.final()
    if (damaged) for (let i = 0; i < sum.length; i++) sum[i] ^= 0xff
    channel.out.bytes(sum)
    return { size: at, sum }
  }

  /** --append: where the receiver's copy ends. What it has counts for the sum when that shall be verified. */
  #sumUp(fd: number, { count, blockLength, remainder }: SumHead, verify: boolean): number {
    const have = count * blockLength - (remainder > 0 ? blockLength - remainder : 0)
    for (let at = 0; verify && at < have; ) {
      const length = readAt(fd, readBuffer.subarray(0, have - at), at)
      if (length === 0) break
      this.options.sums.file.update(readBuffer.subarray(0, length))
      at += length
    }
    return have
  }

  /** io.c/main.c read_final_goodbye(): protocol 31 says goodbye twice, and may count deletions first. */
  async #finalGoodbye(): Promise<void> {
    const { channel } = this
    for (let rounds = this.options.protocol >= 31 ? 2 : 1; rounds > 0; ) {
      const ndx = await channel.receive('goodbye', this.#decodeNdx)
      if (ndx === NDX_DEL_STATS) {
        await this.#deleteStats()
        continue
      }
      if (ndx !== NDX_DONE) throw new ProtocolError('goodbye', `index ${ndx}`)
      if (--rounds > 0) this.output.encode(channel.out, NDX_DONE)
    }
    const wait = channel.flush()
    if (wait !== undefined) await wait
  }
}

/** Tokens on their way, counted for the report. */
class CountedTokens implements TokenEncoder {
  constructor(
    readonly tokens: TokenEncoder,
    readonly head: SumHead,
    readonly report: SenderReport,
  ) {}
  literal(bytes: Buffer): void {
    this.report.literalBytes += bytes.length
    this.tokens.literal(bytes)
  }
  match(block: number): void {
    const { count, remainder, blockLength } = this.head
    this.report.search.matches++
    this.report.matchedBytes += block === count - 1 && remainder > 0 ? remainder : blockLength
    this.tokens.match(block)
  }
  end(): void {
    this.tokens.end()
  }
}

/** Whether it still is what the entry was made from, as far as the receiver must rely on: a file, one of its group. */
const isOfEntry = (stat: Stat, entry: FileEntry) =>
  isRegular(stat.mode) && (entry.linkGroup === '' || linkGroupOf(stat) === entry.linkGroup)

type Content = Pick<FileEntry, 'size' | 'mtime' | 'mtimeNsec'>
const sameContent = (a: Content, b: Content) => a.size === b.size && a.mtime === b.mtime && a.mtimeNsec === b.mtimeNsec

const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES)

function readSome(fd: number, at: number, size: number): Buffer {
  return readBuffer.subarray(0, readAt(fd, readBuffer.subarray(0, size - at), at))
}

/** Of senders that have read ahead. */
const spareBuffers: (readonly [Buffer, Buffer])[] = []
const SPARE_MAX = 4
const aheadBuffers = () =>
  spareBuffers.pop() ?? ([Buffer.allocUnsafeSlow(AHEAD_BYTES), Buffer.allocUnsafeSlow(AHEAD_BYTES)] as const)

/** Reads the beginning of a file into `readBuffer`: what one read gives, or more until there are `least` bytes. */
function readAtLeast(fd: number, least: number): number {
  let length = readAt(fd, readBuffer, 0)
  for (let got = length; got > 0 && length < least; length += got) got = readAt(fd, readBuffer.subarray(length), length)
  return length
}

/**
 * All of a small file, good until the next call; null where it cannot be read, or is not what its entry says any more:
 * a transfer tells why.
 */
export function readSmall(source: SourceTree, entry: FileEntry): Buffer | null {
  let fd: number
  try {
    fd = source.open(entry.path)
  } catch (error) {
    if (error instanceof FileError) return null
    throw error
  }
  try {
    const length = readAtLeast(fd, entry.size)
    const after = statAt(fd, '')
    const same = isOfEntry(after, entry) && length === entry.size && sameContent(after, entry)
    return same ? readBuffer.subarray(0, length) : null
  } catch (error) {
    if (error instanceof SystemError) return null
    throw error
  } finally {
    close(fd)
  }
}

function decodeRequest(c: Cursor): Request {
  const iflags = c.u16()
  const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : -1
  const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(XNAME_MAX) : null
  return { iflags, basisType, xname, xattrs: null, head: null }
}

function encodeRequest(out: Channel['out'], { iflags, basisType, xname, xattrs, head }: Request): void {
  out.u16(iflags)
  if (basisType >= 0) out.u8(basisType)
  if (xname !== null) out.vstring(xname.toString('latin1'))
  xattrs?.write()
  if (head !== null) encodeSumHead(out, head)
}

/** sender.c receive_sums(). The sums are kept as they arrive, so a peer pays in bytes for what it makes us hold. */
async function readBlocks(channel: Channel, head: SumHead, share: Share): Promise<BlockSums> {
  const size = 4 + head.s2Length
  let weak = new Uint32Array(Math.min(head.count, 4096))
  const strong: Buffer[] = []
  for (let have = 0; have < head.count; ) {
    const bytes = await channel.receive('block sums', (c) =>
      c.bytes(Math.min(head.count - have, Math.max(1, Math.floor(c.remaining / size))) * size),
    )
    share.hold(2 * bytes.length) // they are put together when all have come
    const blocks = bytes.length / size
    if (have + blocks > weak.length) {
      const grown = new Uint32Array(Math.min(head.count, Math.max(weak.length * 2, have + blocks)))
      grown.set(weak)
      weak = grown
    }
    const strongs = Buffer.allocUnsafe(blocks * head.s2Length)
    for (let i = 0; i < blocks; i++) {
      weak[have + i] = bytes.readUInt32LE(i * size)
      bytes.copy(strongs, i * head.s2Length, i * size + 4, (i + 1) * size)
    }
    strong.push(strongs)
    have += blocks
  }
  return { head, weak, strong: strong.length === 1 ? strong[0] : Buffer.concat(strong) }
}
