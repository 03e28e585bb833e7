import { ProtocolError } from '../errors.js'
import type { RawPath } from '../raw-path.js'
import type { Cursor } from '../wire/cursor.js'
import type { Writer } from '../wire/writer.js'
import { LINE_MAX, OPTIONS, type Place, type Reading, RULES_MAX, RuleReader } from './reader.js'
import { FilterError, PLAIN, type Rule, ruleText } from './rule.js'
import { FilterScope, hasXattrRules } from './scope.js'

/** What -F adds the first time, and the second. */
export const PER_DIRECTORY_OPTION = [': /.rsync-filter', '- .rsync-filter'] as const

/** An option that gives rules, in the order of the command line. */
export interface FilterArgument {
  option: 'filter' | 'exclude' | 'include' | 'exclude-from' | 'include-from'
  /** A rule, a pattern, or the file that holds them. */
  text: string
  /** --from0 and --delete-excluded had been given by then: rsync reads each rule as soon as it meets it. */
  from0?: boolean
  deleteExcluded?: boolean
}

/** What decides whether the rules travel, and which. */
export interface WireRole {
  /** The client is the sender. Only a client sends rules. */
  sender: boolean
  delete: boolean
  deleteExcluded: boolean
  pruneEmptyDirs: boolean
}

/** All rules in the order of the options that gave them. Each method returns a list with more at its end. */
export class FilterList {
  constructor(readonly rules: readonly Rule[] = []) {}

  /** All of a command line's; where an argument does not say, `how` says for it. */
  static of(given: readonly FilterArgument[], how: Reading): FilterList {
    return given.reduce((list, { option, text, from0, deleteExcluded }) => {
      const then = { ...how, from0: from0 ?? how.from0, deleteExcluded: deleteExcluded ?? how.deleteExcluded }
      if (option === 'filter') return list.filter(text, then)
      const include = option.startsWith('include')
      return option.endsWith('-from') ? list.file(text, include, then) : list.pattern(text, include, then)
    }, new FilterList())
  }

  /** --filter=TEXT. A FilterError says in rsync's words what is wrong with it. */
  filter(text: string, how: Reading): FilterList {
    return this.#read(how, (reader) => reader.text(text, PLAIN, 'new'))
  }

  /** --exclude=TEXT, --include=TEXT */
  pattern(text: string, include: boolean, how: Reading): FilterList {
    return this.#read(how, (reader) => reader.text(text, { ...PLAIN, include }, 'old'))
  }

  /** --exclude-from=FILE, --include-from=FILE */
  file(file: string, include: boolean, how: Reading): FilterList {
    return this.#read(how, (reader) => reader.mustHave(file, { ...PLAIN, include }, 'old', reader.place))
  }

  /** -C. A client that sends adds this before `toWire`, one that receives after it. */
  cvs(how: Reading): FilterList {
    return this.filter(':C', how).filter('-C', how)
  }

  /** There are per-directory files: only the sender knows what they hide, so a receiver has to believe it. */
  get perDirectory(): boolean {
    return this.rules.some(({ kind }) => kind === 'dir-merge')
  }

  get filtersXattrs(): boolean {
    return hasXattrRules(this.rules)
  }

  /** The rules in force where a transfer begins; `base` is its root, absolute from the file system's or the module's. */
  at(base: RawPath, how: Reading): FilterScope {
    const rules = how.deleteExcluded ? this.rules.map(hideOnly) : this.rules
    return FilterScope.begin(rules, base, how)
  }

  /** exclude.c send_filter_list(): what a client tells the server, null where it sends no list at all. */
  toWire(role: WireRole): string[] | null {
    return listTravels(role) ? wireTexts(this.rules, role) : null
  }

  /** exclude.c recv_filter_list() */
  static fromWire(texts: readonly string[], how: Reading): FilterList {
    // A client resolves the files that it names; one that would have ours read is not rsync.
    const place: Place = { ...OPTIONS, file: () => null }
    try {
      return new FilterList().#read(how, (reader) => {
        for (const text of texts) reader.text(text, PLAIN, 'new', place)
      })
    } catch (error) {
      if (error instanceof FilterError) throw new ProtocolError('filter list', error.message, { cause: error })
      throw error
    }
  }

  #read(how: Reading, read: (reader: RuleReader) => void): FilterList {
    const reader = new RuleReader(how, OPTIONS)
    reader.rules = [...this.rules]
    read(reader)
    return new FilterList(reader.rules)
  }
}

/** Whether the server waits for a list: a receiver only needs one when it deletes. */
export const listTravels = ({ sender, delete: deletes, pruneEmptyDirs }: WireRole): boolean =>
  !sender || deletes || pruneEmptyDirs

/** exclude.c send_rules(): what is for this side alone stays here. */
function wireTexts(rules: readonly Rule[], role: WireRole): string[] {
  return rules.flatMap((rule) => {
    if (!travels(rule, role)) return []
    if (rule.kind === 'cvs' && role.sender) return wireTexts(rule.rules, role)
    return [ruleText(rule)]
  })
}

function travels(rule: Rule, { sender, deleteExcluded }: WireRole): boolean {
  if (rule.sender !== rule.receiver) return rule.receiver === sender
  if (rule.sender || !deleteExcluded) return true
  // A per-directory file with prefixes may name sides itself.
  return !sender || (rule.kind === 'dir-merge' && !rule.noPrefixes)
}

/** --delete-excluded: a rule that names no side does not protect. */
function hideOnly(rule: Rule): Rule {
  return rule.kind === 'dir-merge' || rule.sender || rule.receiver ? rule : { ...rule, sender: true }
}

const LIST_BYTES_MAX = 1 << 22

/** One rule behind its length; null for the end of the list. */
export function decodeRule(c: Cursor): string | null {
  const length = c.i32()
  if (length === 0) return null
  if (length < 0 || length > LINE_MAX) throw new ProtocolError('filter list', `a rule of ${length} bytes`)
  const text = c.bytes(length).toString('latin1')
  if (text.includes('\0')) throw new ProtocolError('filter list', 'a rule with a NUL in it')
  return text
}

/** A whole list, as `next` receives it rule by rule. */
export async function receiveRules(next: () => Promise<string | null>): Promise<string[]> {
  const texts: string[] = []
  for (let bytes = 0; ; ) {
    const text = await next()
    if (text === null) return texts
    bytes += text.length
    if (texts.push(text) > RULES_MAX || bytes > LIST_BYTES_MAX) throw new ProtocolError('filter list', 'too many rules')
  }
}

export function encodeRules(w: Writer, texts: readonly string[]): void {
  for (const text of texts) {
    w.i32(text.length)
    w.latin1(text)
  }
  w.i32(0)
}
