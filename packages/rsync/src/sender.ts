import type { Channel } from './channel.js'
import { BlockSearch, type BlockSums } from './delta/search.js'
import type { Sums } from './digest.js'
import { FileError, ProtocolError } from './errors.js'
import { type FileEntry, isRegular, linkGroupOf } from './flist/entry.js'
import type { SourceTree } from './flist/source.js'
import { close, readAt, type Stat, statAt } from './kernel.js'
import type { RawPath } from './raw-path.js'
import { ITEM, MSG, NDX_DEL_STATS, NDX_DONE } from './wire/constants.js'
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
}

export interface SenderOptions {
  protocol: number
  sums: Sums
  tokens: () => TokenEncoder
  dryRun: boolean
  /** Told each item that the receiver reports: what it would change, or has changed. */
  onItem?: ((entry: FileEntry, iflags: number) => void) | undefined
  /** True for a file whose content shall not go with this list; the receiver is told that none will come. */
  defer?: ((entry: FileEntry) => boolean) | undefined
  /** Send every regular file before it is asked for; see TransferOptions. */
  ahead: boolean
}

const NO_BLOCKS: BlockSums = {
  head: { count: 0, blockLength: 0, s2Length: 0, remainder: 0 },
  weak: new Uint32Array(0),
  strong: Buffer.alloc(0),
}

interface Request {
  iflags: number
  basisType: number
  xname: Buffer | null
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
  const sender = new Sender(channel, source, entries, options)
  await sender.run()
  return sender.report
}

class Sender {
  readonly report: SenderReport = { failed: [], changed: [], deferred: [], sent: 0, literalBytes: 0, matchedBytes: 0 }
  readonly #input = new NdxCodec()
  readonly #output = new NdxCodec()
  readonly #decodeNdx = (c: Cursor) => this.#input.decode(c)
  readonly #decodeRequest = (c: Cursor) => decodeRequest(c, this.options)
  readonly #sentAhead = new Set<number>()
  #ahead: boolean

  constructor(
    readonly channel: Channel,
    readonly source: SourceTree,
    readonly entries: readonly FileEntry[],
    readonly options: SenderOptions,
  ) {
    this.#ahead = options.ahead
  }

