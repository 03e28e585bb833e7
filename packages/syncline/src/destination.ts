import { type BigIntStats, realpathSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import {
  checkTlsFiles,
  parent,
  type RawPath,
  type Remote,
  shellWords,
  type TlsFiles,
  tlsFilesOf,
  toBytes,
} from '@syncline/rsync'
import { ConfigError } from './errors.js'

/**
 * Where a mirror goes: a directory in a module of an rsync daemon, of a machine that a remote shell leads to, or of this
 * one.
 */
export interface Destination {
  /** As the operator wrote it, a local directory as its absolute path; this is the target's name everywhere. */
  name: string
  user: string | undefined
  remote: Remote
}

const FORMS =
  '/DIRECTORY, [USER@]HOST::MODULE[/PATH], rsync://[USER@]HOST[:PORT]/MODULE[/PATH], rsyncs:// likewise (TLS), or [USER@]HOST:/PATH (ssh)'
const HOST = String.raw`(?:([^@/:\[\]]+)@)?(\[[0-9A-Fa-f:.%a-z]+\]|[^@/:\[\]]+)`
const DOUBLE_COLON = new RegExp(`^${HOST}::([^/]+)(?:/(.*))?$`, 's')
const SHELL_FORM = new RegExp(`^${HOST}:([^:].*)$`, 's')
const URL_FORM = new RegExp(`^rsync(s?)://${HOST}(?::(\\d+))?/([^/]+)(?:/(.*))?$`, 's')

/** How a machine is reached when it is not by its daemon: RSYNC_RSH, as rsync has it, or ssh. */
function shellCommand(text = process.env.RSYNC_RSH ?? 'ssh'): string[] {
  try {
    return shellWords(text)
  } catch (error) {
    throw new ConfigError(`--rsh=${text}: ${(error as Error).message}`)
  }
}

/**
 * Reads a DEST of the command line. `rsh` is the remote shell with its first arguments, `tls` the files for rsyncs:// where
 * they are not those of the environment. Throws ConfigError.
 */
export function parseDestination(text: string, rsh?: string, tls?: TlsFiles): Destination {
  const url = URL_FORM.exec(text)
  if (url !== null) {
    const found = destination(text, url[2], url[3], url[4], url[5], url[6])
    if (url[1] !== '') found.remote.tls = tlsOf(text, tls)
    return found
  }
  if (isLocal(text)) return localDestination(text)
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

function tlsOf(name: string, given: TlsFiles | undefined): TlsFiles {
  const files = { ...tlsFilesOf(process.env), ...given }
  try {
    checkTlsFiles(files)
  } catch (error) {
    throw new ConfigError(`DEST "${name}": a file for TLS cannot be used: ${(error as Error).message}`)
  }
  return files
}

/** As rsync has it: no colon, or a slash before the first. A bare word must be there, for it may be a host without its module. */
function isLocal(text: string): boolean {
  const colon = text.indexOf(':')
  const slash = text.indexOf('/')
  if (colon >= 0 && (slash < 0 || colon < slash)) return false
  return slash >= 0 || text === '.' || text === '..' || statOf(text)?.isDirectory() === true
}

function localDestination(text: string): Destination {
  if (/[\n\r\0]/.test(text)) throw new ConfigError(`DEST "${JSON.stringify(text)}": a line break cannot be part of it`)
  const name = resolve(text)
  if (name === '/') throw new ConfigError(`DEST "${text}": the root directory of a machine is no place for a mirror`)
  return {
    name,
    user: undefined,
    remote: { host: '', module: '', path: Buffer.from(name).toString('latin1'), local: true },
  }
}

/** A mirror within what it mirrors would grow for ever, and delete itself. Throws ConfigError. */
export function refuseWithin(source: RawPath, { name, remote }: Destination): void {
  if (remote.local !== true) return
  const at = `DEST "${name}"`
  const path = remote.path as RawPath
  if (isWithin(path, source)) throw new ConfigError(`${at} is SRC, or below it; choose a directory outside of SRC`)
  if (isWithin(source, path)) throw new ConfigError(`${at} is above SRC, which the mirror would delete; choose another`)
}

/** Whether `path` is `directory` or below it, by whatever symlinks or mounts. */
export function isWithin(path: RawPath, directory: RawPath): boolean {
  const [inner, top] = [realPath(path), realPath(directory)]
  const outer = statOf(toBytes(top))
  for (let at = inner; ; at = parentOf(at)) {
    if (at === top) return true
    const stat = statOf(toBytes(at))
    if (stat !== null && outer !== null && stat.dev === outer.dev && stat.ino === outer.ino) return true
    if (at === '/') return false
  }
}

/** Where `path` leads, as far as it is there. */
export function realPath(path: RawPath): RawPath {
  let rest = ''
  for (let at = path; ; at = parentOf(at)) {
    try {
      const real = realpathSync.native(toBytes(at), { encoding: 'buffer' }).toString('latin1')
      return `${real === '/' && rest !== '' ? '' : real}${rest}` as RawPath
    } catch (error) {
      if (at === '/') throw error
      rest = `${at.slice(at.lastIndexOf('/'))}${rest}`
    }
  }
}

const parentOf = (path: RawPath) => (parent(path) || '/') as RawPath

function statOf(path: string | Buffer): BigIntStats | null {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return null
  }
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
  const url = /^rsyncs?:\/\//.exec(text)
  if (url !== null) return `no module in it; write ${url[0]}[USER@]HOST[:PORT]/MODULE[/PATH]`
  if (text.includes('::')) return `no module in it; write [USER@]HOST::MODULE[/PATH]`
  if (/^[^/]+:/.test(text)) return `no path in it; write [USER@]HOST:/PATH`
  if (text !== '' && !text.includes('/')) return `there is no such directory; write ./${text} to make it, or ${FORMS}`
  return `it is none of ${FORMS}`
}
