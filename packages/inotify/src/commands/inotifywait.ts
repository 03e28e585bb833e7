import { spawn } from 'node:child_process'
import { closeSync, openSync, realpathSync } from 'node:fs'
import { IN } from '../events.js'
import * as kernel from '../kernel.js'
import { type RawPath, ROOT, toBytes } from '../raw-path.js'
import { syslog } from './c-library.js'
import { COMMON, Common, rawArguments } from './common.js'
import { watchFilesystem } from './filesystems.js'
import { type OptionSpec, parseOptions, UsageError } from './getopt.js'
import { waitHelp } from './help.js'
import { csvLine, formattedLine, isUsable, type Line, plainLine } from './lines.js'
import { print, say } from './output.js'
import { cannotWatch, openWatchList } from './problems.js'
import type { PathEvent } from './watch-list.js'

const EXIT = { EVENT: 0, FAILURE: 1, TIMEOUT: 2, USR1: 138 } as const

const OPTIONS: readonly OptionSpec[] = [
  ...COMMON,
  { long: 'monitor', short: 'm' },
  { long: 'daemon', short: 'd' },
  { long: 'quiet', short: 'q' },
  { long: 'csv', short: 'c' },
  { long: 'syslog', short: 's' },
  { long: 'filename', short: 'f' },
  { long: 'outfile', short: 'o', argument: true },
  { long: 'format', argument: true },
  { long: 'no-newline' },
  { long: 'timefmt', argument: true },
]

/** Set for the process in the background: it has standard output already. */
const DETACHED = 'SYNCLINE_INOTIFYWAIT_DETACHED'
const TIMER_MAX_MS = 2 ** 31 - 1

/** `inotifywait ARGS...`: prints events, and ends the process with 0 (an event), 1 (trouble) or 2 (time is up). */
export function inotifywait(program: string, args: readonly string[]): void {
  try {
    const settings = new Settings(program)
    const operands = parseOptions(program, rawArguments(args), OPTIONS, (option, value) => settings.take(option, value))
    settings.check()
    if (settings.daemon && process.env[DETACHED] === undefined) detach(settings, args, operands)
    else new Waiting(settings).begin(operands)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    say(error.message)
    process.exit(EXIT.FAILURE)
  }
}

class Settings {
  readonly common: Common
  monitor = false
  daemon = false
  syslog = false
  quiet = 0
  outfile: RawPath | undefined
  #csv = false
  #newline = true
  #format: string | undefined
  #timeFormat: string | undefined

  constructor(readonly program: string) {
    this.common = new Common(say, (option) => {
      if (option.startsWith('exclude')) say(`--${option}: only the last option will be taken into consideration.`)
    })
  }

  take(option: string, value: string): void {
    if (this.common.take(option, value)) return
    if (option === 'help') {
      print(1, waitHelp(this.program))
      process.exit(EXIT.FAILURE)
    } else if (option === 'monitor') this.monitor = true
    else if (option === 'daemon') this.monitor = this.daemon = this.syslog = true
    else if (option === 'quiet') this.quiet++
    else if (option === 'csv') this.#csv = true
    else if (option === 'syslog') this.syslog = true
    else if (option === 'outfile') {
      if (this.outfile !== undefined) throw new UsageError('Multiple --outfile options given.')
      this.outfile = value as RawPath
    } else if (option === 'format') this.#format = value
    else if (option === 'no-newline') this.#newline = false
    else if (option === 'timefmt') this.#timeFormat = value
    else
      throw new UsageError(
        "The '--filename' option no longer exists.  The option it enabled in earlier\nversions of inotifywait is now turned on by default.",
      )
  }

