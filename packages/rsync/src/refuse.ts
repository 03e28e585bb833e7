import { compileWildcard, matchesWildcard } from './filter/wildmatch.js'
import { OPTIONS, type Option } from './option-table.js'

/** What no pattern with a wildcard refuses: a session needs them, or they harm nobody (options.c set_refuse_options()). */
const ONLY_BY_NAME = new Set(
  'rsh from0 secluded-args dry-run iconv no-iconv checksum-seed copy-devices write-devices log-format sender server'.split(
    ' ',
  ),
)
const PARTS_OF_ARCHIVE = '[ardlptgoD]'

/** The options that a daemon's module does not accept. */
export class Refusals {
  readonly #refused: ReadonlySet<Option>
  /** Those of `refuse options` that name nothing, for the log. */
  readonly unmatched: readonly string[]

  /** `patterns` is the value of `refuse options`: names, letters and wildcards, each with `!` where it is allowed after all. */
  constructor(patterns: string) {
    const refused = new Set(OPTIONS.filter(({ name }) => name === 'copy-devices' || name === 'write-devices'))
    const unmatched = []
    const words = patterns.split(' ').filter((word) => word !== '')
    // Where a daemon logs, and whether it converts names, is not for a client to say.
    for (const word of [...words, 'iconv', 'log-file*']) {
      const allowed = word.length > 1 && word.startsWith('!')
      const found = matching(allowed ? word.slice(1) : word)
      if (found === null) unmatched.push(allowed ? word.slice(1) : word)
      for (const option of found ?? []) allowed ? refused.delete(option) : refused.add(option)
    }
    this.#refused = refused
    this.unmatched = unmatched
  }

  /** The refusal of `option`, or of the option with this long name; null when it is accepted. */
  of(option: Option | string): string | null {
    const found = typeof option === 'string' ? OPTIONS.find(({ name }) => name === option) : option
    if (found === undefined || !this.#refused.has(found)) return null
    return `rsync: The server is configured to refuse ${describe(found)}`
  }

  /** -a is refused when anything is that it stands for. */
  ofArchive(): string | null {
    const parts = OPTIONS.filter(({ short }) => short !== null && 'rdlptgoD'.includes(short))
    return parts.map((option) => this.of(option)).findLast((text) => text !== null) ?? null
  }
}

export function describe({ name, short }: Option): string {
  if (name === null) return `-${short}`
  return short === null ? `--${name}` : `--${name} (-${short})`
}

/** Null when the pattern names nothing at all. */
function matching(pattern: string): Option[] | null {
  const wide = pattern === 'a' || pattern === 'archive' ? PARTS_OF_ARCHIVE : pattern
  const wildcard = compileWildcard(wide)
  const matches = (name: string) => wildcard !== null && matchesWildcard(wildcard, name, false)
  const found = OPTIONS.filter(
    ({ name, short }) => (name !== null && matches(name)) || (short !== null && matches(short)),
  )
  if (found.length === 0) return null
  if (!/[*?[]/.test(wide)) return found.slice(0, 1)
  return found.filter(({ name }) => name === null || !ONLY_BY_NAME.has(name))
}
