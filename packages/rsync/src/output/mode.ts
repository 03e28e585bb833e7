import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK } from '../wire/constants.js'

const TYPES: Record<number, string> = {
  [S_IFDIR]: 'd',
  [S_IFLNK]: 'l',
  [S_IFBLK]: 'b',
  [S_IFCHR]: 'c',
  [S_IFIFO]: 'p',
  [S_IFSOCK]: 's',
}

/** As ls(1) shows it: `drwxr-sr-t`. */
export function modeString(mode: number): string {
  const type = TYPES[mode & S_IFMT] ?? '-'
  return (
    type +
    triple(mode >> 6, mode & 0o4000, 's') +
    triple(mode >> 3, mode & 0o2000, 's') +
    triple(mode, mode & 0o1000, 't')
  )
}

function triple(bits: number, special: number, letter: string): string {
  const executable = (bits & 1) !== 0
  const last = special ? (executable ? letter : letter.toUpperCase()) : executable ? 'x' : '-'
  return (bits & 4 ? 'r' : '-') + (bits & 2 ? 'w' : '-') + last
}