  /** Throws UsageError when they do not go together. */
  check(): void {
    this.common.check()
    const format = this.#format
    if (this.#csv && format !== undefined) throw new UsageError('-c and --format cannot both be specified.')
    if (!this.#newline && format === undefined)
      throw new UsageError('--no-newline cannot be specified without --format.')
    if (this.#timeFormat !== undefined && format === undefined)
      throw new UsageError('--timefmt cannot be specified without --format.')
    if (format?.includes('%T') && this.#timeFormat === undefined)
      throw new UsageError('%T is in --format string, but --timefmt was not specified.')
    if (this.daemon && this.outfile === undefined) throw new UsageError('-o must be specified with -d.')
    if (format !== undefined && !isUsable(format, this.#newline))
      throw new UsageError('Something is wrong with your format string.')
  }

  get line(): Line {
    if (this.#format !== undefined) return formattedLine(this.#format, this.#timeFormat, this.#newline)
    return this.#csv ? csvLine : plainLine
  }
}

/** Goes on in the background. Throws UsageError when the file is not there: whoever looks into it must find it. */
function detach(settings: Settings, args: readonly string[], operands: readonly string[]): void {
  settings.common.filter()
  const { watched } = settings.common.paths(operands)
  const file = settings.outfile ?? ROOT
  let out: number
  try {
    out = openSync(realpathSync.native(toBytes(file), 'buffer'), 'a', 0o600)
  } catch (error) {
    const { code, errno = 0 } = error as NodeJS.ErrnoException
    if (code !== 'EISDIR') throw new UsageError(`${kernel.strerror(errno)}: ${file}`)
    process.exit(EXIT.EVENT)
  }
  const { standardInput } = settings.common
  const [script = ''] = process.argv.slice(1)
  const before = process.argv.slice(2, process.argv.length - args.length)
  const child = spawn(process.execPath, [...process.execArgv, script, ...before, ...args], {
    detached: true,
    stdio: [standardInput.length > 0 ? 'pipe' : 'ignore', out, 'ignore'],
    env: { ...process.env, [DETACHED]: '1' },
    // No filesystem is held by it, unless a path is to be found from here.
    ...([...watched, ...settings.common.files].every((path) => path.startsWith('/')) && { cwd: '/' }),
  })
  child.unref()
  child.stdin?.end(standardInput)
  closeSync(out)
}

/** From the watches to the last event. */
class Waiting {
  readonly #settings: Settings
  /** What is printed. */
  readonly #asked: number
  readonly #line: Line
  #out = 1
  #timer: NodeJS.Timeout | undefined

  constructor(settings: Settings) {
    this.#settings = settings
    this.#asked = settings.common.mask || IN.ALL_EVENTS
    this.#line = settings.line
  }

  /** Throws UsageError. */
  begin(operands: readonly string[]): void {
    const { common, monitor, outfile } = this.#settings
    const hides = common.filter()
    if (common.filesystem) return this.#beginFilesystems(operands, hides)
    const grows = monitor && common.recursive
    const list = openWatchList({
      // New directories are told of even when nobody has asked for that.
      mask: this.#asked | (grows ? IN.MOVED_FROM | IN.MOVED_TO | IN.CREATE : 0),
      followsLinks: common.followsLinks,
      recursive: common.recursive,
      grows,
      hides,
      onEvents: (events) => this.#heard(events),
      onError: (error) => this.#fail(error.message),
      onUnwatched: (path, errno) => this.#say(`Couldn't watch new directory ${path}: ${kernel.strerror(errno)}`),
    })
    const { watched, excluded } = common.paths(operands)
    list.excluded = excluded
    if (outfile !== undefined && process.env[DETACHED] === undefined) this.#out = opened(outfile)
    const beware = '  Beware: since -r was given, this may take a while!'
    if (this.#settings.quiet === 0) this.#say(`Setting up watches.${common.recursive ? beware : ''}`)
    for (const path of watched) {
      const result = list.add(path)
      if (result < 0) this.#fail(cannotWatch("Couldn't watch", path, result))
    }
    this.#established()
  }

  #beginFilesystems(operands: readonly string[], hides: (path: string) => boolean): void {
    const { common, outfile, quiet } = this.#settings
    const { watched } = common.paths(operands)
    if (outfile !== undefined && process.env[DETACHED] === undefined) this.#out = opened(outfile)
    if (quiet === 0) this.#say('Setting up filesystem watches.')
    const heard = (events: PathEvent[]) => this.#heard(events)
    for (const path of watched) watchFilesystem(path, this.#asked, hides, heard, (error) => this.#fail(error.message))
    this.#established()
  }

  #established(): void {
    // Node would begin to listen for a debugger.
    process.on('SIGUSR1', () => process.exit(EXIT.USR1))
    if (this.#settings.quiet === 0) this.#say('Watches established.')
    this.#rearm()
  }

  #say(line: string): void {
    if (this.#settings.syslog) syslog(line)
    else say(line)
  }

  #fail(message: string): never {
    this.#say(message)
    process.exit(EXIT.FAILURE)
  }

  /** The clock starts anew with each event, also with one that nobody sees. */
  #rearm(): void {
    clearTimeout(this.#timer)
    const { timeout } = this.#settings.common
    if (timeout <= 0 || timeout * 1000 > TIMER_MAX_MS) return
    this.#timer = setTimeout(() => process.exit(EXIT.TIMEOUT), timeout * 1000)
  }

  #heard(events: PathEvent[]): void {
    this.#rearm()
    const { monitor } = this.#settings
    let text = ''
    for (const event of events) {
      if (event.mask & IN.Q_OVERFLOW) this.#say('The queue of the kernel overflowed: events are missing here.')
      const asked = (event.mask & (this.#asked | IN.Q_OVERFLOW) & ~IN.ISDIR) !== 0
      if (asked) text += this.#line(event)
      if (monitor) continue
      this.#print(text)
      process.exit(asked && !(event.mask & IN.Q_OVERFLOW) ? EXIT.EVENT : EXIT.FAILURE)
    }
    this.#print(text)
  }

  #print(text: string): void {
    if (text === '' || this.#settings.quiet > 1) return
    print(this.#out, text)
  }
}

function opened(file: RawPath): number {
  try {
    return openSync(toBytes(file), 'a', 0o600)
  } catch {
    throw new UsageError(`Failed to open output file ${file}`)
  }
}
