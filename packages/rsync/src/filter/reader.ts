import { closeSync, openSync, readSync } from 'node:fs'
import { SystemError } from '../kernel.js'
import { type RawPath, toBytes } from '../raw-path.js'
import { RERR } from '../wire/constants.js'
import { compile } from './pattern.js'
import { FilterError, isSpace, PLAIN, parseRuleAt, type Rule, type Syntax } from './rule.js'

/** How rules are found and understood. */
export interface Reading {
  /**
   * A whole file; null where there is none. An error with an `errno` says why it cannot be read. While options are
   * read the name is as the user wrote it ('-' is standard input); in a walk it is absolute: from the file system's
   * root, or from the module's.
   */
  read(file: RawPath): Buffer | null
  /** --from0 was given: a NUL ends a line. */
  from0: boolean
  /** --delete-excluded was given: a rule that names no side is the sender's alone. */
  deleteExcluded: boolean
  /** HOME and CVSIGNORE, for -C. */
  environment: Record<string, string | undefined>
  /** What rsync complains of without giving up. */
  warn(message: string): void
}

/** Where rules stand, which says what their patterns and the files that they name are relative to. */
export interface Place {
  /** A merge file's name as `read` takes it; null where no files are read. */
  file(name: string): string | null
  /** A per-directory file's name, as it is kept. */
  perDirectory(name: string): string
  /** What an anchored pattern is anchored to, '' for the root; null where it stays relative to the transfer. */
  anchor: string | null
  /** rsyncd.conf: any slash makes a pattern relative to the module, and a directory stands for all that it holds. */
  module: boolean
  /** Rules count on both sides whatever they say. */
  anySide: boolean
  /** Per-directory files that are in force already. */
  active(): Iterable<Rule>
}

/** Where options stand. */
export const OPTIONS: Place = {
  file: cleanName,
  perDirectory: (name) => name,
  anchor: null,
  module: false,
  anySide: false,
  active: () => [],
}

const PATTERN_MAX = 4095 // MAXPATHLEN
export const LINE_MAX = 5119 // BIGPATHBUFLEN
const MERGE_DEPTH_MAX = 32 // exclude.c MAX_MERGE_DEPTH
/** rsync has no such limits. These are far from what anyone writes, and near enough to hold a peer off. */
export const RULES_MAX = 1 << 16
export const RULE_FILE_MAX = 1 << 24
export const PER_DIRECTORY_MAX = 256

/** Collects rules in order, with those of the files that they name. */
export class RuleReader {
  rules: Rule[] = []
  /** A `!` was met: what came before this reader's rules is void too. */
  cleared = false
  #depth = 0
  /** What rsync says instead of the rule, where the rule is a file's. */
  #origin: string | null = null

  constructor(
    readonly how: Reading,
    readonly place: Place,
  ) {}

  /** exclude.c parse_filter_str(): one rule, or as many as there are words. */
  text(text: string, container: Rule, syntax: Syntax, place: Place = this.place): void {
    for (let at = 0; at < text.length; ) {
      if (container.wordSplit && isSpace(text[at])) {
        at++
        continue
      }
      const start = at
      const refuse = (problem: string, redacted = problem) => this.#refuse(problem, redacted, text.slice(start))
      const { rule, end } = parseRuleAt(text, start, container, syntax, refuse)
      this.#take(this.#sided(rule, place), place)
      at = end
    }
  }

