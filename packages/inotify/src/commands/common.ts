import { readFileSync } from 'node:fs'
import * as kernel from '../kernel.js'
import { fromBytes, type RawPath, toBytes } from '../raw-path.js'
import { expression } from './c-library.js'
import { eventNamed } from './event-names.js'
import { type OptionSpec, UsageError } from './getopt.js'

/** What both commands take. */
export const COMMON: readonly OptionSpec[] = [
  { long: 'help', short: 'h' },
  { long: 'exclude', argument: true },
  { long: 'excludei', argument: true },
  { long: 'include', argument: true },
  { long: 'includei', argument: true },
  { long: 'no-dereference', short: 'P' },
  { long: 'recursive', short: 'r' },
  { long: 'fromfile', argument: true },
  { long: 'timeout', short: 't', argument: true },
  { long: 'event', short: 'e', argument: true },
  { long: 'inotify', short: 'I' },
  { long: 'fanotify', short: 'F' },
  { long: 'filesystem', short: 'S' },
]

/** The options that both commands have, as they are met. */
export class Common {
  recursive = false
  followsLinks = true
  /** 0: none was asked for, and all are meant. */
  mask = 0
  /** Seconds; 0 or less: none. */
  timeout = 0
  /** The whole filesystem of each path, by fanotify. */
  filesystem = false
  /** What was read of it, for whoever goes on in our place. */
  standardInput: Buffer = Buffer.alloc(0)
  #fromFile: RawPath | undefined
  readonly #patterns = new Map<string, string>()
  /** Of which only the last one counts. */
  readonly #repeated = new Set<string>()

  /** `warn` takes a line that does not end the program; `onRepeated` is told of a pattern that replaces another. */
  constructor(
    readonly warn: (line: string) => void,
    readonly onRepeated: (option: string) => void = () => undefined,
  ) {}

  /** False when it is none of these. Throws UsageError. */
  take(option: string, value: string): boolean {
    if (option === 'recursive') this.recursive = true
    else if (option === 'no-dereference') this.followsLinks = false
    else if (option === 'event') this.mask |= eventsOf(value)
    else if (option === 'timeout') this.timeout = timeoutOf(value)
    else if (option === 'filesystem') this.filesystem = true
    else if (option === 'inotify' || option === 'fanotify')
      this.filesystem = false // of single paths both tell the same, and inotify tells whoever asks
    else if (option === 'fromfile') this.#setFromFile(value)
    else if (/^(ex|in)cludei?$/.test(option)) this.#addPattern(option, value)
    else return false
    return true
  }

  /** Throws UsageError when they do not go together. */
  check(): void {
    const has = (option: string) => this.#patterns.has(option)
    if (has('exclude') && has('excludei')) throw new UsageError('--exclude and --excludei cannot both be specified.')
    if (has('include') && has('includei')) throw new UsageError('--include and --includei cannot both be specified.')
    if ((has('exclude') || has('excludei')) && (has('include') || has('includei')))
      throw new UsageError('include and exclude regexp cannot both be specified.')
  }

  /** Whether events on this path are left out. Throws UsageError. */
  filter(): (path: string) => boolean {
    for (const option of this.#repeated) this.onRepeated(option)
    const [option, text] = [...this.#patterns][0] ?? []
    if (option === undefined || text === undefined) return () => false
    const kind = option.startsWith('exclude') ? 'exclude' : 'include'
    const matches = expression(text, option.endsWith('i'))
    if (matches === undefined) throw new UsageError(`Error in \`${kind}' regular expression.`)
    return (path) => matches(path) === (kind === 'exclude')
  }

  /** The paths to watch, and those that are left out (`@PATH`), of the command line and of a file. Throws UsageError. */
  paths(operands: readonly string[]): { watched: RawPath[]; excluded: Set<string> } {
    const all = [...this.#listed(), ...(operands as RawPath[])]
    const watched = all.filter((path) => path !== '' && !path.startsWith('@'))
    const excluded = new Set(all.filter((path) => path.startsWith('@')).map((path) => withoutSlash(path.slice(1))))
    if (watched.length === 0) throw new UsageError('No files specified to watch!')
    return { watched, excluded }
  }

  /** What is read beside the paths themselves. */
  get files(): string[] {
    return this.#fromFile === undefined || this.#fromFile === '-' ? [] : [this.#fromFile]
  }

  #setFromFile(value: string): void {
    if (this.#fromFile !== undefined) throw new UsageError('Multiple --fromfile options given.')
    this.#fromFile = value as RawPath
  }

  #listed(): RawPath[] {
    if (this.#fromFile === undefined) return []
    let bytes: Buffer
    try {
      bytes = readFileSync(this.#fromFile === '-' ? 0 : toBytes(this.#fromFile))
    } catch (error) {
      const { code, errno = 0 } = error as NodeJS.ErrnoException
      if (code !== 'EISDIR') this.warn(`Couldn't open ${this.#fromFile}: ${kernel.strerror(errno)}`)
      return []
    }
    if (this.#fromFile === '-') this.standardInput = bytes
    return fromBytes(bytes)
      .split('\n')
      .map((line) => line.split('\0', 1)[0] as RawPath)
  }

  #addPattern(option: string, value: string): void {
    if (this.#patterns.has(option)) this.#repeated.add(option)
    this.#patterns.set(option, value)
  }
}

const withoutSlash = (path: string): string => (path.endsWith('/') ? path.slice(0, -1) : path)

/** Node has decoded them as UTF-8; what was none cannot be had back but from the kernel. One character a byte. */
export function rawArguments(args: readonly string[]): string[] {
  if (!args.some((arg) => arg.includes('\ufffd'))) return args.map((arg) => Buffer.from(arg).toString('latin1'))
  return readFileSync('/proc/self/cmdline', 'latin1').split('\0').slice(0, -1).slice(-args.length)
}

function eventsOf(list: string): number {
  let mask = 0
  for (const name of list.split(',')) {
    if (name === '') continue
    const bits = eventNamed(name)
    if (bits === undefined) {
      const help = "Run with the '--help' option to see a list of events."
      throw new UsageError(`'${list}' is not a valid event!  ${help}`)
    }
    mask |= bits
  }
  return mask
}

function timeoutOf(text: string): number {
  const please = 'Please specify a long int value.'
  if (text === '') throw new UsageError(`The provided value is not a valid timeout value.\n${please}`)
  if (!/^\s*[+-]?\d+$/.test(text)) throw new UsageError(`'${text}' is not a valid timeout value.\n${please}`)
  const seconds = BigInt(text.trim().replace('+', ''))
  if (BigInt.asIntN(64, seconds) !== seconds) {
    const problem = 'Something went wrong with the timeout value you provided.'
    throw new UsageError(`${problem}\nNumerical result out of range`)
  }
  return Number(seconds)
}
