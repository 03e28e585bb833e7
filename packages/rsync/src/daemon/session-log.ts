import type { Channel } from '../channel.js'
import type { FileEntry } from '../flist/entry.js'
import { exitMessage } from '../output/exit.js'
import { deletedItem, expandFormat, type FormatContext, type Item, isLogged } from '../output/format.js'
import type { RawPath } from '../raw-path.js'
import { ServerLog } from '../server-log.js'
import type { Moved, Transfer } from '../transfer.js'
import { RSYNC_VERSION } from '../version.js'
import { ITEM } from '../wire/constants.js'
import type { ModuleConfig } from './config.js'
import { LOG } from './log.js'
import type { Job } from './messages.js'

/** What a daemon says of a transfer: to its client as any server does, and to its own log. */
export class DaemonSessionLog extends ServerLog {
  /** The server sends. */
  sender = false
  #transfer: Transfer | undefined

  constructor(
    channel: Channel,
    readonly module: ModuleConfig,
    readonly job: Job,
    /** Writes a line of the daemon's log. */
    readonly local: (line: string) => void,
  ) {
    super(channel)
  }

  attach(transfer: Transfer): void {
    this.#transfer = transfer
  }

  /** What the client asks for, in its words. */
  requested(sender: boolean, paths: readonly string[]): void {
    this.sender = sender
    const { user, host, address } = this.job
    this.local(LOG.transfer(!sender, paths.join(' '), user, host, address))
  }

  /** The client has ended it, and has said so itself. */
  ended(code: number): void {
    const line = exitMessage(code, this.sender ? 'sender' : 'Receiver', RSYNC_VERSION)
    if (line !== null) this.local(line.text.trimEnd())
  }

  override info(text: string): void {
    this.local(text)
    super.info(text)
  }
  override warning(text: string): void {
    this.local(text)
    super.warning(text)
  }
  override error(text: string): void {
    this.local(text)
    super.error(text)
  }
  override fileError(text: string): void {
    this.local(text)
    super.fileError(text)
  }

  override item(entry: FileEntry, iflags: number, hardLink: string, moved: Moved): void {
    if (!this.module.transferLogging) return
    const item: Item = {
      operation: this.sender ? 'send' : 'recv',
      entry,
      iflags,
      hardLink,
      directory: this.#directoryOf(entry),
      written: this.sender ? moved.literal : 0,
      read: this.sender ? 0 : moved.literal,
      sum: this.#transfer?.sumText(entry, moved) ?? '',
    }
    if (iflags & ITEM.TRANSFER || isLogged(item, this.module.logFormat, 0, 0)) this.#write(item)
  }

  /** Where in the module the names of the transfer are. */
  #directoryOf(entry: FileEntry): string {
    if (this.sender) return (entry.origin as { named?: string } | null)?.named ?? ''
    return this.#transfer?.here.base ?? ''
  }

  override deleted(path: RawPath, mode: number): void {
    super.deleted(path, mode)
    if (this.module.transferLogging) this.#write(deletedItem(path, mode))
  }

  #write(item: Item): void {
    this.local(expandFormat(this.module.logFormat, item, this.#context()))
  }

  #context(): FormatContext {
    const { module, job } = this
    return {
      upload: this.sender,
      times: true,
      symlinkTimes: true,
      now: Date.now() / 1000,
      pid: job.id,
      owner: true,
      group: true,
      sumDigits: 32,
      daemon: { host: job.host, address: job.address, module: module.name, modulePath: module.path, user: job.user },
    }
  }
}
