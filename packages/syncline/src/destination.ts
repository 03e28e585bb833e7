import type { Remote } from '@syncline/rsync'
import { ConfigError } from './errors.js'

/** Where a mirror goes: a directory in a module of an rsync daemon, or of a machine that a remote shell leads to. */
export interface Destination {
  /** As the operator wrote it; this is the target's name everywhere. */
  name: string
  user: string | undefined
  remote: Remote
}

const FORMS = '[USER@]HOST::MODULE[/PATH], rsync://[USER@]HOST[:PORT]/MODULE[/PATH] or [USER@]HOST:/PATH (ssh)'
const HOST = String.raw`(?:([^@/:\[\]]+)@)?(\[[0-9A-Fa-f:.%a-z]+\]|[^@/:\[\]]+)`
const DOUBLE_COLON = new RegExp(`^${HOST}::([^/]+)(?:/(.*))?$`, 's')
const SHELL_FORM = new RegExp(`^${HOST}:([^:].*)$`, 's')
const URL_FORM = new RegExp(`^rsync://${HOST}(?::(\\d+))?/([^/]+)(?:/(.*))?$`, 's')

/** How a machine is reached when it is not by its daemon: RSYNC_RSH, as rsync has it, or ssh. */
export const shellCommand = (text = process.env.RSYNC_RSH ?? 'ssh') => text.split(/\s+/).filter((word) => word !== '')

/** Reads a DEST of the command line. `rsh` is the remote shell with its first arguments. Throws ConfigError. */
export function parseDestination(text: string, rsh?: string): Destination {
  const url = URL_FORM.exec(text)
  if (url !== null) return destination(text, url[1], url[2], url[3], url[4], url[5])
  const plain = DOUBLE_COLON.exec(text)
  if (plain !== null) return destination(text, plain[1], plain[2], undefined, plain[3], plain[4])
  const shell = text.startsWith('rsync') && text.includes('://') ? null : SHELL_FORM.exec(text)
  if (shell !== null) return shellDestination(text, shell[1], shell[2], shell[3], shellCommand(rsh))
  throw new ConfigError(`DEST "${text}": ${problemOf(text)}`)
}

function destination(
  name: string,
  user: string | undefined,
  host: string,
  port: string | undefined,
  module: string,
  path = '',
): Destination {
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535)) {
    throw new ConfigError(`DEST "${name}": port ${port} is not between 1 and 65535`)
  }
  const names = path.split('/').filter((part) => part !== '' && part !== '.')
  if (names.includes('..'))
    throw new ConfigError(`DEST "${name}": a path in a module cannot contain ".."; write it without`)
  if (/[\n\r\0]/.test(name)) throw new ConfigError(`DEST "${JSON.stringify(name)}": a line break cannot be part of it`)
  const remote: Remote = {
    host: host.replace(/^\[(.*)\]$/, '$1'),
    module: Buffer.from(module).toString('latin1'),
    path: Buffer.from(names.join('/')).toString('latin1'),
  }
  if (port !== undefined) remote.port = Number(port)
  return { name, user, remote }
}

function shellDestination(
  name: string,
  user: string | undefined,
  host: string,
  path: string,
  command: readonly string[],
): Destination {
  if (/[\n\r\0]/.test(name)) throw new ConfigError(`DEST "${JSON.stringify(name)}": a line break cannot be part of it`)
  if (command.length === 0) throw new ConfigError(`DEST "${name}": the remote shell (--rsh or RSYNC_RSH) is empty`)
  if (host.startsWith('-') || user?.startsWith('-'))
    throw new ConfigError(`DEST "${name}": a host or user cannot begin with "-"`)
  const trimmed = path.replace(/\/+$/, '')
  if (trimmed === '') throw new ConfigError(`DEST "${name}": the root directory of a machine is no place for a mirror`)
  const bytes = Buffer.from(trimmed).toString('latin1')
  return {
    name,
    user,
    remote: { host: host.replace(/^\[(.*)\]$/, '$1'), module: '', path: bytes, shell: { command, user } },
  }
}

function problemOf(text: string): string {
  if (text.startsWith('rsyncs://')) return `TLS is not supported yet; use ${FORMS}`
  if (/^rsync:\/\//.test(text)) return `no module in it; write rsync://[USER@]HOST[:PORT]/MODULE[/PATH]`
  if (text.includes('::')) return `no module in it; write [USER@]HOST::MODULE[/PATH]`
  if (/^[^/]+:/.test(text)) return `no path in it; write [USER@]HOST:/PATH`
  return `a local directory is not supported yet; use ${FORMS}`
}
