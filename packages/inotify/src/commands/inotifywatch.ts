import { IN } from '../events.js'
import * as kernel from '../kernel.js'
import { COMMON, Common, rawArguments } from './common.js'
import { COLUMNS, eventNamed } from './event-names.js'
import { watchFilesystem } from './filesystems.js'
import { type OptionSpec, parseOptions, UsageError } from './getopt.js'
import { watchHelp } from './help.js'
import { print, say } from './output.js'
import { cannotWatch, openWatchList } from './problems.js'
import type { PathEvent, WatchList } from './watch-list.js'

const OPTIONS: readonly OptionSpec[] = [
  ...COMMON,
  { long: 'verbose', short: 'v' },
  { long: 'zero', short: 'z' },
  { long: 'ascending', short: 'a', argument: true },
  { long: 'descending', short: 'd', argument: true },
]

/** `inotifywatch ARGS...`: counts events, and ends the process with 0, or with 1 when something failed. */
export function inotifywatch(program: string, args: readonly string[]): void {
  try {
    const settings = new Settings(program)
    const operands = parseOptions(program, rawArguments(args), OPTIONS, (option, value) => settings.take(option, value))
    settings.check()
    new Counting(settings).begin(operands)
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    say(error.message)
    process.exit(1)
  }
}

class Settings {
  readonly common: Common
  verbose = false
  zero = false
  /** 0 is the total. */
  sortBit = 0
  sign: 1 | -1 = -1
  #sorted = false

  constructor(readonly program: string) {
    this.common = new Common(say)
  }

  get mask(): number {
    return this.common.mask || IN.ALL_EVENTS
  }

  take(option: string, value: string): void {
    if (this.common.take(option, value)) return
    if (option === 'help') {
      print(1, watchHelp(this.program))
      process.exit(1)
    } else if (option === 'verbose') this.verbose = true
    else if (option === 'zero') this.zero = true
    else this.#sortBy(value, option === 'ascending' ? 1 : -1)
  }

  /** Throws UsageError when they do not go together. */
  check(): void {
    if (this.sortBit !== 0 && !(this.sortBit & this.mask))
      throw new UsageError("Can't sort by an event which isn't being watched for!")
    this.common.check()
  }

  #sortBy(key: string, sign: 1 | -1): void {
    if (this.#sorted) throw new UsageError('Please specify -a or -d once only!')
    this.#sorted = true
    this.sign = sign
    const name = key.toLowerCase()
    const [from, to] = name === 'move' ? ['moved_from', 'moved_to'] : ['close_write', 'close_nowrite']
    if (sign > 0 && (name === 'move' || name === 'close'))
      throw new UsageError(`Cannot sort by \`${name}' event; please use \`${from}' or \`${to}'.`)
    if (name === 'total' || name === '') return
    const bit = eventNamed(name)
    if (bit === undefined) throw new UsageError(`'${key}' is not a valid key for sorting!`)
    this.sortBit = bit
  }
}

interface Row {
  total: number
  counts: Map<number, number>
}

/** From the watches to the table. */
class Counting {
  readonly #settings: Settings
  readonly #rows = new Map<string, Row>()
  #list: WatchList | undefined
  #reports = 0

  constructor(settings: Settings) {
    this.#settings = settings
  }

  /** Throws UsageError. */
  begin(operands: readonly string[]): void {
    const { common, mask, verbose } = this.#settings
    const { recursive, followsLinks } = common
    const hides = common.filter()
    if (common.filesystem) return this.#beginFilesystems(operands, hides)
    const list = openWatchList({
      mask,
      followsLinks,
      recursive,
      grows: recursive,
      hides,
      onEvents: (events) => this.#count(events),
      onError: (error) => fail(error.message),
      onUnwatched: (path, errno) => say(`Couldn't watch new directory ${path}: ${kernel.strerror(errno)}`),
      onGone: (path) => void this.#rows.delete(path),
      onRenamed: (from, to) => this.#rename(from, to),
    })
    this.#list = list
    const { watched, excluded } = common.paths(operands)
    list.excluded = excluded
    say('Establishing watches...')
    for (const path of watched) {
      if (verbose && recursive) say(`Setting up watch(es) on ${path}`)
      const result = list.add(path)
      if (result < 0) fail(cannotWatch('Failed to watch', path, result))
      if (verbose && recursive) say(`OK, ${path} is now being watched.`)
    }
    if (verbose) say(`Total of ${list.count} watches.`)
    for (const path of list.watched) this.#rowOf(path)
    this.#listen()
  }

