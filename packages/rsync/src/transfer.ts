import type { Channel } from './channel.js'
import type { Sums } from './digest.js'
import type { FileEntry } from './flist/entry.js'
import type { Agreement } from './handshake.js'
import { SystemError } from './kernel.js'
import type { RawPath } from './raw-path.js'
import type { Settings } from './settings.js'
import { CF, MSG, RERR } from './wire/constants.js'

/** rsync.h IOERR_*: why a list, or what came of it, is not complete. */
export const IOERR = { GENERAL: 1, VANISHED: 2, DEL_LIMIT: 4 } as const

/** What a transfer has moved, for --stats and the log. */
export interface Stats {
  files: number
  regular: number
  directories: number
  symlinks: number
  devices: number
  specials: number
  createdFiles: number
  createdDirectories: number
  createdSymlinks: number
  createdDevices: number
  createdSpecials: number
  deletedFiles: number
  deletedDirectories: number
  deletedSymlinks: number
  deletedDevices: number
  deletedSpecials: number
  transferred: number
  totalSize: number
  transferredSize: number
  literalBytes: number
  matchedBytes: number
  flistBytes: number
  flistBuildMs: number
  flistTransferMs: number
}

export const noStats = (): Stats => ({
  files: 0,
  regular: 0,
  directories: 0,
  symlinks: 0,
  devices: 0,
  specials: 0,
  createdFiles: 0,
  createdDirectories: 0,
  createdSymlinks: 0,
  createdDevices: 0,
  createdSpecials: 0,
  deletedFiles: 0,
  deletedDirectories: 0,
  deletedSymlinks: 0,
  deletedDevices: 0,
  deletedSpecials: 0,
  transferred: 0,
  totalSize: 0,
  transferredSize: 0,
  literalBytes: 0,
  matchedBytes: 0,
  flistBytes: 0,
  flistBuildMs: 0,
  flistTransferMs: 0,
})

/** What the content of a file came to, and its checksum where some went. */
export interface Moved {
  literal: number
  matched: number
  sum?: Buffer
}

/** How far the content of a file has come. */
export interface Progress {
  entry: FileEntry
  offset: number
  size: number
}

/** Where a role says what it does. What a server says travels to its client; a client prints. */
export interface Log {
  /** Both ends have agreed: this is what it will be about. */
  attach?(transfer: Transfer): void
  /** A line for a daemon's own log alone. */
  local?(text: string): void
  /** What -v and more would have; `level` is the verbosity that it takes. */
  info(text: string): void
  warning(text: string): void
  /** Something went wrong that is not about one file. */
  error(text: string): void
  /** Something went wrong with a file: the run ends with RERR_PARTIAL. */
  fileError(text: string): void
  /** The content of a file is about to travel. */
  begin?(entry: FileEntry, iflags: number, linkName: string): void
  /** What the generator found, or did, about an entry; after its content has arrived where some was sent. */
  item(entry: FileEntry, iflags: number, linkName: string, moved: Moved): void
  deleted(path: RawPath, mode: number): void
  /** The content of this file begins, goes on, or is complete. */
  progress?(progress: Progress, done: boolean): void
}

/** What both roles of one end share in one transfer. */
export class Transfer {
  readonly stats = noStats()
  ioError = 0
  /** Some file failed, here or at the other end. */
  failed = false
  /** How often a file failed here. */
  failures = 0
  /** The files of all lists so far, and whether more lists will come: for progress. */
  readonly count = { listed: 0, checked: 0, complete: false }

  constructor(
    readonly settings: Settings,
    readonly agreement: Agreement,
    readonly channel: Channel,
    readonly sums: Sums,
    readonly log: Log,
    readonly here: Here,
  ) {}

  /** `rsync: [sender] opendir "/a/b" failed: Permission denied (13)` */
  fileError(what: string, path: RawPath | string, error: unknown, role = this.here.role): void {
    this.failed = true
    this.failures++
    const failed = /\bfailed\b/.test(what) ? '' : ' failed'
    this.log.fileError(`rsync: [${role}] ${what} ${this.fullName(path)}${failed}: ${reasonOf(error)}`)
  }

  /** Whether the session goes on after this transfer (rounds.ts). */
  get lasts(): boolean {
    return (this.agreement.compatFlags & CF.LASTING) !== 0
  }

  /** Tells the other end that something could not be listed or read: it must not delete for its absence. */
  sayIoError(): void {
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(this.ioError)
    this.channel.sendMessage(MSG.IO_ERROR, payload)
  }

  /** A path as it is told to a person: from the root of the machine, or of the module. */
  fullName(path: RawPath | string): string {
    const { base, module } = this.here
    const name = path === '' ? '.' : path
    // util1.c full_fname(): a module without a chroot begins with nothing, one in a chroot with a slash.
    const full =
      path.startsWith('/') || base === '' ? name : name === '.' ? base : `${base === '/' ? '' : base}/${name}`
    return `"${full}"${module === '' ? '' : ` (in ${module})`}`
  }

  /** %C: the checksum of an entry's content, as rsync writes it; '' where there is none. */
  sumText({ sum }: FileEntry, moved: Moved): string {
    const { settings, agreement } = this
    const shown = sum ?? moved.sum
    const name = (sum !== null ? settings.checksumChoice?.[1] : undefined) ?? agreement.checksum
    if (shown === undefined) return ''
    // xxHash's sums travel with their lowest byte first, and are read the other way round.
    return (name.startsWith('xxh') ? Buffer.from(shown).reverse() : shown).toString('hex')
  }

  /** rsync's exit code for what came of it all. */
  exitCode(): number {
    if (this.ioError & IOERR.DEL_LIMIT) return RERR.DEL_LIMIT
    if (this.failed || this.ioError & IOERR.GENERAL) return RERR.PARTIAL
    if (this.ioError & IOERR.VANISHED) return RERR.VANISHED
    return RERR.OK
  }
}

/** Which end and role this is. */
export interface Here {
  role: 'sender' | 'receiver' | 'generator' | 'client' | 'Receiver'
  server: boolean
  /** The directory that paths are told from: absolute, or below `top`. */
  base: string
  /** What the names in a module begin with: '/' in a chroot, else ''. */
  top?: string
  /** The module's name at a daemon, else ''. */
  module: string
  /** Whether ids, devices and the like may be set. */
  root: boolean
  umask: number
}

/** `Permission denied (13)` */
export function reasonOf(error: unknown): string {
  if (error instanceof SystemError) return error.reason
  return error instanceof Error ? error.message : String(error)
}
