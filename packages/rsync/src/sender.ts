import { readSync } from 'node:fs'
import type { Channel } from './channel.js'
import { BlockSearch, type BlockSums } from './delta/search.js'
import type { Sums } from './digest.js'
import { FileError, ProtocolError } from './errors.js'
import { type FileEntry, isRegular } from './flist/entry.js'
import { closeFile, type SourceTree } from './flist/source.js'
import { statAt } from './kernel.js'
import type { RawPath } from './raw-path.js'
import { ITEM, MSG, NDX_DEL_STATS, NDX_DONE } from './wire/constants.js'
import { type Cursor, within } from './wire/cursor.js'
import { NdxCodec } from './wire/ndx.js'
import { decodeSumHead, encodeSumHead } from './wire/sum-head.js'
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

const WHOLE_FILE: BlockSums = {
  head: { count: 0, blockLength: 0, s2Length: 0, remainder: 0 },
  weak: new Uint32Array(0),
  strong: Buffer.alloc(0),
}

interface Request {
  iflags: number
  basisType: number
  xname: Buffer | null
}

/** sender.c send_files(): answers the generator's requests, one file at a time, until both have nothing left. */
export async function sendFiles(
  channel: Channel,
  source: SourceTree,
  entries: readonly FileEntry[],
  options: SenderOptions,
): Promise<SenderReport> {
  const report: SenderReport = { failed: [], changed: [], deferred: [], sent: 0, literalBytes: 0, matchedBytes: 0 }
  const input = new NdxCodec()
  const output = new NdxCodec()
  const { out } = channel
  const answer = async (ndx: number, request: Request, blocks: BlockSums) => {
    const head = () => {
      output.encode(out, ndx)
      encodeRequest(out, request)
      encodeSumHead(out, blocks.head)
    }
    await answerOne(channel, source, entries[ndx], ndx, blocks, head, options, report)
    const wait = channel.relieve()
    if (wait !== undefined) await wait
  }
  const sentAhead = new Set<number>()
  if (options.ahead) {
    for (const [ndx, { mode }] of entries.entries()) {
      if (!isRegular(mode)) continue
      await answer(ndx, { iflags: ITEM.TRANSFER, basisType: -1, xname: null }, WHOLE_FILE)
      sentAhead.add(ndx)
    }
  }
  for (let phase = 0; ; ) {
    const ndx = await channel.receive('file index', (c) => input.decode(c))
    if (ndx === NDX_DONE) {
      if (++phase > LAST_PHASE) break
      output.encode(out, NDX_DONE)
      continue
    }
    if (ndx === NDX_DEL_STATS) {
      await readDeleteStats(channel)
      continue
    }
    within('file index', ndx, 0, entries.length - 1)
    const entry = entries[ndx]
    const request = await channel.receive('item flags', decodeRequest)
    options.onItem?.(entry, request.iflags)
    if (!(request.iflags & ITEM.TRANSFER) || options.dryRun) {
      output.encode(out, ndx)
      encodeRequest(out, request)
      continue
    }
    const blocks = await readSums(channel, options.sums.length)
    if (!isRegular(entry.mode))
      throw new ProtocolError('file index', `${ndx} is no regular file, yet its content is asked for`)
    // The generator asks for what has gone ahead, too; when it asks in a later phase, that did not arrive well.
    if (phase === 0 && sentAhead.delete(ndx)) continue
    await answer(ndx, request, blocks)
  }
  output.encode(out, NDX_DONE)
  await finalGoodbye(channel, input, output, options.protocol)
  return report
}

/** io.c/main.c read_final_goodbye(): protocol 31 says goodbye twice, and may count deletions first. */
async function finalGoodbye(channel: Channel, input: NdxCodec, output: NdxCodec, protocol: number): Promise<void> {
  for (let rounds = protocol >= 31 ? 2 : 1; rounds > 0; ) {
    const ndx = await channel.receive('goodbye', (c) => input.decode(c))
    if (ndx === NDX_DEL_STATS) {
      await readDeleteStats(channel)
      continue
    }
    if (ndx !== NDX_DONE) throw new ProtocolError('goodbye', `index ${ndx}`)
    if (--rounds > 0) output.encode(channel.out, NDX_DONE)
  }
  const wait = channel.flush()
  if (wait !== undefined) await wait
}