  #beginFilesystems(operands: readonly string[], hides: (path: string) => boolean): void {
    const { common, mask } = this.#settings
    const { watched } = common.paths(operands)
    say('Establishing watches...')
    const count = (events: PathEvent[]) => this.#count(events)
    for (const path of watched) watchFilesystem(path, mask, hides, count, (error) => fail(error.message))
    this.#listen()
  }

  #listen(): void {
    const { common, verbose } = this.#settings
    const finish = () => {
      this.#report()
      process.exit(0)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, finish)
    process.on('SIGUSR1', () => this.#report())
    say('Finished establishing watches, now collecting statistics.')
    if (common.timeout <= 0) return
    if (verbose) say(`Will listen for events for ${common.timeout} seconds.`)
    if (common.timeout * 1000 < 2 ** 31) setTimeout(finish, common.timeout * 1000)
  }

  #rowOf(path: string): Row {
    let row = this.#rows.get(path)
    if (row === undefined) {
      row = { total: 0, counts: new Map() }
      this.#rows.set(path, row)
    }
    return row
  }

  #count(events: readonly PathEvent[]): void {
    for (const { watched, mask } of events) {
      if (mask & IN.Q_OVERFLOW) {
        say('The queue of the kernel overflowed: events are missing in the table.')
        continue
      }
      const row = this.#rowOf(watched)
      row.total++
      for (const [, bit] of COLUMNS) if (mask & bit) row.counts.set(bit, (row.counts.get(bit) ?? 0) + 1)
    }
  }

  #rename(from: string, to: string): void {
    const rows = [...this.#rows]
    this.#rows.clear()
    for (const [path, row] of rows) this.#rows.set(path.startsWith(from) ? to + path.slice(from.length) : path, row)
  }

  #report(): void {
    const { zero, sortBit, sign, mask } = this.#settings
    if (this.#reports++ > 0) print(1, '\n')
    for (const path of this.#list?.watched ?? []) this.#rowOf(path)
    const rows = [...this.#rows].filter(([, { total }]) => zero || total > 0)
    if (![...this.#rows.values()].some(({ total }) => total > 0)) return say('No events occurred.')
    const value = ({ total, counts }: Row) => (sortBit === 0 ? total : (counts.get(sortBit) ?? 0))
    rows.sort(([, a], [, b]) => sign * (value(a) - value(b)))
    const shown = COLUMNS.filter(([, bit]) => mask & bit && (zero || rows.some(([, { counts }]) => counts.has(bit))))
    const columns: [string, (row: Row) => number][] = [
      ['total', ({ total }) => total],
      ...shown.map(([name, bit]): [string, (row: Row) => number] => [name, ({ counts }) => counts.get(bit) ?? 0]),
    ]
    // A number that is wider than its heading moves what is behind it, as it always did.
    const line = (cells: (string | number)[], last: string) =>
      `${cells.map((cell, i) => `${`${cell}`.padEnd(columns[i]![0].length)}  `).join('')}${last}\n`
    print(
      1,
      line(
        columns.map(([name]) => name),
        'filename',
      ),
    )
    for (const [path, row] of rows)
      print(
        1,
        line(
          columns.map(([, of]) => of(row)),
          path,
        ),
      )
  }
}

function fail(message: string): never {
  say(message)
  process.exit(1)
}