  async run(): Promise<void> {
    const { channel } = this
    if (this.#ahead) await this.#sendAhead()
    for (let phase = 0; phase <= LAST_PHASE; ) {
      const ndx = channel.tryReceive(this.#decodeNdx) ?? (await channel.receive('file index', this.#decodeNdx))
      if (ndx === NDX_DONE) {
        phase++
        this.#output.encode(channel.out, NDX_DONE)
      } else if (ndx === NDX_DEL_STATS) await readDeleteStats(channel)
      else {
        const wait = this.#serve(ndx, phase)
        if (wait !== undefined) await wait
      }
    }
    await this.#finalGoodbye()
  }

  /** Returns a promise only when the caller has to wait: most files are small, and a promise for each is not free. */
  #serve(ndx: number, phase: number): Promise<void> | undefined {
    const { channel } = this
    within('file index', ndx, 0, this.entries.length - 1)
    const request = channel.tryReceive(this.#decodeRequest)
    if (request !== undefined) return this.#serveRequest(ndx, phase, request)
    return channel.receive('item flags', this.#decodeRequest).then((late) => this.#serveRequest(ndx, phase, late))
  }

  #serveRequest(ndx: number, phase: number, request: Request): Promise<void> | undefined {
    const { channel, options } = this
    const entry = this.entries[ndx]
    options.onItem?.(entry, request.iflags)
    if (request.head === null) {
      this.#output.encode(channel.out, ndx)
      encodeRequest(channel.out, request)
      return undefined
    }
    if (!isRegular(entry.mode)) {
      throw new ProtocolError('file index', `${ndx} is no regular file, yet its content is asked for`)
    }
    if (request.head.count > 0)
      return readBlocks(channel, request.head).then((sums) => this.#answer(ndx, request, sums))
    // The generator asks for what has gone ahead, too; when it asks in a later phase, that did not arrive well.
    if (phase === 0 && this.#sentAhead.delete(ndx)) return undefined
    return this.#answer(ndx, request, { ...NO_BLOCKS, head: request.head })
  }

  async #sendAhead(): Promise<void> {
    for (const [ndx, { mode }] of this.entries.entries()) {
      if (!isRegular(mode)) continue
      const { sent, failed, changed, deferred } = this.report
      const lengths = [failed, changed, deferred].map((list) => list.length)
      await this.#answer(ndx, { iflags: ITEM.TRANSFER, basisType: -1, xname: null, head: NO_BLOCKS.head }, NO_BLOCKS)
      if (this.report.sent > sent) this.#sentAhead.add(ndx)
      // What could not be sent ahead is asked for, and answered then.
      else for (const [i, list] of [failed, changed, deferred].entries()) list.length = lengths[i]
    }
    this.#ahead = false
  }

  /** Returns a promise only when the caller has to wait. */
  #answer(ndx: number, request: Request, blocks: BlockSums): Promise<void> | undefined {
    const { report } = this
    const entry = this.entries[ndx]
    if (this.options.defer?.(entry)) {
      report.deferred.push(entry.path)
      this.#noSend(ndx)
      return undefined
    }
    let fd: number
    try {
      fd = this.source.open(entry.path)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      report.failed.push(error)
      this.#noSend(ndx)
      return undefined
    }
    const small = blocks.head.count === 0 && entry.size < READ_BYTES
    return small ? this.#answerSmall(ndx, request, fd) : this.#answerLarge(ndx, request, blocks, fd)
  }

  /** A file that one read takes: nothing of it is sent before all of it is known. */
  #answerSmall(ndx: number, request: Request, fd: number): Promise<void> | undefined {
    const { report, channel } = this
    const entry = this.entries[ndx]
    let length: number
    let after: Stat
    try {
      length = readAtLeast(fd, entry.size)
      after = statAt(fd, '')
    } catch (error) {
      // What else has taken the name may not be readable so: a directory, a FIFO.
      if (!isOfEntry(statAt(fd, ''), entry)) report.changed.push(entry.path)
      else report.failed.push(new FileError(entry.path, (error as Error).message, false, { cause: error }))
      this.#noSend(ndx)
      return undefined
    } finally {
      close(fd)
    }
    const known = isOfEntry(after, entry)
    // A file that has the size and the time of its entry after it was read is the one that was listed.
    if (!known || length !== entry.size || !sameContent(after, entry)) report.changed.push(entry.path)
    if (!known) {
      this.#noSend(ndx)
      return undefined
    }
    this.#begin(ndx, request)
    const tokens = this.options.tokens()
    const { file } = this.options.sums
    const bytes = readBuffer.subarray(0, length)
    file.reset()
    if (length > 0) {
      file.update(bytes)
      tokens.literal(bytes)
    }
    tokens.end()
    channel.out.bytes(file.final())
    report.literalBytes += length
    report.sent++
    return channel.relieve()
  }

  async #answerLarge(ndx: number, request: Request, blocks: BlockSums, fd: number): Promise<void> {
    const { report, channel } = this
    const entry = this.entries[ndx]
    try {
      const before = statAt(fd, '')
      if (!isOfEntry(before, entry)) {
        report.changed.push(entry.path)
        return this.#noSend(ndx)
      }
      this.#begin(ndx, request)
      const size = await this.#sendContent(fd, before.size, entry.path, blocks)
      if (size !== entry.size || !sameContent(statAt(fd, ''), entry)) report.changed.push(entry.path)
      report.sent++
    } finally {
      close(fd)
    }
    const wait = channel.relieve()
    if (wait !== undefined) await wait
  }

