import type { FileEntry } from './flist/entry.js'
import { Console } from './output/console.js'
import { charsetOf } from './output/escape.js'
import {
  deletedItem,
  expandFormat,
  type FormatContext,
  type Item,
  isWritten,
  type OutFormat,
  outFormatOf,
} from './output/format.js'
import { deleting, type Message } from './output/names.js'
import { Progress } from './output/progress.js'
import { type Counts, type Stats as PrintedStats, statsBlock, summary } from './output/stats.js'
import type { RawPath } from './raw-path.js'
import type { Settings } from './settings.js'
import type { Log, Moved, Progress as Position, Transfer } from './transfer.js'
import { ITEM, MSG } from './wire/constants.js'

/** Where a client prints: latin1 text, one char a byte. */
export interface Output {
  out(text: string): void
  err(text: string): void
}

/** What a client prints of a transfer: its own doings and what the server says. */
export class ClientLog implements Log {
  readonly console: Console
  readonly #format: OutFormat | null
  readonly #progress: Progress | null
  readonly #startMs = Date.now()
  readonly #deleted: Counts = { regular: 0, directories: 0, symlinks: 0, devices: 0, specials: 0 }
  #transfer: Transfer | undefined
  #transferred = 0
  #done = 0

  constructor(
    readonly settings: Settings,
    output: Output,
    /** We send, to another process. */
    readonly upload: boolean,
    readonly sender: boolean,
  ) {
    const charset = settings.eightBitOutput ? 'eight-bit' : charsetOf(process.env)
    this.console = new Console({ ...output, charset, quiet: settings.quiet })
    this.#format = outFormatOf(settings)
    this.#progress =
      settings.progress === null
        ? null
        : new Progress({
            of: settings.progress,
            human: settings.humanReadable,
            write: (text) => this.console.progress(text),
          })
  }

  attach(transfer: Transfer): void {
    this.#transfer = transfer
  }

  say({ code, text }: Message): void {
    this.console.print(code, text)
  }

  info(text: string): void {
    this.console.print(MSG.INFO, `${text}\n`)
  }
  warning(text: string): void {
    this.console.print(MSG.WARNING, `${text}\n`)
  }
  error(text: string): void {
    this.console.print(MSG.ERROR, `${text}\n`)
  }
  fileError(text: string): void {
    this.console.print(MSG.ERROR_XFER, `${text}\n`)
  }

  begin(entry: FileEntry, iflags: number, linkName: string): void {
    if (this.#format?.beforeTransfer) this.#write(this.#item(entry, iflags, linkName, { literal: 0, matched: 0 }))
  }

  item(entry: FileEntry, iflags: number, linkName: string, moved: Moved): void {
    if (this.#format === null) return
    const item = this.#item(entry, iflags, linkName, moved)
    if (iflags & ITEM.TRANSFER) {
      if (!this.#format.beforeTransfer || this.settings.dryRun) this.#write(item)
    } else if (isWritten(item, this.#format.itemize, this.settings.verbose)) this.#write(item)
  }

  deleted(path: RawPath, mode: number): void {
    this.#count(mode)
    if (this.#format === null) return
    if (this.#format.showsOperation) this.#write(deletedItem(path, mode))
    else if (this.settings.verbose > 0) this.say(deleting(path, (mode & 0o170000) === 0o040000))
  }

  /** How many of each kind, where the receiver says so. */
  deletions([regular, directories, symlinks, devices, specials]: readonly number[]): void {
    Object.assign(this.#deleted, { regular, directories, symlinks, devices, specials })
  }

  #count(mode: number): void {
    const kind: Record<number, keyof Counts> = { 9604: 'directories', 21609: 'symlinks' }
    this.#deleted[kind[mode & 0o170000] ?? 'regular']++
  }

  progress({ entry, offset, size }: Position, done: boolean): void {
    if (this.#progress === null) return
    const total = this.settings.progress === 'total'
    const nowMs = performance.now()
    const stats = this.#transfer?.stats
    const shown = total ? this.#done + offset : offset
    const of = total ? (stats?.totalSize ?? size) : size
    if (!done) return this.#progress.show(shown, of, nowMs)
    this.#done += size
    this.#transferred++
    const count = this.#transfer?.count ?? { listed: 0, checked: 0, complete: true }
    this.#progress.finish(total ? this.#done : size, of, nowMs, {
      transferred: this.#transferred,
      left: Math.max(0, count.listed - count.checked - 1),
      entries: count.listed,
      complete: count.complete,
    })
    void entry
  }

  #item(entry: FileEntry, iflags: number, hardLink: string, moved: Moved): Item {
    const sending = this.sender
    return {
      operation: sending ? 'send' : 'recv',
      entry,
      iflags,
      hardLink,
      directory: sending ? ((entry.origin as { named?: string } | null)?.named ?? '') : '',
      written: sending ? moved.literal : 0,
      read: sending ? 0 : moved.literal,
      sum: this.#transfer?.sumText(entry, moved) ?? '',
    }
  }

  #write(item: Item): void {
    if (this.#format === null) return
    this.console.print(MSG.CLIENT, `${expandFormat(this.#format.format, item, this.#context())}\n`)
  }

  #context(): FormatContext {
    const { settings } = this
    return {
      upload: this.upload,
      times: settings.times,
      symlinkTimes: true,
      now: Date.now() / 1000,
      pid: process.pid,
      owner: settings.owner,
      group: settings.group,
      sumDigits: (this.#transfer?.sums.length ?? 16) * 2,
      daemon: null,
    }
  }

  /** main.c output_summary() */
  summary(transfer: Transfer, moved: { sent: number; received: number }): void {
    const { settings } = this
    if (settings.verbose === 0 && !settings.stats) return
    const stats = printed(transfer, moved, this.sender ? this.#deleted : null)
    const human = settings.humanReadable
    if (settings.stats) this.#lines(statsBlock(stats, { human, protocol: transfer.agreement.protocol }))
    const seconds = Math.floor(Date.now() / 1000) - Math.floor(this.#startMs / 1000)
    this.#lines(summary(stats, human, seconds, settings.dryRun))
  }

  #lines(text: string): void {
    for (const line of text.split('\n').slice(0, -1)) this.console.print(MSG.INFO, `${line}\n`)
  }
}

function printed(
  { stats }: Transfer,
  { sent, received }: { sent: number; received: number },
  deleted: Counts | null,
): PrintedStats {
  return {
    files: {
      regular: stats.regular,
      directories: stats.directories,
      symlinks: stats.symlinks,
      devices: stats.devices,
      specials: stats.specials,
    },
    created: {
      regular: stats.createdFiles,
      directories: stats.createdDirectories,
      symlinks: stats.createdSymlinks,
      devices: stats.createdDevices,
      specials: stats.createdSpecials,
    },
    deleted: deleted ?? {
      regular: stats.deletedFiles,
      directories: stats.deletedDirectories,
      symlinks: stats.deletedSymlinks,
      devices: stats.deletedDevices,
      specials: stats.deletedSpecials,
    },
    transferred: stats.transferred,
    totalSize: stats.totalSize,
    transferredSize: stats.transferredSize,
    literal: stats.literalBytes,
    matched: stats.matchedBytes,
    flistSize: stats.flistBytes,
    flistBuildMs: stats.flistBuildMs,
    flistTransferMs: stats.flistTransferMs,
    sent,
    received,
  }
}
