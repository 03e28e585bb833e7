/** lib/wildmatch.c's language as a list of steps; a text matches when all steps are taken and nothing is left of it. */
export interface Wildcard {
  /** A character's code, or one of STEP. */
  readonly steps: Int16Array
  /** For a STEP.CLASS at the same index: which of the 256 characters it takes. */
  readonly classes: readonly (Uint8Array | undefined)[]
  /** No shorter text can match. */
  readonly shortest: number
}

const STEP = { ANY: -1, STAR: -2, STARSTAR: -3, CLASS: -4 } as const
const SLASH = 0x2f

/** `*` stops at a slash, `**` does not, `?` is one character but a slash, `[...]` a class. Null: it can match nothing. */
export function compileWildcard(pattern: string): Wildcard | null {
  const steps: number[] = []
  const classes: Uint8Array[] = []
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]
    if (c === '*') {
      const stars = runLength(pattern, i)
      steps.push(stars > 1 ? STEP.STARSTAR : STEP.STAR)
      i += stars - 1
    } else if (c === '?') steps.push(STEP.ANY)
    else if (c === '[') {
      const set = parseClass(pattern, i + 1)
      if (set === null) return null
      classes[steps.length] = set.members
      steps.push(STEP.CLASS)
      i = set.end
    } else if (c === '\\') {
      if (++i === pattern.length) return null
      steps.push(pattern.charCodeAt(i))
    } else steps.push(pattern.charCodeAt(i))
  }
  const shortest = steps.filter((step) => step !== STEP.STAR && step !== STEP.STARSTAR).length
  return { steps: Int16Array.from(steps), classes, shortest }
}

/**
 * Takes all possible ways through the steps at once, so that the time is at most text times pattern whoever wrote them:
 * going back to try again takes for ever on `*a*a*a*...`. With `everySlash` a match may also begin behind any slash.
 */
export function matchesWildcard({ steps, classes, shortest }: Wildcard, text: string, everySlash: boolean): boolean {
  if (text.length < shortest) return false
  const count = steps.length
  /** at[j]: the first j steps can have been taken by now. None beyond `last` is. */
  const at = new Uint8Array(count + 2)
  let last = startAt(at, 0, steps)
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    const reached = Math.min(last + 1, count)
    last = -1
    for (let j = reached; j >= 0; j--) {
      const stays = at[j] === 1 && (steps[j] === STEP.STARSTAR || (steps[j] === STEP.STAR && c !== SLASH))
      const comes = j > 0 && at[j - 1] === 1 && takes(steps[j - 1], classes[j - 1], c)
      at[j] = stays || comes ? 1 : 0
      if (at[j] === 1 && last < 0) last = j
    }
    if (everySlash && c === SLASH) last = Math.max(last, startAt(at, 0, steps))
    if (last < 0 && !everySlash) return false
    for (let j = 0; j <= last; j++) if (at[j] === 1) last = Math.max(last, startAt(at, j, steps))
  }
  return at[count] === 1
}

/** Being at `j` is also being behind the star there, which need not take anything. Returns the furthest. */
function startAt(at: Uint8Array, j: number, steps: Int16Array): number {
  at[j] = 1
  while (steps[j] === STEP.STAR || steps[j] === STEP.STARSTAR) at[++j] = 1
  return j
}

function takes(step: number, members: Uint8Array | undefined, c: number): boolean {
  if (step >= 0) return step === c
  if (step === STEP.ANY) return c !== SLASH
  return step === STEP.CLASS && members?.[c] === 1
}

function runLength(pattern: string, start: number): number {
  let end = start
  while (pattern[end] === '*') end++
  return end - start
}

type Class = { members: Uint8Array; end: number }

/** `start` is behind the bracket, `end` at the closing one. Null where none closes it or `[:name:]` is unknown. */
function parseClass(pattern: string, start: number): Class | null {
  const members = new Uint8Array(256)
  const negated = pattern[start] === '!' || pattern[start] === '^'
  const first = negated ? start + 1 : start
  /** What a range would begin with: not a range, nor a named class, nor nothing. */
  let previous = 0
  for (let i = first; i < pattern.length; i++) {
    if (pattern[i] === ']' && i > first) return { members: complete(members, negated), end: i }
    const named = pattern.startsWith('[:', i) ? namedClass(pattern, i + 2) : 'set'
    if (named === null) return null
    if (named !== 'set') {
      for (let c = 0; c < 256; c++) if (named.test(String.fromCharCode(c))) members[c] = 1
      i = pattern.indexOf(']', i)
      previous = 0
    } else if (pattern[i] === '-' && previous > 0 && i + 1 < pattern.length && pattern[i + 1] !== ']') {
      if (pattern[++i] === '\\') i++
      if (i >= pattern.length) return null
      members.fill(1, previous, Math.max(previous, pattern.charCodeAt(i) + 1))
      previous = 0
    } else {
      if (pattern[i] === '\\') i++
      if (i >= pattern.length) return null
      previous = pattern.charCodeAt(i)
      members[previous] = 1
    }
  }
  return null
}

/** A class never takes a slash, whatever it lists. */
function complete(members: Uint8Array, negated: boolean): Uint8Array {
  const taken = negated ? members.map((member) => 1 - member) : members
  taken[SLASH] = 0
  return taken
}

/** `[:` with a `]` that no colon precedes is an ordinary set. */
function namedClass(pattern: string, start: number): RegExp | 'set' | null {
  const close = pattern.indexOf(']', start)
  if (close < 0) return null
  if (close === start || pattern[close - 1] !== ':') return 'set'
  return NAMED_CLASS[pattern.slice(start, close - 1)] ?? null
}

const NAMED_CLASS: Record<string, RegExp> = {
  alnum: /[0-9A-Za-z]/,
  alpha: /[A-Za-z]/,
  blank: /[ \t]/,
  cntrl: /[\x00-\x1f\x7f]/,
  digit: /[0-9]/,
  graph: /[!-~]/,
  lower: /[a-z]/,
  print: /[ -~]/,
  punct: /[!-/:-@[-`{-~]/,
  space: /[ \t-\r]/,
  upper: /[A-Z]/,
  xdigit: /[0-9A-Fa-f]/,
}
