import type { RawPath } from './raw-path.js'

/** A path on the command line, and by what means it is reached. */
export type Operand =
  | { kind: 'local'; path: RawPath }
  | { kind: 'shell'; user: string | null; host: string; path: RawPath }
  | { kind: 'daemon'; user: string | null; host: string; port: number | null; path: RawPath; tls?: true }

const URL_PREFIX = /^rsync(s?):\/\//i
/** `[USER@]HOST` or `[USER@][IPV6]`: what stands in front of the first colon or slash outside of the brackets. */
const HOST = /^(?:(.*)@)?(?:\[([^\]/]+)\]|([^:/[\]@]*))$/s

/** Tells HOST:PATH, HOST::MODULE/PATH and rsync://HOST:PORT/MODULE/PATH (rsyncs:// by TLS) from a local path (options.c check_for_hostspec()). */
export function parseOperand(text: string): Operand {
  return parseUrl(text) ?? parseColon(text) ?? { kind: 'local', path: text as RawPath }
}

function parseUrl(text: string): Operand | null {
  const prefix = URL_PREFIX.exec(text)
  if (prefix === null) return null
  const parts = /^((?:\[[^\]]*\]|[^:/[\]])*)(?::(\d*))?(?:\/(.*))?$/s.exec(text.slice(prefix[0].length))
  const name = parts && parseHost(parts[1])
  if (!name) return null
  const tls = prefix[1] === '' ? {} : { tls: true as const } // ours alone: stock rsync has rsync-ssl for it
  return { kind: 'daemon', ...name, port: Number(parts[2] ?? 0) || null, path: (parts[3] ?? '') as RawPath, ...tls }
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