  /** exclude.c parse_filter_file(): a rule a line, or a word. */
  file(file: string, container: Rule, syntax: Syntax, place: Place, content: Buffer): void {
    if (content.length > RULE_FILE_MAX) throw new FilterError(`filter file is too large: ${file}`, RERR.FILEIO)
    const outer = this.#origin
    const { wordSplit } = container
    const lines = splitLines(content, this.how.from0, wordSplit)
    for (const [index, line] of lines.entries()) {
      const text = line.replace(/\0.*/s, '')
      if (!wordSplit && /^[#;]/.test(text)) continue
      const where = wordSplit ? file : `${file} line ${index + 1}`
      this.#origin = outer === null ? where : `a file named at ${outer}`
      if (line.length > LINE_MAX) this.how.warn(`discarding over-long filter: ${this.#shown(line)}`)
      else this.text(text, container, syntax, place)
    }
    this.#origin = outer
  }

  /** A file that must be there. */
  mustHave(file: string, container: Rule, syntax: Syntax, place: Place): void {
    if (this.#depth === MERGE_DEPTH_MAX) {
      throw new FilterError(
        `merge-file include depth limit (${MERGE_DEPTH_MAX}) exceeded at ${this.#shown(file)}`,
        RERR.FILEIO,
      )
    }
    this.#depth++
    this.file(file, container, syntax, place, this.#open(file, container.include))
    this.#depth--
  }

  /** A file that may be there. */
  mayHave(file: string, container: Rule, place: Place): void {
    const content = readable(() => this.how.read(file as RawPath))
    if (!Buffer.isBuffer(content)) return
    this.#depth++
    this.file(file, container, 'new', place, content)
    this.#depth--
  }

  #open(file: string, include: boolean): Buffer {
    const content = readable(() => this.how.read(file as RawPath))
    if (Buffer.isBuffer(content)) return content
    const { errno, code } = content ?? { errno: 2, code: 'ENOENT' }
    const why = new SystemError(file, Math.abs(errno), code).message
    const shown = this.#origin === null ? why : this.#shown(file)
    throw new FilterError(`failed to open ${include ? 'in' : 'ex'}clude file ${shown}`, RERR.FILEIO)
  }

  #take(rule: Rule, place: Place): void {
    if (rule.pattern.length > PATTERN_MAX) {
      this.how.warn(`discarding over-long filter: ${this.#shown(rule.pattern)}`)
    } else if (rule.kind === 'clear') {
      this.rules = []
      this.cleared = true
    } else if (rule.kind === 'merge' || rule.kind === 'dir-merge') this.#merge(rule, place)
    else this.#add(rule, place)
  }

  #sided(rule: Rule, place: Place): Rule {
    if (place.anySide) return { ...rule, sender: false, receiver: false }
    const names = rule.sender || rule.receiver || rule.kind === 'merge' || rule.kind === 'dir-merge'
    return this.how.deleteExcluded && !names ? { ...rule, sender: true } : rule
  }

  #merge(rule: Rule, place: Place): void {
    const name = rule.pattern === '' ? '.cvsignore' : rule.pattern
    if (rule.excludeSelf) {
      this.#add({ ...PLAIN, pattern: baseName(name) }, { ...place, anchor: null, module: false })
    }
    if (rule.kind === 'dir-merge') {
      this.#add({ ...rule, excludeSelf: false, pattern: place.perDirectory(name) }, place)
      return
    }
    const file = place.file(name)
    if (file === null) throw new FilterError(`Unknown filter rule: . ${name}`)
    // rsync forgets here that it is within a directory: what such a file holds is relative to the transfer, and is not
    // sorted by sides any more.
    const anySide = place.anySide || place.anchor !== null
    this.mustHave(file, rule, 'new', { ...place, anchor: null, module: false, anySide })
  }

  /** exclude.c add_rule() */
  #add(rule: Rule, place: Place): void {
    // rsyncd.conf is read before it is known who sends; rsync then drops what is for the sender alone.
    if (place.module && rule.sender && !rule.receiver) return
    const added = this.#finished(rule, place)
    if (added.kind === 'dir-merge' && this.#isActive(baseName(added.pattern))) return
    if (this.rules.length >= RULES_MAX) throw new FilterError(`more than ${RULES_MAX} filter rules`)
    this.rules.push(added)
  }

  #finished(rule: Rule, place: Place): Rule {
    const slashEnds = rule.pattern.length > 1 && rule.pattern.endsWith('/')
    const finished = {
      ...rule,
      pattern: slashEnds ? rule.pattern.slice(0, -1) : rule.pattern,
      directory: rule.directory || slashEnds,
    }
    if (rule.kind === 'pattern') anchor(finished, place)
    if (rule.kind === 'cvs') finished.rules = this.#cvsRules(finished)
    return { ...finished, matches: finished.kind === 'pattern' ? compile(finished) : PLAIN.matches }
  }

  /**
   * exclude.c get_cvs_excludes(): the built-in names, then the user's own, which count in deleted directories too.
   * There is one such list: the modifiers of the first -C are those of any other.
   */
  #cvsRules(container: Rule): readonly Rule[] {
    const first = this.rules.find(({ kind }) => kind === 'cvs')
    if (first !== undefined) return first.rules
    const reader = new RuleReader(this.how, { ...this.place, anchor: null, module: false })
    const { HOME, CVSIGNORE } = this.how.environment
    reader.text(CVS_DEFAULTS, { ...container, perishable: true }, 'new')
    if (HOME !== undefined) reader.mayHave(`${HOME}/.cvsignore`, container, reader.place)
    if (CVSIGNORE !== undefined) reader.text(CVSIGNORE, container, 'new')
    return reader.rules
  }

  #isActive(name: string): boolean {
    const active = [...this.place.active(), ...this.rules].filter(({ kind }) => kind === 'dir-merge')
    if (active.some(({ pattern }) => baseName(pattern) === name)) return true
    if (active.length >= PER_DIRECTORY_MAX) throw new FilterError(`more than ${PER_DIRECTORY_MAX} per-directory files`)
    return false
  }

  #refuse(problem: string, redacted: string, text: string): never {
    throw new FilterError(`${this.#origin === null ? problem : redacted}: ${this.#shown(text)}`)
  }

  #shown(text: string): string {
    return this.#origin === null ? text : `<rule from ${this.#origin}>`
  }
}

