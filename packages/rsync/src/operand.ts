import type { RawPath } from './raw-path.js'

/** A path on the command line, and by what means it is reached. */
export type Operand =
  | { kind: 'local'; path: RawPath }
  | { kind: 'shell'; user: string | null; host: string; path: RawPath }
  | { kind: 'daemon'; user: string | null; host: string; port: number | null; path: RawPath }

const URL_PREFIX = /^rsync:\/\//i
/** `[USER@]HOST` or `[USER@][IPV6]`: what stands in front of the first colon or slash outside of the brackets. */
const HOST = /^(?:(.*)@)?(?:\[([^\]/]+)\]|([^:/[\]@]*))$/s

/** Tells HOST:PATH, HOST::MODULE/PATH and rsync://HOST:PORT/MODULE/PATH from a local path (options.c check_for_hostspec()). */
export function parseOperand(text: string): Operand {
  return parseUrl(text) ?? parseColon(text) ?? { kind: 'local', path: text as RawPath }
}

function parseUrl(text: string): Operand | null {
  if (!URL_PREFIX.test(text)) return null
  const parts = /^((?:\[[^\]]*\]|[^:/[\]])*)(?::(\d*))?(?:\/(.*))?$/s.exec(text.replace(URL_PREFIX, ''))
  const name = parts && parseHost(parts[1])
  if (!name) return null
  return { kind: 'daemon', ...name, port: Number(parts[2] ?? 0) || null, path: (parts[3] ?? '') as RawPath }
}

function parseColon(text: string): Operand | null {
  const parts = /^((?:\[[^\]/]*\]|[^:/[\]])*):(.*)$/s.exec(text)
  const name = parts && parseHost(parts[1])
  if (!name) return null
  if (parts[2].startsWith(':')) return { kind: 'daemon', ...name, port: null, path: parts[2].slice(1) as RawPath }
  return { kind: 'shell', ...name, path: parts[2] as RawPath }
}

function parseHost(text: string): { user: string | null; host: string } | null {
  const parts = HOST.exec(text)
  return parts && { user: parts[1] ?? null, host: parts[2] ?? parts[3] }
}
