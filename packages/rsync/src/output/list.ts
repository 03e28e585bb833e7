import { type FileEntry, isSymlink } from '../flist/entry.js'
import { modeString } from './mode.js'
import { bigNumber, type Human } from './number.js'
import { timeString } from './time.js'

export interface ListOptions {
  human: Human
  /** -l, which -a implies: targets of symlinks are shown. */
  links: boolean
}

/** generator.c list_file_entry(): a line of --list-only, with its newline. It is printed as FINFO, so -q hides it. */
export function listLine(entry: FileEntry, { human, links }: ListOptions): string {
  const name = entry.path === '' ? '.' : entry.path
  const columns = human > 0 ? 14 : 11
  if (entry.mode === 0) return `${'*missing'.padEnd(columns + 31)} ${name}\n` // --delete-missing-args
  const size = bigNumber(entry.size, human).padStart(columns)
  const target = links && isSymlink(entry.mode) ? ` -> ${entry.target}` : ''
  return `${modeString(entry.mode)} ${size} ${timeString(entry.mtime)} ${name}${target}\n`
}

/** clientserver.c send_listing(): what a daemon answers to `#list`; the client prints the lines as they are. */
export const moduleLine = (name: string, comment: string) => `${name.padEnd(15)}\t${comment}\n`