/** Anchored patterns of a per-directory file begin at its directory; those of rsyncd.conf at the module. */
function anchor(rule: { -readonly [K in keyof Rule]: Rule[K] }, place: Place): void {
  const inside = rule.pattern.includes('/')
  if (!rule.absolute && place.anchor !== null && (rule.pattern.startsWith('/') || (place.module && inside))) {
    rule.absolute = true
    if (rule.pattern.startsWith('/') && place.anchor !== '') rule.pattern = `/${place.anchor}${rule.pattern}`
  }
  if (place.module && rule.directory && !rule.include) {
    rule.directory = false
    rule.pattern += '/***'
  }
}

function splitLines(content: Buffer, from0: boolean, words: boolean): string[] {
  const end = from0 ? (words ? /[\0 \t-\r]/ : '\0') : words ? /[ \t-\r]/ : /[\n\r]/
  const lines = content.toString('latin1').split(end)
  if (lines.length > RULES_MAX * 4) throw new FilterError('filter file has too many lines', RERR.FILEIO)
  return lines
}

/** As rsync, by the name alone: what a symlink would make of `..` does not count. */
export function cleanName(name: string): string {
  const absolute = name.startsWith('/')
  const names: string[] = []
  for (const part of name.split('/')) {
    if (part === '..' && names.length > 0 && names.at(-1) !== '..') names.pop()
    else if (part === '..' ? !absolute : part !== '' && part !== '.') names.push(part)
  }
  return `${absolute ? '/' : ''}${names.join('/')}`
}

export const baseName = (path: string) => path.slice(path.lastIndexOf('/') + 1)

/** A file that cannot be opened is one thing, an error of ours another. */
function readable(read: () => Buffer | null): Buffer | null | { errno: number; code: string } {
  try {
    return read()
  } catch (error) {
    const { errno, code } = error as NodeJS.ErrnoException
    if (errno === undefined || code === undefined) throw error
    return { errno, code }
  }
}

/** For `Reading.read` while options are read: any kind of file, a pipe too, and '-' for standard input. */
export function readRuleFile(file: RawPath): Buffer | null {
  const fd = file === '-' ? 0 : openOrNull(file)
  if (fd === null) return null
  try {
    const chunks: Buffer[] = []
    for (let total = 0; total <= RULE_FILE_MAX; ) {
      const chunk = Buffer.allocUnsafe(1 << 16)
      const length = readSync(fd, chunk)
      if (length === 0) break
      chunks.push(chunk.subarray(0, length))
      total += length
    }
    return Buffer.concat(chunks)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EISDIR') return Buffer.alloc(0) // as if it were empty
    throw error
  } finally {
    if (fd !== 0) closeSync(fd)
  }
}

function openOrNull(file: RawPath): number | null {
  try {
    return openSync(toBytes(file), 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** rsync(1) --cvs-exclude */
const CVS_DEFAULTS =
  'RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state .nse_depinfo *~ #* .#* ,* _$* *$ *.old *.bak *.BAK *.orig' +
  ' *.rej .del-* *.a *.olb *.o *.obj *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/'
