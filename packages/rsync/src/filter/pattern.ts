import { compileWildcard, matchesWildcard } from './wildmatch.js'

/** What exclude.c rule_matches() looks at. */
export interface PatternRule {
  /** Without the slash at its end. */
  pattern: string
  /** It had one: only directories match. */
  directory: boolean
  /** `/`: held against the path from the file system's (the module's) root, not from the transfer's. */
  absolute: boolean
  /** `!`: takes effect where the pattern does not match. */
  negate: boolean
}

/** `base` is where the transfer's root lies below the root, '' for the root itself; no path has a slash in front. */
export type Matches = (path: string, directory: boolean, base: string) => boolean

const isWild = (pattern: string) => /[*?[]/.test(pattern)

export function compile(rule: PatternRule): Matches {
  const matches = rule.pattern.includes('/') || rule.pattern.includes('**') ? compilePath(rule) : compileName(rule)
  if (!rule.directory && !rule.negate) return matches
  return (path, directory, base) => (matches(path, directory, base) && (directory || !rule.directory)) !== rule.negate
}

/** Without a slash, and without `**` which could be one, only the last name counts. */
function compileName({ pattern }: PatternRule): Matches {
  const matches = compileText(pattern)
  return (path) => matches(path.slice(path.lastIndexOf('/') + 1))
}

/** The common forms by what they are; the rest step by step. */
function compileText(pattern: string): (name: string) => boolean {
  const plain = !/[*?[\\]/.test(pattern.replace('*', ''))
  if (!isWild(pattern)) return (name) => name === pattern
  if (plain && pattern.startsWith('*')) return (name) => name.endsWith(pattern.slice(1))
  if (plain && pattern.endsWith('*')) return (name) => name.startsWith(pattern.slice(0, -1))
  return compileWhole(pattern)
}

function compilePath({ pattern, absolute }: PatternRule): Matches {
  const anchored = pattern.startsWith('/')
  const matches = anchored ? compileWhole(pattern.slice(1)) : compileFloating(pattern)
  // `**` in front may be the nothing before the first name, so the path gets a slash to match there.
  const slashFirst = pattern.startsWith('**')
  // `dir/***` is `dir` itself and everything below it.
  const andBelow = pattern.endsWith('***')
  return (path, directory, base) => {
    const text = absolute && base !== '' ? `${base}/${path}` : slashFirst ? `/${path}` : path
    return matches(andBelow && directory ? `${text}/` : text)
  }
}

function compileWhole(pattern: string): (text: string) => boolean {
  if (!isWild(pattern)) return (text) => text === pattern
  const wildcard = compileWildcard(pattern)
  return (text) => wildcard !== null && matchesWildcard(wildcard, text, false)
}

/** Held against the end of a path: with `**` behind every slash, else against as many names as it has. */
function compileFloating(pattern: string): (text: string) => boolean {
  if (!isWild(pattern)) return (text) => text === pattern || text.endsWith(`/${pattern}`)
  const wildcard = compileWildcard(pattern)
  if (wildcard === null) return () => false
  if (pattern.startsWith('**')) return (text) => matchesWildcard(wildcard, text, false)
  if (pattern.includes('**')) return (text) => matchesWildcard(wildcard, text, true)
  // A slash within a class counts as one, though no class takes it: such a pattern matches nothing.
  const names = pattern.split('/').length
  return (text) => {
    const end = lastNames(text, names)
    return end !== null && matchesWildcard(wildcard, end, false)
  }
}

/** The last `count` names of a path; null where it has not so many. */
function lastNames(path: string, count: number): string | null {
  let slash = path.length
  for (let left = count; left > 0; left--) {
    if (slash < 0) return null
    slash = path.lastIndexOf('/', slash - 1)
  }
  return path.slice(slash + 1)
}
