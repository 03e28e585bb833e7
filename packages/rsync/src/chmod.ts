import type { ChmodRule } from './settings.js'

const S_IFMT = 0o170000
const S_IFDIR = 0o040000
const ALL_BITS = 0o7777
/** Who is meant, as the lowest bit of his three and as his bit in front of them. */
const WHO: Record<string, { where: number; top: number }> = {
  u: { where: 0o100, top: 0o4000 },
  g: { where: 0o010, top: 0o2000 },
  o: { where: 0o001, top: 0 },
  a: { where: 0o111, top: 0o6000 },
}
const SHIFT: Record<string, number> = { u: 6, g: 3, o: 0 }
const RWX: Record<string, number> = { r: 4, w: 2, x: 1, X: 1 }

/** --chmod: rules behind commas, each chmod(1)'s with D or F in front. Null where it is not one (chmod.c parse_chmod()). */
export function parseChmod(text: string): ChmodRule[] | null {
  const rules = text.split(',').map(parseOne)
  return rules.includes(null) ? null : (rules as ChmodRule[])
}

/** What `rules` make of `mode`, file type and all; the umask is held against what names nobody. */
export function changeMode(rules: readonly ChmodRule[], mode: number, umask: number): number {
  const directory = (mode & S_IFMT) === S_IFDIR
  let bits = mode & ALL_BITS
  for (const { to, apply } of rules) {
    // X asks for what was executable before the first rule.
    if (to === 'all' || (to === 'directories') === directory) bits = apply(bits, mode, umask)
  }
  return (mode & S_IFMT) | bits
}

function parseOne(text: string): ChmodRule | null {
  const octal = /^([DF]?)([0-7]{1,4})$/.exec(text)
  if (octal) return { to: target(octal[1]), apply: () => Number.parseInt(octal[2], 8) }
  // D and F may stand between the letters of who is meant, as often as one likes, but not both.
  const symbolic = /^((?:[DFugoa])*)([-+=])([rwxXst]*|[ugo])$/.exec(text)
  if (!symbolic || /D.*F|F.*D/.test(symbolic[1])) return null
  const [, left, operator, right] = symbolic
  const who = [...left].filter((c) => WHO[c])
  return { to: target(left), apply: (bits, mode, umask) => change(bits, mode, umask, who, operator, right) }
}

const target = (prefix: string) => (/D/.test(prefix) ? 'directories' : /F/.test(prefix) ? 'files' : 'all')

function change(bits: number, mode: number, umask: number, who: string[], operator: string, right: string): number {
  const where = who.reduce((sum, c) => sum | WHO[c].where, 0) || 0o111
  const top = who.reduce((sum, c) => sum | WHO[c].top, 0)
  const copied = SHIFT[right] !== undefined
  const rwx = copied ? (bits >> SHIFT[right]) & 7 : rightBits(right, mode)
  const masked = (where * rwx) & ~(who.length === 0 ? umask : 0)
  const special = (right.includes('s') ? top || 0o4000 : 0) | (right.includes('t') ? 0o1000 : 0)
  if (operator === '+') return bits | masked | special
  if (operator === '-') return bits & ~(masked | special)
  // `=` leaves the bits in front alone unless the right side speaks of such, or copies.
  const cleared = copied ? inFrontOf(where) : special ? top : 0
  return (bits & ~((where * 7) | cleared)) | masked | special
}

/** setuid, setgid and sticky go with user, group and others. */
const inFrontOf = (where: number) => ((where >> 6) & 1) * 0o4000 + ((where >> 3) & 1) * 0o2000 + (where & 1) * 0o1000

function rightBits(right: string, mode: number): number {
  const keepsX = (mode & S_IFMT) === S_IFDIR || (mode & 0o111) !== 0
  return [...right].reduce((sum, c) => sum | (c === 'X' && !keepsX ? 0 : (RWX[c] ?? 0)), 0)
}