async function answerOne(
  channel: Channel,
  source: SourceTree,
  entry: FileEntry,
  ndx: number,
  blocks: BlockSums,
  answer: () => void,
  options: SenderOptions,
  report: SenderReport,
): Promise<void> {
  const skip = () => {
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(ndx)
    channel.sendMessage(MSG.NO_SEND, payload)
  }
  if (options.defer?.(entry)) {
    report.deferred.push(entry.path)
    return skip()
  }
  let fd: number
  try {
    fd = source.open(entry.path)
  } catch (error) {
    if (!(error instanceof FileError)) throw error
    report.failed.push(error)
    return skip()
  }
  try {
    const before = statAt(fd, '')
    if (!isRegular(before.mode)) {
      report.changed.push(entry.path) // something else has taken its name
      return skip()
    }
    answer()
    await sendContent(channel, fd, before.size, entry.path, blocks, options, report)
    if (!sameContent(before, entry) || !sameContent(statAt(fd, ''), before)) report.changed.push(entry.path)
    report.sent++
  } finally {
    closeFile(fd)
  }
}

const sameContent = (a: Content, b: Content) => a.size === b.size && a.mtime === b.mtime && a.mtimeNsec === b.mtimeNsec
type Content = Pick<FileEntry, 'size' | 'mtime' | 'mtimeNsec'>

const readBuffer = Buffer.allocUnsafeSlow(READ_BYTES)

/**
 * Sends `size` bytes of the file, fewer when it shrinks meanwhile: the whole-file sum is over what was sent, so the
 * receiver's copy is sound, and the file is sent again. A read error ends the file with a sum that cannot be right.
 */
async function sendContent(
  channel: Channel,
  fd: number,
  size: number,
  path: RawPath,
  blocks: BlockSums,
  options: SenderOptions,
  report: SenderReport,
): Promise<void> {
  const tokens = options.tokens()
  const { file } = options.sums
  file.reset()
  let damaged = false
  const { blockLength, count, remainder } = blocks.head
  const counted: TokenEncoder = {
    literal: (bytes) => {
      report.literalBytes += bytes.length
      tokens.literal(bytes)
    },
    match: (block) => {
      report.matchedBytes += block === count - 1 && remainder > 0 ? remainder : blockLength
      tokens.match(block)
    },
    end: () => tokens.end(),
  }
  const search = count > 0 ? new BlockSearch(blocks, options.sums.block, counted) : undefined
  try {
    for (let at = 0; at < size; ) {
      const into = search?.free ?? readBuffer
      let length: number
      try {
        length = readSync(fd, into, 0, Math.min(into.length, size - at), at)
      } catch (error) {
        report.failed.push(new FileError(path, `read: ${(error as Error).message}`, false, { cause: error }))
        damaged = true
        break
      }
      if (length === 0) break // it shrank
      const bytes = into.subarray(0, length)
      file.update(bytes)
      at += length
      if (search === undefined) counted.literal(bytes)
      else search.advance(length)
      const wait = channel.relieve()
      if (wait !== undefined) await wait
    }
    search?.finish()
  } finally {
    search?.close()
  }
  counted.end()
  const sum = file.final()
  if (damaged) for (let i = 0; i < sum.length; i++) sum[i] ^= 0xff
  channel.out.bytes(sum)
}

function decodeRequest(c: Cursor): Request {
  const iflags = c.u16()
  const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : -1
  const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(XNAME_MAX) : null
  return { iflags, basisType, xname }
}

function encodeRequest(out: Channel['out'], { iflags, basisType, xname }: Request): void {
  out.u16(iflags)
  if (basisType >= 0) out.u8(basisType)
  if (xname !== null) out.vstring(xname.toString('latin1'))
}

/** sender.c receive_sums(). The sums are kept as they arrive, so a peer pays in bytes for what it makes us hold. */
async function readSums(channel: Channel, s2LengthMax: number): Promise<BlockSums> {
  const head = await channel.receive('sum head', (c) => decodeSumHead(c, s2LengthMax))
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
