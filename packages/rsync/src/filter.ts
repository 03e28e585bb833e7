import { ProtocolError } from './errors.js'
import type { RawPath } from './raw-path.js'

/** One rule of rsync's pattern language: `- PATTERN` hides and protects, `+ PATTERN` lets through. */
export interface FilterRule {
  include: boolean
  /** As it travels: latin1, with its leading and trailing slash. */
  pattern: string
}

/** A regular expression that is held against the whole of a path, as latin1. */
export interface Expression {
  /** As it was written. */
  source: string
  matches(path: string): boolean
}

/** The first rule that matches decides; what no rule matches is included (exclude.c check_filter()). */
export class Filter {
  readonly #matchers: { include: boolean; matches: (path: string, directory: boolean) => boolean }[]

  /**
   * `expressions` hide more, here alone: a receiver knows nothing of them. Each is held against every form in which
   * sersync held them against an entry: `name` at the top and `/sub/name` below it, `name/` and `sub/name/` for directories.
   */
  constructor(
    readonly rules: readonly FilterRule[],
    readonly expressions: readonly Expression[] = [],
  ) {
    this.#matchers = rules.map((rule) => ({ include: rule.include, matches: compile(rule.pattern) }))
  }

  /** Whether this entry itself is hidden; an entry below a hidden directory is hidden too, see `hidesBelow`. */
  excludes(path: RawPath, directory: boolean): boolean {
    for (const { include, matches } of this.#matchers) if (matches(path, directory)) return !include
    if (this.expressions.length === 0) return false
    const forms = [path.includes('/') ? `/${path}` : path]
    if (directory) forms.push(`${path}/`)
    return this.expressions.some((expression) => forms.some((form) => expression.matches(form)))
  }

  /** Whether `path` or any directory above it is hidden. */
  hides(path: RawPath, directory: boolean): boolean {
    if ((this.#matchers.length === 0 && this.expressions.length === 0) || path === '') return false
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      if (this.excludes(path.slice(0, slash) as RawPath, true)) return true
    }
    return this.excludes(path, directory)
  }
}

/** Reads what --exclude-from reads: a pattern a line, `+ ` and `- ` in front, `#` and `;` lines are comments. */
export function parseRules(text: string, include: boolean): FilterRule[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line !== '' && !/^[#;]/.test(line))
    .map((line) => parseRule(line, include))
}

/** One pattern as given to --exclude or --include: `+ P` and `- P` override which of the two it is. */
export function parseRule(text: string, include: boolean): FilterRule {
  const prefix = /^([+-]) (.*)$/s.exec(text)
  const rule = prefix ? { include: prefix[1] === '+', pattern: prefix[2] } : { include, pattern: text }
  if (rule.pattern === '' || rule.pattern === '/') throw new ProtocolError('filter rule', `empty pattern in "${text}"`)
  return rule
}

/** exclude.c get_rule_prefix(): how a rule is written for the receiver. */
export function ruleText(rule: FilterRule): string {
  return `${rule.include ? '+' : '-'} ${rule.pattern}`
}

/** exclude.c rule_matches() */
function compile(pattern: string): (path: string, directory: boolean) => boolean {
  const directoryOnly = pattern.length > 1 && pattern.endsWith('/')
  const anchored = pattern.startsWith('/')
  let body = pattern.slice(anchored ? 1 : 0, directoryOnly ? -1 : undefined)
  // `dir/***` is `dir` itself and everything below it.
  const andBelow = body.endsWith('/***')
  if (andBelow) body = body.slice(0, -4)
  const wholePath = anchored || andBelow || body.includes('/') || body.includes('**')
  // `**` in front also matches the empty path before the first name, so the path gets a slash to match there.
  const slashFirst = !anchored && body.startsWith('**')
  const start = !wholePath || anchored || slashFirst ? '^' : '(?:^|/)'
  const regex = regexOrNothing(`${start}${wildcardSource(body)}${andBelow ? '/.*' : ''}$`)
  return (path, directory) => {
    if (directoryOnly && !directory) return false
    if (!wholePath) return regex.test(path.slice(path.lastIndexOf('/') + 1))
    return regex.test(`${slashFirst ? '/' : ''}${path}${andBelow && directory ? '/' : ''}`)
  }
}

/** A class such as `[z-a]` is empty: it matches nothing. */
function regexOrNothing(source: string): RegExp {
  try {
    return new RegExp(source, 's')
  } catch {
    return /(?!)/
  }
}

/** lib/wildmatch.c: `*` stops at a slash, `**` does not, `?` is one character but a slash, `[...]` a class. */
function wildcardSource(pattern: string): string {
  // Without a wildcard a backslash is an ordinary character (rsync(1) PATTERN MATCHING RULES).
  if (!/[*?[]/.test(pattern)) return escapeRegex(pattern)
  let source = ''
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]
    if (c === '*') {
      let stars = 1
      while (pattern[i + 1] === '*') {
        stars++
        i++
      }
      source += stars > 1 ? '.*' : '[^/]*'
    } else if (c === '?') source += '[^/]'
    else if (c === '\\' && i + 1 < pattern.length) source += escapeRegex(pattern[++i])
    else if (c === '[') {
      const end = classEnd(pattern, i)
      source += end < 0 ? '(?!)' : characterClass(pattern.slice(i + 1, end))
      if (end >= 0) i = end
      else break // an unclosed class matches nothing
    } else source += escapeRegex(c)
  }
  return source
}

function classEnd(pattern: string, start: number): number {
  let i = start + 1
  if (pattern[i] === '!' || pattern[i] === '^') i++
  if (pattern[i] === ']') i++
  for (; i < pattern.length; i++) {
    if (pattern[i] === '\\') i++
    else if (pattern[i] === '[' && pattern[i + 1] === ':') i = Math.max(i, pattern.indexOf(':]', i + 2) + 1)
    else if (pattern[i] === ']') return i
  }
  return -1
}

const POSIX_CLASS: Record<string, string> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: ' \\t',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: ' \\t-\\r',
  upper: 'A-Z',
  xdigit: '0-9A-Fa-f',
}

function characterClass(body: string): string {
  const negated = body.startsWith('!') || body.startsWith('^')
  let inner = ''
  for (let i = negated ? 1 : 0; i < body.length; i++) {
    const posix = /^\[:(\w+):\]/.exec(body.slice(i))
    if (posix && POSIX_CLASS[posix[1]] !== undefined) {
      inner += POSIX_CLASS[posix[1]]
      i += posix[0].length - 1
    } else if (body[i] === '\\' && i + 1 < body.length) inner += escapeClass(body[++i])
    else if (body[i] === '-' && inner !== '' && i + 1 < body.length) inner += '-'
    else inner += escapeClass(body[i])
  }
  // A class never matches a slash.
  return `(?!/)[${negated ? '^' : ''}${inner}]`
}

const escapeRegex = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
const escapeClass = (c: string) => (/[\\\]^[-]/.test(c) ? `\\${c}` : c)
