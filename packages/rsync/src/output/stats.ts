import { type FileEntry, isDevice, isDirectory, isSpecial, isSymlink } from '../flist/entry.js'
import { bigDecimal, bigNumber, type Human } from './number.js'

/** Entries by type; `regular` is whatever is none of the others. */
export interface Counts {
  regular: number
  directories: number
  symlinks: number
  devices: number
  specials: number
}

export const noCounts = (): Counts => ({ regular: 0, directories: 0, symlinks: 0, devices: 0, specials: 0 })

export function countEntry(counts: Counts, { mode }: Pick<FileEntry, 'mode'>): void {
  if (isDirectory(mode)) counts.directories++
  else if (isSymlink(mode)) counts.symlinks++
  else if (isDevice(mode)) counts.devices++
  else if (isSpecial(mode)) counts.specials++
  else counts.regular++
}

/** rsync.h struct stats, as a client has it at the end. Bytes, milliseconds. */
export interface Stats {
  files: Counts
  created: Counts
  deleted: Counts
  /** Regular files sent or received; in a dry run those that would be. */
  transferred: number
  /** Of all regular files and symlinks in the list. */
  totalSize: number
  transferredSize: number
  literal: number
  matched: number
  /** What the file list took on the wire: a receiver counts it, a sender leaves it 0. */
  flistSize: number
  flistBuildMs: number
  flistTransferMs: number
  /** As the client sees them, also when the server's were taken for them. */
  sent: number
  received: number
}

export interface StatsOptions {
  human: Human
  protocol: number
}

/** The block of --stats, ending before the empty line in front of `sent`. All but the first empty line goes to logs too. */
export function statsBlock(stats: Stats, { human, protocol }: StatsOptions): string {
  const size = (bytes: number) => bigNumber(bytes, human)
  const count = (value: number) => bigNumber(value, threesOnly(human))
  const lines = [
    '',
    `Number of files: ${counted(stats.files, human)}`,
    `Number of created files: ${counted(stats.created, human)}`,
  ]
  if (protocol >= 31) lines.push(`Number of deleted files: ${counted(stats.deleted, human)}`)
  lines.push(
    `Number of regular files transferred: ${count(stats.transferred)}`,
    `Total file size: ${size(stats.totalSize)} bytes`,
    `Total transferred file size: ${size(stats.transferredSize)} bytes`,
    `Literal data: ${size(stats.literal)} bytes`,
    `Matched data: ${size(stats.matched)} bytes`,
    `File list size: ${size(stats.flistSize)}`,
  )
  // A list that took less than a millisecond is not spoken of, and stock senders never report less than 1 ms.
  if (stats.flistBuildMs > 0) {
    const seconds = (ms: number) => bigDecimal(ms / 1000, threesOnly(human), 3)
    lines.push(
      `File list generation time: ${seconds(stats.flistBuildMs)} seconds`,
      `File list transfer time: ${seconds(stats.flistTransferMs)} seconds`,
    )
  }
  lines.push(`Total bytes sent: ${size(stats.sent)}`, `Total bytes received: ${size(stats.received)}`)
  return lines.map((line) => `${line}\n`).join('')
}

/** Counts and ratios take no units. */
const threesOnly = (human: Human): Human => Math.min(human, 1)

const LABELS: readonly [keyof Counts, string][] = [
  ['regular', 'reg'],
  ['directories', 'dir'],
  ['symlinks', 'link'],
  ['devices', 'dev'],
  ['specials', 'special'],
]

function counted(counts: Counts, human: Human): string {
  const number = (value: number) => bigNumber(value, threesOnly(human))
  const kinds = LABELS.filter(([kind]) => counts[kind] > 0).map(([kind, label]) => `${label}: ${number(counts[kind])}`)
  const total = LABELS.reduce((sum, [kind]) => sum + counts[kind], 0)
  return number(total) + (kinds.length > 0 ? ` (${kinds.join(', ')})` : '')
}

/** The two lines at the end of -v and --stats, behind an empty one. `seconds`: whole ones from start to end. */
export function summary(stats: Stats, human: Human, seconds: number, dryRun: boolean): string {
  const { sent, received, totalSize } = stats
  const rate = bigDecimal((sent + received) / (0.5 + seconds), human, 2)
  const speedup = bigDecimal(totalSize / (sent + received), threesOnly(human), 2)
  return (
    `\nsent ${bigNumber(sent, human)} bytes  received ${bigNumber(received, human)} bytes  ${rate} bytes/sec\n` +
    `total size is ${bigNumber(totalSize, human)}  speedup is ${speedup}${dryRun ? ' (DRY RUN)' : ''}\n`
  )
}

/** What every side writes to its log at the end, the sender's also when it failed; never grouped. */
export const logSummary = ({ sent, received, totalSize }: Pick<Stats, 'sent' | 'received' | 'totalSize'>) =>
  `sent ${sent} bytes  received ${received} bytes  total size ${totalSize}\n`
