import type { Channel } from './channel.js'
import { ConnectError, FileError, ProtocolError, RemoteError, TimeoutError, TransferError } from './errors.js'
import { FilterError } from './filter.js'
import type { FileEntry } from './flist/entry.js'
import { SystemError } from './kernel.js'
import { UsageError } from './options.js'
import { exitMessage, type Role } from './output/exit.js'
import { type RawPath, toBytes } from './raw-path.js'
import type { Log, Moved } from './transfer.js'
import { RSYNC_VERSION } from './version.js'
import { MSG, RERR } from './wire/constants.js'

const TEXT_MAX = 4096

/** What a server says travels to its client as messages. */
export class ServerLog implements Log {
  constructor(readonly channel: Channel) {}

  info(text: string): void {
    this.#say(MSG.INFO, text)
  }
  warning(text: string): void {
    this.#say(MSG.WARNING, text)
  }
  error(text: string): void {
    this.#say(MSG.ERROR, text)
  }
  fileError(text: string): void {
    this.#say(MSG.ERROR_XFER, text)
  }
  /** The client shows them: it hears of every item. */
  item(_entry: FileEntry, _iflags: number, _linkName: string, _moved: Moved): void {}

  deleted(path: RawPath, mode: number): void {
    const directory = (mode & 0o170000) === 0o040000
    this.channel.sendMessage(MSG.DELETED, toBytes(directory ? `${path}\0` : path))
  }

  #say(tag: number, text: string): void {
    if (this.channel.framed) this.channel.sendMessage(tag, toBytes(`${text.slice(0, TEXT_MAX)}\n`))
    else process.stderr.write(toBytes(`${text}\n`))
  }

  /** Sends what is left and closes. */
  async finish(): Promise<void> {
    const { channel } = this
    await channel.flush()
    await channel.end()
  }

  /** Tells the client why the session ends, and returns the exit code. */
  async explain(error: unknown, role: Role): Promise<number> {
    const { message, code } = described(error)
    if (message !== '') this.error(message.replace(/\n$/, ''))
    const line = exitMessage(code, role, RSYNC_VERSION)
    if (line !== null && !(error instanceof RemoteError)) this.error(line.text.replace(/\n$/, ''))
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(code)
    if (this.channel.framed) this.channel.sendMessage(MSG.ERROR_EXIT, payload)
    await this.finish().catch(() => undefined)
    return code
  }
}

/** rsync's text and exit code for what ended a session. */
export function described(error: unknown): { message: string; code: number } {
  if (error instanceof TransferError || error instanceof UsageError || error instanceof FilterError)
    return { message: error.message, code: error.exitCode }
  if (error instanceof ProtocolError) return { message: `rsync: ${error.message}`, code: RERR.PROTOCOL }
  if (error instanceof RemoteError) return { message: '', code: error.exitCode }
  if (error instanceof TimeoutError) return { message: error.message, code: RERR.TIMEOUT }
  if (error instanceof ConnectError) return { message: 'rsync: connection unexpectedly closed', code: RERR.STREAMIO }
  if (error instanceof FileError || error instanceof SystemError)
    return { message: `rsync: ${error.message}`, code: RERR.FILEIO }
  return { message: `${INTERNAL}: ${error instanceof Error ? error.message : String(error)}`, code: RERR.IPC }
}

/** What is our fault begins so. */
export const INTERNAL = 'rsync: internal error'
