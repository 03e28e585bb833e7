import type { Channel } from './channel.js'
import { ConnectError, ProtocolError } from './errors.js'
import type { RawPath } from './raw-path.js'
import type { Cursor } from './wire/cursor.js'

/*
 * What two of ours speak beyond rsync. The client has one more letter among its capabilities, which no rsync knows; a
 * server of ours that receives answers with one more compatibility flag, which no rsync ever sees. Then the session lasts:
 *
 *  client            server
 *  LIST              -          then a transfer as rsync has it, from the filter list to the last goodbye, and
 *                    DONE
 *  RENAME from to    reason     '' when `from` is called `to` now; else nothing has changed
 *  END               -          or the end of the connection, at this place
 *
 * Within a transfer the server tells of each regular file that is in its place (MSG_SUCCESS, as --remove-source-files
 * would have it), and of each entry that failed, after the texts about it (MSG_FAILED), by their indexes.
 */

/** The letter among a client's capabilities (`-e.LsfxCIv_`). */
export const LASTING = '_'

export const ROUND = { END: 0, LIST: 1, RENAME: 2, DONE: 3 } as const

const PATH_MAX = 4095
const REASON_MAX = 1000

export type Round = { kind: 'list' } | { kind: 'rename'; from: RawPath; to: RawPath } | { kind: 'end' }

/** What the client wants next; the end of the connection is the end of the session. */
export async function receiveRound(channel: Channel): Promise<Round> {
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
