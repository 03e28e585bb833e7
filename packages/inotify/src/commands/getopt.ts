/** An option of a command line, as getopt_long(3) has it. */
export interface OptionSpec {
  long: string
  short?: string
  argument?: true
}

/** In the order in which getopt's messages name what an abbreviation may mean. */
const ORDER = (
  'event exclude excludei filename fanotify filesystem format fromfile inotify include includei ' +
  'no-dereference no-newline timeout timefmt'
).split(' ')
const rank = ({ long }: OptionSpec) => ORDER.indexOf(long)

/** What was wrong on the command line: one line or more, for standard error. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/**
 * Reads a command line as GNU getopt_long(3) does, down to its words: options anywhere among the operands, abbreviated long
 * ones, clusters of short ones, `--` as their end. `onOption` is called in order, and may throw. Returns the operands.
 * Throws UsageError.
 */
export function parseOptions(
  program: string,
  args: readonly string[],
  specs: readonly OptionSpec[],
  onOption: (long: string, value: string) => void,
): string[] {
  const operands: string[] = []
  const rest = [...args]
  const say = (problem: string) => new UsageError(`${program}: ${problem}`)
  const permutes = process.env.POSIXLY_CORRECT === undefined
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === '--') break
    if (arg.startsWith('--')) {
      const spec = longOption(arg, specs, say)
      const equals = arg.indexOf('=')
      if (spec.argument === undefined && equals >= 0) throw say(`option '--${spec.long}' doesn't allow an argument`)
      const value = spec.argument === undefined ? '' : equals >= 0 ? arg.slice(equals + 1) : rest.shift()
      if (value === undefined) throw say(`option '--${spec.long}' requires an argument`)
      onOption(spec.long, value)
    } else if (arg.startsWith('-') && arg !== '-') {
      shortOptions(arg, rest, specs, say, onOption)
    } else {
      operands.push(arg)
      if (!permutes) break
    }
  }
  return [...operands, ...rest]
}

function longOption(arg: string, specs: readonly OptionSpec[], say: (problem: string) => UsageError): OptionSpec {
  const name = arg.slice(2).split('=', 1)[0]!
  const matches = specs.filter(({ long }) => long.startsWith(name)).sort((a, b) => rank(a) - rank(b))
  const found = matches.find(({ long }) => long === name) ?? (matches.length === 1 ? matches[0] : undefined)
  if (found !== undefined) return found
  if (matches.length === 0) throw say(`unrecognized option '--${name}'`)
  throw say(`option '${arg}' is ambiguous; possibilities:${matches.map(({ long }) => ` '--${long}'`).join('')}`)
}

function shortOptions(
  cluster: string,
  rest: string[],
  specs: readonly OptionSpec[],
  say: (problem: string) => UsageError,
  onOption: (long: string, value: string) => void,
): void {
  for (let i = 1; i < cluster.length; i++) {
    const letter = cluster[i]!
    const spec = specs.find(({ short }) => short === letter)
    if (spec === undefined) throw say(`invalid option -- '${letter}'`)
    if (spec.argument === undefined) {
      onOption(spec.long, '')
      continue
    }
    const value = i + 1 < cluster.length ? cluster.slice(i + 1) : rest.shift()
    if (value === undefined) throw say(`option requires an argument -- '${letter}'`)
    onOption(spec.long, value)
    return
  }
}
