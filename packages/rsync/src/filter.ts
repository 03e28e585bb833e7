import { ProtocolError } from './errors.js'
import { compile } from './filter/pattern.js'
import type { RawPath } from './raw-path.js'

export { DaemonFilter, daemonFilter, type ModuleFilter } from './filter/daemon.js'
export {
  decodeRule,
  encodeRules,
  type FilterArgument,
  FilterList,
  listTravels,
  PER_DIRECTORY_OPTION,
  receiveRules,
  type WireRole,
} from './filter/list.js'
export { PER_DIRECTORY_MAX, type Reading, RULE_FILE_MAX, RULES_MAX, readRuleFile } from './filter/reader.js'
export { FilterError, type Rule } from './filter/rule.js'
export { FilterScope } from './filter/scope.js'
export { FilterScopes } from './filter/scopes.js'

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
    this.#matchers = rules.map((rule) => ({ include: rule.include, matches: matcher(rule.pattern) }))
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

function matcher(text: string): (path: string, directory: boolean) => boolean {
  const directory = text.length > 1 && text.endsWith('/')
  const pattern = directory ? text.slice(0, -1) : text
  const matches = compile({ pattern, directory, absolute: false, negate: false })
  return (path, isDirectory) => matches(path, isDirectory, '')
}
