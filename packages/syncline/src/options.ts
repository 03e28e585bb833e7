import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Credentials, type FilterRule, fromBytes, parseRule, parseRules, type RawPath } from '@syncline/rsync'
import type { Config } from './config.js'
import { type Limit, parseLimit } from './deletion-limit.js'
import { type Destination, isWithin, parseDestination, refuseWithin } from './destination.js'
import { ConfigError } from './errors.js'
import type { MirrorOptions } from './mirror.js'
import type { ProcessOptions } from './run.js'

/** Where to listen. */
export interface HttpAddress {
  host: string
  port: number
}

/** The options of the command line as commander gives them. */
export interface CommandOptions {
  config?: string
  passwordFile?: string
  rsh?: string
  rules?: FilterRule[]
  delete: boolean
  maxDelete?: Limit
  initialSync: boolean | 'auto' | 'always' | 'never'
  watch?: MirrorOptions['watch']
  compress?: boolean
  bwlimit?: number
  sessions: number
  timeout: number
  stateDir: string
  http: HttpAddress | 'off'
  detach?: boolean
  pidFile?: string
  logFile?: string
  logFormat: 'pretty' | 'json'
  dryRun?: boolean
  verbose?: boolean
  quiet?: boolean
}

/** What `syncline [OPTIONS] SRC DEST...` is to mirror. Throws ConfigError. */
export function mirrorOf(source: string, destinations: readonly string[], options: CommandOptions): MirrorOptions {
  const path = resolveSource(source)
  const resolved = resolveDestinations(destinations, options.rsh)
  for (const destination of resolved) refuseWithin(path, destination)
  return {
    source: path,
    targets: resolved.map((destination) => ({
      destination,
      credentials: credentialsOf(destination, { file: options.passwordFile }),
      passwordFile: options.passwordFile,
      delete: options.delete,
      maxDelete: options.maxDelete,
      compress: options.compress === true,
      update: false,
      rate: options.bwlimit ?? 0,
      sessions: options.sessions,
      timeoutMs: options.timeout * 1000,
    })),
    rules: options.rules ?? [],
    expressions: [],
    attributes: true,
    whileWritten: false,
    initialSync: initialSyncOf(options.initialSync),
    watch: options.watch ?? 'auto',
    fullSync: undefined,
    fullSyncRules: [],
    actions: [],
    failureFile: undefined,
  }
}

/** --no-initial-sync is `never`; `auto` unless something else is said. */
export function initialSyncOf(given: boolean | 'auto' | 'always' | 'never' | undefined): MirrorOptions['initialSync'] {
  return given === undefined || given === true ? 'auto' : given === false ? 'never' : given
}

/** What belongs to the process: from the command line where it was given there, else from the configuration. */
export function processOptions(
  options: CommandOptions,
  config: Config['process'],
  given: ReadonlySet<string>,
): ProcessOptions {
  const stateDir = given.has('stateDir') ? options.stateDir : (config.stateDir ?? options.stateDir)
  return {
    stateDir,
    http: given.has('http') ? options.http : (config.http ?? options.http),
    httpOptional: config.httpOptional === true && !given.has('http'),
    pidFile: options.pidFile ?? config.pidFile,
    log: {
      file: options.logFile ?? config.logFile,
      format: given.has('logFormat') ? options.logFormat : (config.logFormat ?? options.logFormat),
      level: options.verbose ? 'debug' : options.quiet ? 'warn' : 'info',
    },
    dryRun: options.dryRun === true,
  }
}

/** SRC as an absolute path. A symlink in it stays: when it leads elsewhere one day, the mirror halts. */
export function resolveSource(text: string): RawPath {
  try {
    const path = fromBytes(Buffer.from(resolve(text)))
    if (!statSync(Buffer.from(path, 'latin1')).isDirectory()) throw new Error('it is not a directory')
    return path
  } catch (error) {
    const text_ =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such directory' : (error as Error).message
    throw new ConfigError(`SRC "${text}": ${text_}; name the directory that is to be mirrored`, 3)
  }
}

/** The DESTs; each once. */
export function resolveDestinations(texts: readonly string[], rsh: string | undefined): Destination[] {
  const destinations = texts.map((text) => parseDestination(text, rsh))
  const twice = texts.find((text, i) => texts.indexOf(text) !== i)
  if (twice !== undefined) throw new ConfigError(`DEST "${twice}" is given twice`)
  const local = destinations.filter(({ remote }) => remote.local)
  for (const one of local) {
    const other = local.find((two) => two !== one && isWithin(two.remote.path as RawPath, one.remote.path as RawPath))
    if (other !== undefined)
      throw new ConfigError(
        `DEST "${other.name}" is DEST "${one.name}", or below it: each would delete what the other has`,
      )
  }
  return destinations
}

/** Where a password is to be found; without any of these, in RSYNC_PASSWORD. */
export interface PasswordSource {
  file?: string | undefined
  /** The name of an environment variable. */
  env?: string | undefined
  /** The name of a systemd credential. */
  credential?: string | undefined
}

