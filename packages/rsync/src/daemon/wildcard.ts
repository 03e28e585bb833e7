import { compileWildcard, matchesWildcard } from '../filter/wildmatch.js'

/** Whether all of `text`, a name of a user, group or host, is what `pattern` says. */
export function wildmatch(pattern: string, text: string): boolean {
  const wildcard = compileWildcard(pattern)
  return wildcard !== null && matchesWildcard(wildcard, text, false)
}
