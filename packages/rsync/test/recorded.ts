import { decodeIdList, FlistDecoder, type FlistFormat } from '../src/flist/codec.js'
import type { FileEntry } from '../src/index.js'
import { ITEM, MSG, NDX_DEL_STATS, NDX_DONE } from '../src/wire/constants.js'
import type { Cursor } from '../src/wire/cursor.js'
import { Demultiplexer } from '../src/wire/mux.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { decodeSumHead, type SumHead } from '../src/wire/sum-head.js'
import { type DeflatedToken, DeflatedTokenDecoder, decodePlainToken, type Token } from '../src/wire/token.js'
import { Feed } from './feed.js'

/** Reads recorded conversations to their last byte, with the codecs under test. */

const SUM_LENGTH = 16 // md5

/** The multiplexed part of what a client sent: its arguments end with an empty one. */
export const clientFrames = (fromClient: Buffer) => fromClient.subarray(fromClient.indexOf('\0\0', 0, 'latin1') + 2)

export interface ServerPreamble {
  compatFlags: number
  seed: number
  frames: Buffer
}

/** A server's lines, then what it says before its frames begin; the recordings negotiate no checksum. */
export function serverPreamble(fromServer: Buffer): ServerPreamble {
  const feed = new Feed([fromServer.subarray(fromServer.indexOf('@RSYNCD: OK\n') + 12)])
  const compatFlags = feed.receive((c) => c.varint())
  const seed = feed.receive((c) => c.i32())
  return { compatFlags, seed, frames: feed.receive((c) => c.bytes(c.remaining)) }
}

export interface Demultiplexed {
  data: Buffer
  messages: { tag: number; payload: string }[]
}

export function demultiplex(pieces: Iterable<Buffer>): Demultiplexed {
  const data: Buffer[] = []
  const messages: Demultiplexed['messages'] = []
  const mux = new Demultiplexer(
    (bytes) => data.push(Buffer.from(bytes)),
    (tag, payload) => messages.push({ tag, payload: payload.toString('hex') }),
  )
  for (const piece of pieces) mux.push(piece)
  return { data: Buffer.concat(data), messages }
}

export type Request = { ndx: number; iflags: number; basisType: number; xname: string }

function item(feed: Feed, codec: NdxCodec): Request {
  const ndx = feed.receive((c) => codec.decode(c))
  if (ndx < 0) return { ndx, iflags: 0, basisType: 0, xname: '' }
  return feed.receive((c) => {
    const iflags = c.u16()
    const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : 0
    const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(4096).toString('latin1') : ''
    return { ndx, iflags, basisType, xname }
  })
}

export interface Sent {
  entries: FileEntry[]
  ids: Map<number, string>[]
  files: { request: Request; head: SumHead; tokens: (Token | DeflatedToken)[]; sum: string }[]
  done: number
  exhausted: boolean
}

export interface ClientScript extends FlistFormat {
  names?: boolean
  deflated?: boolean
}

export function readClient(pieces: Buffer[], script: ClientScript): Sent {
  const feed = new Feed(pieces)
  const sent: Sent = { entries: [], ids: [], files: [], done: 0, exhausted: false }
  const flist = new FlistDecoder(script)
  for (;;) {
    const entry = feed.receive((c) => flist.decode(c))
    if ('end' in entry) break
    sent.entries.push(entry)
  }
  if (script.names) sent.ids = [1, 2].map(() => feed.receive((c) => decodeIdList(c, true)))
  const codec = new NdxCodec()
  const goodbyes = script.protocol >= 31 ? 4 : 3
  while (sent.done < goodbyes) {
    const request = item(feed, codec)
    if (request.ndx === NDX_DONE) sent.done++
    else if (request.iflags & ITEM.TRANSFER) {
      const head = feed.receive((c) => decodeSumHead(c, SUM_LENGTH))
      const tokens = readTokens(feed, script.deflated === true)
      const sum = feed.receive((c) => c.bytes(SUM_LENGTH)).toString('hex')
      sent.files.push({ request, head, tokens, sum })
    }
  }
  sent.exhausted = feed.exhausted
  return sent
}

function readTokens(feed: Feed, deflated: boolean): (Token | DeflatedToken)[] {
  const tokens: (Token | DeflatedToken)[] = []
  const frames = new DeflatedTokenDecoder()
  const decode = (c: Cursor) => (deflated ? frames.decode(c) : decodePlainToken(c))
  for (let token = feed.receive(decode); token !== 'end'; token = feed.receive(decode)) tokens.push(token)
  return tokens
}

export interface Asked {
  requests: (Request & { head: SumHead | null; sums: string })[]
  done: number
  exhausted: boolean
}

export function readServer(pieces: Buffer[], goodbyes: number): Asked {
  const feed = new Feed(pieces)
  const asked: Asked = { requests: [], done: 0, exhausted: false }
  const codec = new NdxCodec()
  while (asked.done < goodbyes) {
    const request = item(feed, codec)
    if (request.ndx === NDX_DONE) asked.done++
    else if (request.ndx === NDX_DEL_STATS) for (let i = 0; i < 5; i++) feed.receive((c) => c.varint())
    else if (request.iflags & ITEM.TRANSFER) {
      const head = feed.receive((c) => decodeSumHead(c, SUM_LENGTH))
      const sums = feed.receive((c) => c.bytes(head.count * (4 + head.s2Length))).toString('hex')
      asked.requests.push({ ...request, head, sums })
    } else asked.requests.push({ ...request, head: null, sums: '' })
  }
  asked.exhausted = feed.exhausted
  return asked
}

export const isNote = ({ tag }: { tag: number }) => tag === MSG.INFO || tag === MSG.IO_TIMEOUT
