import { compileWildcard, matchesWildcard } from '../filter/wildmatch.js'
import type { RawPath } from '../raw-path.js'
import type { Settings } from '../settings.js'
import type { Expectation } from './receive.js'

type Matches = (name: string) => boolean

/**
 * flist.c and exclude.c, since 3.2.5: what a sender may send for what was asked of it. Each name must be one that was
 * asked for, or lie below it where that is allowed. `listed` are the names of --files-from, null where the sender has
 * them from a file of its own.
 */
export function requestedNames(
  paths: readonly RawPath[],
  listed: ReadonlySet<string> | null,
  settings: Settings,
  daemon: boolean,
): (path: RawPath) => Expectation {
  const { recursive: deep, filesFrom, relative, listOnly, dirs } = settings
  if (listOnly || (filesFrom !== null && listed === null)) return () => 'asked'
  const names = listed === null ? paths : ([...listed] as RawPath[])
  if (relative) return relativeNames(names, deep || dirs, deep, daemon && listed === null)
  const patterns: Matches[] = []
  let inside = false
  for (const path of names) {
    if (isContent(path, daemon && listed === null)) inside = true
    else patterns.push(pattern(path.slice(path.lastIndexOf('/') + 1)))
  }
  return (path) => {
    const slash = path.indexOf('/')
    if (slash >= 0 && !deep) return 'unasked'
    if (inside) return 'asked'
    const top = slash < 0 ? path : path.slice(0, slash)
    return top !== '' && patterns.some((matches) => matches(top)) ? 'asked' : 'unasked'
  }
}

/** `dir/`, `.`, `..` and a bare module ask for what is in it. */
const isContent = (path: string, daemon: boolean) =>
  path === '' || path.endsWith('/') || /(?:^|\/)\.\.?$/.test(path) || (daemon && !path.includes('/'))

/** -R: the way to what was asked for is sent, too. */
function relativeNames(
  paths: readonly RawPath[],
  withContent: boolean,
  deep: boolean,
  daemon: boolean,
): (path: RawPath) => Expectation {
  const wanted = new Map<string, { parts: Matches[] }[]>()
  let all = false
  for (const path of paths) {
    const names = activePart(path, daemon)
    if (names.length === 0) all = true
    const first = names.length > 0 && !isWild(names[0]) ? names[0] : ''
    const group = wanted.get(first) ?? []
    group.push({ parts: names.map(pattern) })
    wanted.set(first, group)
  }
  return (path) => {
    if (path === '') return all ? 'asked' : 'above'
    const names = path.split('/')
    if (all && (deep || (withContent && names.length === 1))) return 'asked'
    const candidates = [...(wanted.get(names[0]) ?? []), ...(wanted.get('') ?? [])]
    let found: Expectation = 'unasked'
    for (const { parts } of candidates) {
      if (!names.slice(0, parts.length).every((name, i) => parts[i](name))) continue
      const below = names.length - parts.length
      if (below === 0 || (below > 0 && deep) || (below === 1 && withContent)) return 'asked'
      if (below < 0) found = 'above'
    }
    return found
  }
}

function activePart(path: string, daemon: boolean): string[] {
  const marker = path.indexOf('/./')
  const active = marker >= 0 ? path.slice(marker + 3) : daemon ? path.slice(path.indexOf('/') + 1 || path.length) : path
  return active.split('/').filter((name) => name !== '' && name !== '.')
}

const isWild = (text: string) => /[*?[\\]/.test(text)

/** Wildcards are expanded by the other end. */
function pattern(text: string): Matches {
  if (!isWild(text)) return (name) => name === text
  const wildcard = compileWildcard(text)
  if (wildcard === null) return (name) => name === text
  return (name) => name === text || matchesWildcard(wildcard, name, false)
}