  #begin(ndx: number, request: Request): void {
    const { out } = this.channel
    this.#output.encode(out, ndx)
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
   * Sends `size` bytes of the file, fewer when it shrinks meanwhile, and returns how many: the whole-file sum is over
   * what was sent, so the receiver's copy is sound. A read error ends the file with a sum that cannot be right.
   */
  async #sendContent(fd: number, size: number, path: RawPath, blocks: BlockSums): Promise<number> {
    const { report, channel } = this
    const { file } = this.options.sums
    const tokens = new CountedTokens(this.options.tokens(), blocks.head, report)
    const search = blocks.head.count > 0 ? new BlockSearch(blocks, this.options.sums.block, tokens) : undefined
    let damaged = false
    let at = 0
    file.reset()
    try {
      while (at < size) {
        const into = search?.free ?? readBuffer
        let length: number
        try {
          length = readAt(fd, into.subarray(0, size - at), at)
        } catch (error) {
          report.failed.push(new FileError(path, (error as Error).message, false, { cause: error }))
          damaged = true
          break
        }
        if (length === 0) break // it shrank
        const bytes = into.subarray(0, length)
        file.update(bytes)
        at += length
        if (search === undefined) tokens.literal(bytes)
        else search.advance(length)
        if (at < size) {
          const wait = channel.relieve()
          if (wait !== undefined) await wait
        }
      }
      search?.finish()
    } finally {
      search?.close()
    }
    tokens.end()
    const sum = file.final()
    if (damaged) for (let i = 0; i < sum.length; i++) sum[i] ^= 0xff
    channel.out.bytes(sum)
    return at
  }

  /** io.c/main.c read_final_goodbye(): protocol 31 says goodbye twice, and may count deletions first. */
  async #finalGoodbye(): Promise<void> {
    const { channel } = this
    for (let rounds = this.options.protocol >= 31 ? 2 : 1; rounds > 0; ) {
      const ndx = await channel.receive('goodbye', this.#decodeNdx)
      if (ndx === NDX_DEL_STATS) {
        await readDeleteStats(channel)
        continue
      }
      if (ndx !== NDX_DONE) throw new ProtocolError('goodbye', `index ${ndx}`)
      if (--rounds > 0) this.#output.encode(channel.out, NDX_DONE)
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

/** Reads the beginning of a file into `readBuffer`: what one read gives, or more until there are `least` bytes. */
function readAtLeast(fd: number, least: number): number {
  let length = readAt(fd, readBuffer, 0)
  for (let got = length; got > 0 && length < least; length += got) got = readAt(fd, readBuffer.subarray(length), length)
  return length
}

function decodeRequest(c: Cursor, { dryRun, sums }: SenderOptions): Request {
  const iflags = c.u16()
  const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : -1
  const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(XNAME_MAX) : null
  const head = iflags & ITEM.TRANSFER && !dryRun ? decodeSumHead(c, sums.length) : null
  return { iflags, basisType, xname, head }
}

function encodeRequest(out: Channel['out'], { iflags, basisType, xname, head }: Request): void {
  out.u16(iflags)
  if (basisType >= 0) out.u8(basisType)
  if (xname !== null) out.vstring(xname.toString('latin1'))
  if (head !== null) encodeSumHead(out, head)
}

/** sender.c receive_sums(). The sums are kept as they arrive, so a peer pays in bytes for what it makes us hold. */
async function readBlocks(channel: Channel, head: SumHead): Promise<BlockSums> {
  const size = 4 + head.s2Length
  let weak = new Uint32Array(Math.min(head.count, 4096))
  const strong: Buffer[] = []
  for (let have = 0; have < head.count; ) {
    const bytes = await channel.receive('block sums', (c) =>
      c.bytes(Math.min(head.count - have, Math.max(1, Math.floor(c.remaining / size))) * size),
    )
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

/** main.c read_del_stats(): five counters that we have already counted by their messages. */
async function readDeleteStats(channel: Channel): Promise<void> {
  for (let i = 0; i < 5; i++) await channel.receive('deletion counts', (c) => c.varint())
}
