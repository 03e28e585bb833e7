import { compileWildcard, matchesWildcard } from '../filter/wildmatch.js'
import type { RawPath } from '../raw-path.js'
import type { Settings } from '../settings.js'

/**
 * flist.c and exclude.c, since 3.2.5: what a sender may send for what was asked of it. Each name must be one that was
 * asked for, or lie below it where that is allowed.
 */
export function requestedNames(
  paths: readonly RawPath[],
  settings: Settings,
  daemon: boolean,
): (path: RawPath) => boolean {
  if (settings.filesFrom !== null || settings.listOnly) return () => true
  const deep = settings.recursive
  if (settings.relative) return relativeNames(paths, deep, daemon)
  const patterns: ((name: string) => boolean)[] = []
  for (const path of paths) {
    const inside = path === '' || path.endsWith('/') || /(?:^|\/)\.\.?$/.test(path) || (daemon && !path.includes('/'))
    if (inside) return deep || settings.dirs ? (name) => deep || !name.includes('/') : (name) => name === ''
    patterns.push(pattern(path.slice(path.lastIndexOf('/') + 1)))
  }
  return (path) => {
    const slash = path.indexOf('/')
    if (slash >= 0 && !deep) return false
    const top = slash < 0 ? path : path.slice(0, slash)
    return top === '' || patterns.some((matches) => matches(top))
  }
}

/** -R: the way to what was asked for is sent, too. */
function relativeNames(paths: readonly RawPath[], deep: boolean, daemon: boolean): (path: RawPath) => boolean {
  const wanted = paths.map((path) => {
    const marker = path.indexOf('/./')
    const active =
      marker >= 0 ? path.slice(marker + 3) : daemon ? path.slice(path.indexOf('/') + 1 || path.length) : path
    return active
      .split('/')
      .filter((name) => name !== '' && name !== '.')
      .map(pattern)
  })
  return (path) => {
    if (path === '') return true
    const names = path.split('/')
    return wanted.some((parts) => {
      if (names.length > parts.length && !deep) return false
      return names.slice(0, parts.length).every((name, i) => parts[i](name))
    })
  }
}

/** Wildcards are expanded by the other end. */
function pattern(text: string): (name: string) => boolean {
  if (!/[*?[\\]/.test(text)) return (name) => name === text
  const wildcard = compileWildcard(text)
  if (wildcard === null) return (name) => name === text
  return (name) => name === text || matchesWildcard(wildcard, name, false)
}
