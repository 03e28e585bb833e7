import type { Channel } from './channel.js'
import type { Sums } from './digest.js'
import { ConnectError, ProtocolError } from './errors.js'
import { FlistDecoder, FlistEncoder, type FlistFormat } from './flist/codec.js'
import type { FileEntry } from './flist/entry.js'
import type { RawPath } from './raw-path.js'
import { type Cursor, within } from './wire/cursor.js'

/*
 * What two of ours speak beyond rsync. The client has one more letter among its capabilities, which no rsync knows; a
 * server of ours that receives answers with one more compatibility flag, which no rsync ever sees. Then the session lasts:
 *
 *  client            server
 *  LIST              -          then a transfer as rsync has it, from the filter list to the last goodbye, and
 *                    DONE
 *  PUT list content  a verdict  one small file and the directories above it, content and its checksum at once, for the
 *                               one change that somebody waits for; where it cannot be put, a LIST does it
 *  RENAME from to    reason     '' when `from` is called `to` now; else nothing has changed
 *  END               -          or the end of the connection, at this place
 *
 * Within a transfer the server tells of each regular file that is in its place (MSG_SUCCESS, as --remove-source-files
 * would have it), and of each entry that failed, after the texts about it (MSG_FAILED), by their indexes.
 */

/** The letter among a client's capabilities (`-e.LsfxCIv_`). */
export const LASTING = '_'

export const ROUND = { END: 0, LIST: 1, RENAME: 2, DONE: 3, PUT: 4 } as const
/** What became of a put: it is in its place, or this one takes a list, or all do. */
export const VERDICT = { PUT: 0, LIST: 1, LISTS: 2 } as const
/** No longer files are put. */
export const PUT_MAX = 1 << 16
/** Nor deeper ones. */
export const PUT_ENTRIES_MAX = 64

const PATH_MAX = 4095
const REASON_MAX = 1000

export type Round =
  | { kind: 'list' }
  | { kind: 'put' }
  | { kind: 'rename'; from: RawPath; to: RawPath }
  | { kind: 'end' }

/** What the client wants next; the end of the connection is the end of the session. */
export async function receiveRound(channel: Pick<Channel, 'receive'>): Promise<Round> {
  try {
    return await channel.receive('what comes next', decodeRound)
  } catch (error) {
    if (error instanceof ConnectError) return { kind: 'end' }
    throw error
  }
}

function decodeRound(c: Cursor): Round {
  const kind = c.u8()
  if (kind === ROUND.END) return { kind: 'end' }
  if (kind === ROUND.LIST) return { kind: 'list' }
  if (kind === ROUND.PUT) return { kind: 'put' }
  if (kind !== ROUND.RENAME) throw new ProtocolError('what comes next', `${kind}`)
  return { kind: 'rename', from: decodePath(c), to: decodePath(c) }
}

function decodePath(c: Cursor): RawPath {
  const path = c.vstring(PATH_MAX).toString('latin1')
  const names = path.split('/')
  if (path.includes('\0') || names.some((name) => name === '' || name === '.' || name === '..'))
    throw new ProtocolError('name of a rename', JSON.stringify(path))
  return path as RawPath
}

/** What a put is about, as it is decoded. */
export interface Put {
  /** In the order of a list: one regular file, and the directories above it. */
  entries: FileEntry[]
  content: Buffer
  /** Of the content. */
  sum: Buffer
}

/** Asks the server to put the only file among `entries` in its place. */
export async function askForPut(
  channel: Channel,
  format: FlistFormat,
  sums: Sums,
  put: Omit<Put, 'sum'>,
): Promise<number> {
  const { out } = channel
  out.u8(ROUND.PUT)
  const encoder = new FlistEncoder(format, out)
  for (const entry of put.entries) encoder.encode(entry)
  encoder.end(0)
  out.i32(put.content.length)
  out.bytes(put.content)
  out.bytes(sumOf(put.content, sums))
  const { verdict } = await channel.receive('the answer to a put', (c) => ({ verdict: c.u8() }))
  return verdict
}

/** The rest of a put; null when its content is not what its checksum says. The content is good until the next read. */
export async function receivePut(
  channel: Pick<Channel, 'receive' | 'tryReceive'>,
  format: FlistFormat,
  sums: Sums,
): Promise<Put | null> {
  const decoder = new FlistDecoder(format)
  decoder.begin(0)
  const decode = (c: Cursor) => decoder.decode(c)
  const entries: FileEntry[] = []
  for (;;) {
    const entry = channel.tryReceive(decode) ?? (await channel.receive('list of a put', decode))
    if ('end' in entry) break
    if (entries.push(entry) > PUT_ENTRIES_MAX) throw new ProtocolError('list of a put', 'too many entries')
  }
  const { length } = await channel.receive('length of a put', (c) => ({ length: c.i32() }))
  within('length of a put', length, 0, PUT_MAX)
  const content = await channel.receive('content of a put', (c) => c.bytes(length))
  const expected = await channel.receive('checksum of a put', (c) => c.bytes(sums.length))
  const sum = sumOf(content, sums)
  return sum.equals(expected) ? { entries, content, sum } : null
}

function sumOf(content: Buffer, { file }: Sums): Buffer {
  file.reset()
  if (content.length > 0) file.update(content)
  return file.final()
}

/** Asks the server to rename. Returns why it did not, or ''. */
export async function askForRename(channel: Channel, from: RawPath, to: RawPath): Promise<string> {
  if (from.length > PATH_MAX || to.length > PATH_MAX) return 'a name is too long'
  channel.out.u8(ROUND.RENAME)
  channel.out.vstring(from)
  channel.out.vstring(to)
  const { text } = await channel.receive('the answer to a rename', (c) => ({ text: c.vstring(REASON_MAX) }))
  return text.toString('latin1')
}

export async function answerRename(channel: Channel, reason: string): Promise<void> {
  channel.out.vstring(reason.slice(0, REASON_MAX))
  await channel.flush()
}

export async function receiveDone(channel: Channel): Promise<void> {
  const { kind } = await channel.receive('the end of a transfer', (c) => ({ kind: c.u8() }))
  if (kind !== ROUND.DONE) throw new ProtocolError('the end of a transfer', `${kind}`)
}
