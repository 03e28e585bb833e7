import { RERR } from '../wire/constants.js'
import type { Matches } from './pattern.js'

/** A rule, or a file of rules, that rsync refuses too. The message is rsync's. */
export class FilterError extends Error {
  readonly code = 'RSYNC_FILTER'
  constructor(
    message: string,
    readonly exitCode: number = RERR.SYNTAX,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** One rule of rsync(1) FILTER RULES, as exclude.c parse_rule_tok() leaves it. */
export interface Rule {
  /** `cvs` is `-C`: it stands for `rules`. A `merge` is replaced by what its file holds before anything is matched. */
  readonly kind: 'pattern' | 'cvs' | 'merge' | 'dir-merge' | 'clear'
  readonly include: boolean
  /** A merge file's name, or what is matched, without the slash at its end. */
  readonly pattern: string
  readonly directory: boolean
  readonly absolute: boolean
  readonly negate: boolean
  /** `p`: ignored in directories that are being deleted. */
  readonly perishable: boolean
  /** `x`: matches names of extended attributes, and nothing else. */
  readonly xattr: boolean
  /** The sides that were named; neither means both. */
  readonly sender: boolean
  readonly receiver: boolean
  /** Of a merge file: its lines are patterns (`-`, `+`), words instead of lines (`w`), not for directories below (`n`). */
  readonly noPrefixes: boolean
  readonly wordSplit: boolean
  readonly noInherit: boolean
  /** `e`: the file hides itself. */
  readonly excludeSelf: boolean
  readonly cvs: boolean
  readonly matches: Matches
  readonly rules: readonly Rule[]
}

type Draft = { -readonly [K in keyof Rule]: Rule[K] }

/** What rules inherit that no file holds. */
export const PLAIN: Rule = {
  kind: 'pattern',
  include: false,
  pattern: '',
  directory: false,
  absolute: false,
  negate: false,
  perishable: false,
  xattr: false,
  sender: false,
  receiver: false,
  noPrefixes: false,
  wordSplit: false,
  noInherit: false,
  excludeSelf: false,
  cvs: false,
  matches: () => false,
  rules: [],
}

/** How rules are written: `old` knows `+ ` and `- ` alone, as --exclude and its like do. */
export type Syntax = 'new' | 'old'

/** `redacted` says it without quoting: what a file holds is not for everyone who can name the file. */
type Refuse = (problem: string, redacted?: string) => never

/** What a rule begins with, and what that makes of it. */
const PREFIX: Record<string, Partial<Draft>> = {
  '-': {},
  '+': { include: true },
  '.': { kind: 'merge' },
  ':': { kind: 'dir-merge' },
  H: { sender: true },
  S: { sender: true, include: true },
  P: { receiver: true },
  R: { receiver: true, include: true },
  '!': { kind: 'clear' },
}
const LONG: Record<string, string> = {
  exclude: '-',
  include: '+',
  merge: '.',
  'dir-merge': ':',
  hide: 'H',
  show: 'S',
  protect: 'P',
  risk: 'R',
  clear: '!',
}
const PREFIX_FORM = /(?:(exclude|include|merge|dir-merge|hide|show|protect|risk|clear)(?=[\s_,]|$)|([-+.:HSPR!])),?/y

/**
 * Reads the rule at `start` of `text`, which was found in `container` (a merge file's rule) or in none (PLAIN).
 * `refuse` is told what is wrong with it. `end` is where the next one may begin.
 */
export function parseRuleAt(
  text: string,
  start: number,
  container: Rule,
  syntax: Syntax,
  refuse: Refuse,
): { rule: Rule; end: number } {
  const { include, absolute, directory, negate, perishable } = container
  const draft: Draft = { ...PLAIN, include, absolute, directory, negate, perishable }
  const bare = container.noPrefixes || syntax === 'old'
  const at = bare ? barePrefix(text, start, container, draft) : prefix(text, start, container, draft, refuse)
  takeSides(draft, container, refuse)
  const end = container.wordSplit ? wordEnd(text, at) : text.length
  draft.pattern = text.slice(at, end)
  checkLength(draft, bare, refuse)
  return { rule: draft, end }
}

/** Patterns alone, where `+ ` and `- ` may be allowed; a `!` by itself clears the list. */
function barePrefix(text: string, start: number, container: Rule, draft: Draft): number {
  if (text[start] === '!' && (!container.noPrefixes || container.cvs)) draft.kind = 'clear'
  if (container.noPrefixes || !/[-+] /.test(text.slice(start, start + 2))) return start
  draft.include = text[start] === '+'
  return start + 2
}

function prefix(text: string, start: number, container: Rule, draft: Draft, refuse: Refuse): number {
  PREFIX_FORM.lastIndex = start
  const found = PREFIX_FORM.exec(text)
  if (found === null) return refuse('Unknown filter rule')
  Object.assign(draft, PREFIX[found[2] ?? LONG[found[1]]])
  const at = start + found[0].length
  if (draft.kind === 'clear') return at
  const sided = draft.sender || draft.receiver
  const stop = container.wordSplit ? /[\s_]|$/g : /[ _]|$/g
  stop.lastIndex = at
  const end = stop.exec(text)?.index ?? text.length
  for (let i = at; i < end; i++) {
    if (modify(draft, text[i], sided)) continue
    refuse(`invalid modifier '${text[i]}' at position ${i - start} in filter rule`, 'invalid modifier in filter rule')
  }
  if (draft.kind === 'pattern' && draft.cvs) draft.kind = 'cvs'
  return text[end] === ' ' || text[end] === '_' ? end + 1 : end
}

/** False where this modifier cannot follow what came before. */
function modify(draft: Draft, modifier: string, sided: boolean): boolean {
  const merges = draft.kind === 'merge' || draft.kind === 'dir-merge'
  switch (modifier) {
    case '-':
    case '+':
      if (!merges || draft.noPrefixes) return false
      draft.noPrefixes = true
      if (modifier === '+') draft.include = true
      return true
    case 'C':
      if (draft.noPrefixes || sided) return false
      draft.noPrefixes = draft.wordSplit = draft.noInherit = draft.cvs = true
      return true
    case '!':
      draft.negate = true
      return !merges
    case 'e':
      draft.excludeSelf = true
      return merges
    case 'n':
      draft.noInherit = true
      return merges
    case 'w':
      draft.wordSplit = true
      return merges
    case 's':
      draft.sender = true
      return !sided
    case 'r':
      draft.receiver = true
      return !sided
    case '/':
      draft.absolute = true
      return true
    case 'p':
      draft.perishable = true
      return true
    case 'x':
      draft.xattr = true
      return true
    default:
      return false
  }
}

function takeSides(draft: Draft, container: Rule, refuse: Refuse): void {
  if (!container.sender && !container.receiver) return
  if (draft.sender || draft.receiver) refuse('specified-side merge file contains specified-side filter')
  draft.sender = container.sender
  draft.receiver = container.receiver
}

function checkLength(draft: Draft, bare: boolean, refuse: Refuse): void {
  if (draft.kind === 'clear') {
    if (!bare && draft.pattern !== '') refuse("'!' rule has trailing characters")
    if (bare && draft.pattern !== '!') draft.kind = 'pattern'
  } else if (draft.pattern === '' && !draft.cvs) refuse('unexpected end of filter rule')
}

export const isSpace = (c: string) => /[ \t-\r]/.test(c)

function wordEnd(text: string, start: number): number {
  let end = start
  while (end < text.length && !isSpace(text[end])) end++
  return end
}

/** exclude.c get_rule_prefix(): how a rule travels. */
export function ruleText(rule: Rule): string {
  const kind = rule.kind === 'dir-merge' ? ':' : rule.include ? '+' : '-'
  const merge = `${rule.noInherit ? 'n' : ''}${rule.wordSplit ? 'w' : ''}${rule.noPrefixes ? (rule.include ? '+' : '-') : ''}`
  const sides = `${rule.sender ? 's' : ''}${rule.receiver ? 'r' : ''}`
  const modifiers = `${rule.absolute ? '/' : ''}${rule.negate ? '!' : ''}${rule.cvs ? 'C' : merge}${rule.xattr ? 'x' : ''}`
  return `${kind}${modifiers}${sides}${rule.perishable ? 'p' : ''} ${rule.pattern}${rule.directory ? '/' : ''}`
}
