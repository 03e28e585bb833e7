import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { printable, toBytes } from '../raw-path.js'
import { systemReason } from './log.js'

/** Where a line of a configuration file is. */
export interface Place {
  file: string
  /** From 1 on; 0 is the file itself. */
  line: number
}

/** The operator must act: the daemon does not start, or drops the connection that made it read the file. */
export class DaemonConfigError extends Error {
  readonly code = 'RSYNC_DAEMON_CONFIG'
  constructor(
    readonly place: Place,
    /** What stock rsync logs where it refuses the same; otherwise what is wrong. */
    readonly problem: string,
    readonly mend: string,
    options?: ErrorOptions,
  ) {
    super(`${printable(place.file)}:${place.line === 0 ? '' : `${place.line}:`} ${problem}; ${mend}`, options)
  }
}

/** What the files say, in order. `push` and `pop` enclose what an &include brought. */
export type Statement = Place &
  (
    | { kind: 'section'; name: string }
    | { kind: 'parameter'; name: string; value: string }
    | { kind: 'malformed'; text: string; atEnd: boolean }
    | { kind: 'push' }
    | { kind: 'pop' }
  )

const FILE_MAX = 1 << 20 // bytes: a thousand modules fit
const FILES_MAX = 1000 // read for one configuration
const DEPTH_MAX = 16 // of &include and &merge; stock rsync goes on until descriptors run out

/** params.c pm_process(): the statements of `file` and of all that it includes. Throws DaemonConfigError. */
export function readConfigFile(file: string): Statement[] {
  const statements: Statement[] = []
  readInto(statements, { files: 0 }, file, { file, line: 0 }, 0)
  return statements
}

function readInto(statements: Statement[], read: { files: number }, file: string, from: Place, depth: number): void {
  if (depth > DEPTH_MAX || ++read.files > FILES_MAX)
    throw new DaemonConfigError(from, `${printable(file)} is one file too many`, 'does a file include itself?')
  for (const statement of parseConfig(readText(file, from), file)) {
    if (statement.kind !== 'directive') {
      statements.push(statement)
      continue
    }
    const { line, path } = statement
    const include = isInclude(statement)
    for (const included of filesAt(path, include ? '.conf' : '.inc', statement)) {
      if (include) statements.push({ kind: 'push', file, line })
      readInto(statements, read, included, statement, depth + 1)
      if (include) statements.push({ kind: 'pop', file, line })
    }
  }
}

function isInclude(directive: Directive): boolean {
  const name = directive.name.toLowerCase()
  if (name === '&include' || name === '&merge') return name === '&include'
  throw new DaemonConfigError(directive, `Unknown directive: ${directive.name}.`, 'write &include or &merge')
}

/** A directory stands for its files that end so, by name; anything else for itself. */
function filesAt(path: string, ending: string, from: Place): string[] {
  return reading(path, 'stat config file', from, () => {
    if (!statSync(toBytes(path)).isDirectory()) return [path]
    const entries = readdirSync(toBytes(path), { encoding: 'latin1', withFileTypes: true })
    const names = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith(ending)).map(({ name }) => name)
    return names.sort().map((name) => `${path}/${name}`)
  })
}

function readText(path: string, from: Place): string {
  return reading(path, 'open config file', from, () => {
    const fd = openSync(toBytes(path), 'r')
    try {
      const text = Buffer.allocUnsafe(FILE_MAX + 1)
      let length = 0
      for (let n = 1; n > 0 && length < text.length; length += n)
        n = readSync(fd, text, length, text.length - length, null)
      if (length > FILE_MAX)
        throw new DaemonConfigError(from, `${printable(path)} is longer than ${FILE_MAX} bytes`, 'is it a rsyncd.conf?')
      return text.toString('latin1', 0, length)
    } finally {
      closeSync(fd)
    }
  })
}

function reading<T>(path: string, what: string, from: Place, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof DaemonConfigError) throw error
    const problem = `unable to ${what} "${printable(path)}": ${systemReason(error as NodeJS.ErrnoException)}`
    throw new DaemonConfigError(from, problem, 'create it or correct the path', { cause: error })
  }
}

type Directive = Place & { kind: 'directive'; name: string; path: string }

/** The syntax alone, of one file. */
export function* parseConfig(text: string, file: string): Generator<Statement | Directive> {
  const lines = text.split('\n')
  for (let i = 0; i < lines.length; ) {
    const place = { file, line: i + 1 }
    if (lines[i].includes('\0')) throw new DaemonConfigError(place, 'there is a NUL byte', 'is it a rsyncd.conf?')
    const first = lines[i].replace(/^[\s\\]+/, '')
    if (first === '' || first.startsWith('#') || first.startsWith(';')) {
      i++
      continue
    }
    const { text: joined, next, cut } = joinLines(lines, i, first.startsWith('['))
    i = next
    if (joined.startsWith('[')) yield { kind: 'section', name: sectionName(joined, cut, place), ...place }
    else if (joined.startsWith('&')) yield directive(joined, place)
    else yield parameter(joined, cut, place)
  }
}

/** One line with those that a `\` at its end appends. `cut`: the file ended where the statement still went on. */
function joinLines(lines: string[], start: number, section: boolean): { text: string; next: number; cut: boolean } {
  let text = lines[start].replace(/^[\s\\]+/, '')
  let next = start + 1
  for (;;) {
    // Behind a section's bracket nothing counts, and neither does a `\`.
    const continued = section && text.includes(']') ? null : /^(.*)\\\s*$/s.exec(text)
    if (continued === null) return { text, next, cut: next === lines.length }
    if (next === lines.length) return { text: continued[1], next, cut: true }
    text = continued[1] + lines[next++]
  }
}

const words = (text: string) => text.trim().replace(/\s+/g, ' ')

function sectionName(text: string, cut: boolean, place: Place): string {
  const end = text.indexOf(']')
  const name = words(text.slice(1, end < 0 ? undefined : end))
  const mend = 'write [name]'
  if (end < 0 && cut)
    throw new DaemonConfigError(place, `params.c:Section() - Unexpected EOF in the config file: ${name}`, mend)
  if (end < 0)
    throw new DaemonConfigError(place, `params.c:Section() - Badly formed line in config file: ${name}`, mend)
  if (name === '') throw new DaemonConfigError(place, 'params.c:Section() - Empty section name in config file.', mend)
  return name
}

function directive(text: string, place: Place): Directive {
  const [, name, path] = /^(&[^\s=]*)\s*=?\s*(.*?)\s*$/s.exec(text)!
  return { kind: 'directive', name, path, ...place }
}

function parameter(text: string, cut: boolean, place: Place): Statement {
  const equals = text.indexOf('=')
  if (equals < 0) return { kind: 'malformed', text: words(text), atEnd: cut, ...place }
  const name = words(text.slice(0, equals))
  if (name === '')
    throw new DaemonConfigError(
      place,
      'params.c:Parameter() - Invalid parameter name in config file.',
      'write NAME = VALUE',
    )
  return {
    kind: 'parameter',
    name,
    value: text
      .slice(equals + 1)
      .replaceAll('\r', '')
      .trim(),
    ...place,
  }
}
