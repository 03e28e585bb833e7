/** lib/wildmatch.c for a single name: `*`, `?`, `[...]` with ranges, negation and POSIX classes, and the backslash. */
export function wildcard(pattern: string): (name: string) => boolean {
  const parts = pattern.match(/\\.|\*+|\[[!^]?\]?(?:\[:\w+:\]|\\.|[^\]])*\]|./gs) ?? []
  try {
    const regex = new RegExp(`^${parts.map(translate).join('')}$`, 's')
    return (name) => regex.test(name)
  } catch {
    return () => false // a class such as [z-a] is empty
  }
}

export const hasWildcard = (text: string) => /[*?[]/.test(text)

const POSIX_CLASS: Record<string, string> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: ' \\t',
  cntrl: '\\x00-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: ' \\t-\\r',
  upper: 'A-Z',
  xdigit: '0-9A-Fa-f',
}

function translate(part: string): string {
  if (part[0] === '*') return '.*'
  if (part === '?') return '.'
  if (part === '[') return '(?!)' // never closed: matches nothing
  if (part[0] === '[') return characterClass(part.slice(1, -1))
  return literal(part.length === 2 ? part[1] : part)
}

function characterClass(body: string): string {
  const negated = /^[!^]/.test(body)
  const items = body.slice(negated ? 1 : 0).match(/\[:\w+:\]|\\.|./gs) ?? []
  const inner = items.map((item, i) => {
    if (item.startsWith('[:')) return POSIX_CLASS[item.slice(2, -2)] ?? ''
    if (item === '-' && i > 0 && i < items.length - 1) return '-'
    return literal(item.length === 2 ? item[1] : item)
  })
  return `[${negated ? '^' : ''}${inner.join('')}]`
}

const literal = (c: string) => (/\w/.test(c) ? c : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