/** The user of DEST or of the environment, with the password; none without a password. Throws ConfigError. */
export function credentialsOf(destination: Destination, from: PasswordSource): Credentials | undefined {
  const password = passwordFrom(from)
  if (password === undefined) return undefined
  return { user: destination.user ?? process.env.USER ?? process.env.LOGNAME ?? 'nobody', password }
}

function passwordFrom({ file, env, credential }: PasswordSource): string | undefined {
  if (file !== undefined) return readPassword(file)
  if (env !== undefined) {
    const password = Object.hasOwn(process.env, env) ? process.env[env] : undefined
    if (password === undefined) throw new ConfigError(`the environment has no ${env}; set it to the password`)
    return password
  }
  if (credential === undefined) return process.env.RSYNC_PASSWORD
  const directory = process.env.CREDENTIALS_DIRECTORY
  if (directory === undefined)
    throw new ConfigError(`credential ${credential}: not started by systemd with LoadCredential=${credential}:FILE`)
  return firstLine(`${directory}/${credential}`) // systemd has seen to who may read it
}

const PASSWORD_MAX = 4096
const PASSWORD_FILE_MAX = 1 << 16
const PATTERN_FILE_MAX = 16 << 20

/** The content of a file that people write. Throws Error when it is no file, or longer than `max` bytes. */
export function readSmallFile(file: string | Buffer, max: number): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new Error('it is not a file')
    if (stats.size > max) throw new Error(`it is ${stats.size} bytes long; at most ${max} are read`)
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** The first line of a file that nobody else can read. Throws ConfigError. */
function readPassword(file: string): string {
  try {
    const { mode, uid } = statSync(file)
    if ((mode & 0o077) !== 0)
      throw new ConfigError(
        `password file ${file}: others may read it (mode ${(mode & 0o7777).toString(8)}); run: chmod 600 ${file}`,
      )
    if (process.getuid?.() === 0 && uid !== 0)
      throw new ConfigError(`password file ${file}: it must belong to root when root uses it; run: chown root ${file}`)
  } catch (error) {
    if (error instanceof ConfigError) throw error
    throw new ConfigError(`password file ${file}: ${(error as Error).message}`)
  }
  return firstLine(file)
}

function firstLine(file: string): string {
  let text: string
  try {
    text = readSmallFile(file, PASSWORD_FILE_MAX).toString('utf8')
  } catch (error) {
    throw new ConfigError(`password file ${file}: ${(error as Error).message}`)
  }
  const password = text.split(/[\r\n]/, 1)[0]
  if (password === '' || password.length > PASSWORD_MAX)
    throw new ConfigError(`password file ${file}: its first line must be the password`)
  return password
}

/** An rsync rate: KiB a second without a suffix; K M G are powers of 1024, KB MB GB of 1000. Bytes a second; 0 is no limit. */
export function parseRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMG]?)(B|iB)?$/i.exec(text)
  if (match === null)
    throw new ConfigError(`--bwlimit=${text}: write a number of KiB a second, or one with K, M, G, KB, MB, GB`)
  const base = match[3]?.toLowerCase() === 'b' && match[2] !== '' ? 1000 : 1024
  const power = match[2] === '' ? (match[3] === undefined ? 1 : 0) : 'KMG'.indexOf(match[2].toUpperCase()) + 1
  const rate = Number(match[1]) * base ** power
  if (rate > 2 ** 50) throw new ConfigError(`--bwlimit=${text}: at most 1024T bytes a second`)
  if (rate !== 0 && rate < 512) throw new ConfigError(`--bwlimit=${text}: at least 512 bytes a second`)
  return rate
}

/** ADDRESS:PORT, with IPv6 addresses in brackets; or `off`. */
export function parseHttp(text: string): HttpAddress | 'off' {
  if (text === 'off') return text
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text)
  if (match === null || Number(match[3]) > 65_535)
    throw new ConfigError(`--http=${text}: write ADDRESS:PORT, such as 127.0.0.1:8008, or off`)
  return { host: match[1] ?? match[2], port: Number(match[3]) }
}

/** A whole number within bounds, for an option called `name`. */
export function parseNumber(name: string, text: string, low: number, high: number): number {
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < low || number > high)
    throw new ConfigError(`${name}${text}: a whole number from ${low} to ${high} is wanted`)
  return number
}

/** How many names may be deleted at once: `1000`, or `25%` of those that the source has. */
export function limitOf(name: string, text: string): Limit {
  const limit = parseLimit(text)
  if (limit === undefined) throw new ConfigError(`${name}${text}: write a number of names, or a part such as 25%`)
  return limit
}

export function patternRule(name: string, text: string, include: boolean): FilterRule {
  try {
    return parseRule(Buffer.from(text).toString('latin1'), include)
  } catch (error) {
    throw new ConfigError(`${name}${text}: ${(error as Error).message.replace('protocol error in filter rule: ', '')}`)
  }
}

export function patternFile(file: string): FilterRule[] {
  try {
    return parseRules(readSmallFile(file, PATTERN_FILE_MAX).toString('latin1'), false)
  } catch (error) {
    throw new ConfigError(`--exclude-from=${file}: ${(error as Error).message}`)
  }
}
