import { compileWildcard, matchesWildcard } from './filter/wildmatch.js'
import type { RawPath } from './raw-path.js'
import type { Settings } from './settings.js'

type Quoting = Pick<Settings, 'oldArgs' | 'secludedArgs'>

const SHELL_CHARS = /[!#$&;|<>(){}"'` \t\n\r\\]/g
const SHELL_AND_WILD_CHARS = /[!#$&;|<>(){}"'` \t\n\r\\*?[\]]/g

/** The value of an option, for the shell at the other end, or for a daemon, which takes backslashes out as a shell does. */
export function escapeValue(text: string, { oldArgs, secludedArgs }: Quoting): string {
  return secludedArgs || oldArgs > 1 ? text : text.replace(SHELL_AND_WILD_CHARS, '\\$&')
}

/** -M's options: whoever asks for --old-args wants them split by the shell. */
export function escapeRemoteOption(text: string, { oldArgs, secludedArgs }: Quoting): string {
  return secludedArgs || oldArgs > 0 ? text : text.replace(SHELL_AND_WILD_CHARS, '\\$&')
}

/**
 * A path that goes through a remote shell: wildcards are left for it to expand (options.c safe_arg()). A daemon that is
 * reached by a socket gets paths as they are.
 */
export function escapePath(path: string, settings: Settings, serverSends: boolean): string {
  const quoted = settings.secludedArgs || settings.oldArgs > 0 ? path : escapeShell(path, settings, serverSends)
  if (quoted === '') return '.'
  return path.startsWith('-') ? `./${quoted}` : quoted
}

function escapeShell(path: string, settings: Settings, serverSends: boolean): string {
  // A backslash in front of a wildcard is the user's own quoting of it.
  const escaped = path.replace(SHELL_CHARS, (c, at) =>
    c === '\\' && /^[*?[\]]/.test(path.slice(at + 1)) ? c : `\\${c}`,
  )
  return serverSends && namesHome(path, settings) ? `\\${escaped}` : escaped
}

/** The shell would turn `~` into a name that was not asked for, and the list that comes back would be refused. */
function namesHome(path: string, { relative, filesFrom }: Settings): boolean {
  if (!path.startsWith('~') || filesFrom?.startsWith(':')) return false
  return !path.includes('/') || (relative && !path.includes('/./'))
}

/** What a daemon makes of each argument in front of the `.` (clientserver.c, since 3.4.4): as a shell would. */
export const unescapeArgument = (text: string) => text.replace(/\\(.)/gs, '$1')

/**
 * The paths inside the module that one argument behind the `.` asks for. Old clients put several into one, each with the
 * module's name in front (util1.c glob_expand_module()).
 */
export function requestedPaths(module: string, argument: string): string[] {
  const paths = argument.split(` ${module}/`)
  if (paths[0] === module) paths[0] = ''
  else if (paths[0].startsWith(`${module}/`)) paths[0] = paths[0].slice(module.length + 1)
  return paths
}

const hasWildcard = (text: string) => /[*?[]/.test(text)

/** What wildcards may still cost: directories that are listed, and names that are found. */
export interface Budget {
  listings: number
  names: number
}

/**
 * The names that a requested path stands for: its wildcards are held against what `list` finds in a directory ('' is
 * the root; null where there is none). What matches nothing stands for itself, and so does what the budget is too small
 * for. Without a wildcard a backslash is an ordinary character (util1.c glob_expand()).
 */
export function expandPath(
  path: string,
  list: (directory: RawPath) => readonly string[] | null,
  budget: Budget = { listings: 10_000, names: 100_000 },
): RawPath[] {
  const literal = [path as RawPath]
  if (!hasWildcard(path)) return literal
  let found = [path.startsWith('/') ? '/' : '']
  for (const part of withoutUps(path)) {
    if (!hasWildcard(part)) {
      found = found.map((directory) => below(directory, part))
      continue
    }
    const next: string[] = []
    for (const directory of found) {
      if (--budget.listings < 0) return literal
      for (const name of matching(directory, part, list)) next.push(name)
      if (next.length > budget.names) return literal
    }
    found = next
  }
  budget.names -= found.length
  if (found.length === 0) return literal
  return found.map((one) => (path.endsWith('/') ? `${one}/` : one) as RawPath)
}

/** `..` takes back what stands before it: it is no way to have the same names counted again and again. */
function withoutUps(path: string): string[] {
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '..') parts.pop()
    else if (part !== '' && part !== '.') parts.push(part)
  }
  return parts
}

const below = (directory: string, name: string) =>
  directory === '' || directory === '/' ? `${directory}${name}` : `${directory}/${name}`

function matching(directory: string, part: string, list: (directory: RawPath) => readonly string[] | null): string[] {
  const names = list(directory as RawPath)
  const wildcard = compileWildcard(part)
  if (names === null || wildcard === null) return []
  // As in a shell, a hidden name must be asked for by its dot.
  return names
    .filter((name) => (part.startsWith('.') || !name.startsWith('.')) && matchesWildcard(wildcard, name, false))
    .map((name) => below(directory, name))
    .sort()
}
