import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { strerror } from '../kernel.js'
import { type RawPath, toBytes } from '../raw-path.js'

const STDERR = 2
const LINE_MAX = 8192 // bytes: a path and what is said of it

/**
 * The daemon's log: `2026/11/21 11:08:35 [1234] connect from ...`. Text is latin1, one char a byte. Without a file it
 * goes to standard error, where a service manager takes it up; there is no syslog.
 */
export class DaemonLog {
  #fd = STDERR
  #file = '' as RawPath

  /** The file goes on being written to when it has moved away, until `reopen`. Throws what opening it throws. */
  open(file: RawPath): void {
    if (file === this.#file) return
    const fd = file === '' ? STDERR : openLog(file)
    this.close()
    this.#fd = fd
    this.#file = file
  }

  /** After the file was renamed by logrotate: the old one is kept if there can be no new one. */
  reopen(): void {
    if (this.#file === '') return
    const fd = openLog(this.#file)
    closeSync(this.#fd)
    this.#fd = fd
  }

  write(text: string, pid = process.pid): void {
    const line = `${timestamp(new Date())} [${pid}] ${escapeControls(text).slice(0, LINE_MAX)}\n`
    try {
      writeSync(this.#fd, toBytes(line))
    } catch {
      // a full disk must not end a transfer, and there is nowhere else to say so
    }
  }

  close(): void {
    if (this.#fd !== STDERR) closeSync(this.#fd)
    this.#fd = STDERR
    this.#file = '' as RawPath
  }
}

function openLog(file: RawPath): number {
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOCTTY
  return openSync(toBytes(file), flags, 0o644)
}

const two = (number: number) => String(number).padStart(2, '0')

/** util1.c timestring(), in local time. */
function timestamp(time: Date): string {
  const date = `${time.getFullYear()}/${two(time.getMonth() + 1)}/${two(time.getDate())}`
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
}

/** Control characters become `\#ooo`, and so does a backslash that would look like one; a line stays one line. */
export function escapeControls(text: string): string {
  return text.replace(
    /[\x00-\x08\x0a-\x1f\x80-\x9f]|\\(?=#\d{3})/g,
    (c) => `\\#${c.charCodeAt(0).toString(8).padStart(3, '0')}`,
  )
}

/** What a daemon logs before a transfer, in the words of stock rsync, which log readers such as fail2ban know. */
export const LOG = {
  started: (version: string, port: number) => `rsyncd version ${version} starting, listening on port ${port}`,
  connect: (host: string, address: string) => `connect from ${host} (${address})`,
  moduleList: (host: string, address: string) => `module-list request from ${host} (${address})`,
  unknownModule: (module: string, host: string, address: string) =>
    `unknown module '${module}' tried from ${host} (${address})`,
  denied: (module: string, host: string, address: string) =>
    `rsync denied on module ${module} from ${host} (${address})`,
  allowed: (module: string, host: string, address: string) =>
    `rsync allowed access on module ${module} from ${host} (${address})`,
  maxConnections: (max: number) => `max connections (${max}) reached`,
  /** `user` is null before there was one: a weak digest, or no answer to the challenge. */
  authFailed: (module: string, host: string, address: string, user: string | null, cause: string) =>
    `auth failed on module ${module} from ${host} (${address})${user === null ? '' : ` for ${user}`}: ${cause}`,
  invalidResponse: 'invalid challenge response',
  noChroot: (error: NodeJS.ErrnoException) =>
    `chroot test failed: ${strerror(errnoOf(error))}. Switching 'use chroot' from unset to false.`,
  noPath: (module: string) => `No path specified for module ${module}`,
  /** `user` is '' without one. */
  transfer: (toUs: boolean, request: string, user: string, host: string, address: string) =>
    `rsync ${toUs ? 'to' : 'on'} ${request} from ${user === '' ? '' : `${user}@`}${host} (${address})`,
  /** A system call failed: `rsync: [Receiver] chdir /x failed: No such file or directory (2)`. */
  failed: (what: string, error: NodeJS.ErrnoException) => `rsync: [Receiver] ${what}: ${systemReason(error)}`,
} as const

/** What it tells the client; an `@ERROR` is the last line of the conversation. */
export const REPLY = {
  module: (name: string, comment: string) => `${name.padEnd(15)}\t${comment}`,
  endOfModules: '@RSYNCD: EXIT',
  unknownModule: (module: string) => `@ERROR: Unknown module '${module}'`,
  unknownCommand: (command: string) => `@ERROR: Unknown command '${command}'`,
  /** Of a module that is not listed nobody shall learn that it is there. */
  denied: (module: string, listed: boolean, host: string, address: string) =>
    listed ? `@ERROR: access denied to ${module} from ${host} (${address})` : REPLY.unknownModule(module),
  maxConnections: (max: number) => `@ERROR: max connections (${max}) reached -- try again later`,
  lockFile: '@ERROR: failed to open lock file',
  noDigest: '@ERROR: your client does not support one of our daemon-auth checksums: sha512 sha256 sha1 md5 md4',
  authFailed: (module: string) => `@ERROR: auth failed on module ${module}`,
  unknownIdentity: (kind: 'uid' | 'gid', name: string) => `@ERROR: invalid ${kind} ${name}`,
  noPath: '@ERROR: no path setting.',
  chrootFailed: '@ERROR: chroot failed',
  chdirFailed: '@ERROR: chdir failed',
  protocolError: '@ERROR: protocol startup error',
  /** `greeting` as the client sent it: from protocol 32 on it must name digests. */
  noDigestList: (greeting: string) => `@ERROR: your client omitted the digest name list: ${greeting}`,
} as const

/** The error that Node or we threw for a system call, in the system's words: `Permission denied (13)`. */
export function systemReason(error: NodeJS.ErrnoException): string {
  const errno = errnoOf(error)
  return `${strerror(errno)} (${errno})`
}

/** Node gives the number of a system error below 0. */
const errnoOf = (error: NodeJS.ErrnoException) => Math.abs(error.errno ?? 0)
