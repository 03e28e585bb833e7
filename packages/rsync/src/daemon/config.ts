import { posix } from 'node:path'
import { printable, type RawPath } from '../raw-path.js'
import { DaemonConfigError, type Place, readConfigFile, type Statement } from './config-file.js'

export { DaemonConfigError, type Place } from './config-file.js'

/**
 * What rsyncd.conf(5) says of one module, in that page's words: a parameter is found by its name here without regard
 * to case and blanks. Text is latin1, `''` where nothing was said; null leaves the choice to us.
 */
export interface ModuleConfig {
  name: string
  comment: string
  path: RawPath
  uid: string
  gid: string
  useChroot: boolean | null
  mungeSymlinks: boolean | null
  numericIds: boolean | null
  /** 0 without a limit; below it nobody gets in. */
  maxConnections: number
  lockFile: RawPath
  /** Seconds, 0 without. */
  timeout: number
  logFile: RawPath
  transferLogging: boolean
  logFormat: string
  maxVerbosity: number
  ignoreErrors: boolean
  readOnly: boolean
  writeOnly: boolean
  list: boolean
  hostsAllow: string
  hostsDeny: string
  reverseLookup: boolean
  forwardLookup: boolean
  authUsers: string
  authDigest: string
  secretsFile: RawPath
  strictModes: boolean
  fakeSuper: boolean
  filter: string
  include: string
  exclude: string
  includeFrom: RawPath
  excludeFrom: RawPath
  incomingChmod: string
  outgoingChmod: string
  dontCompress: string
  refuseOptions: string
  tempDir: RawPath
}

/** What it says of the daemon itself. */
export interface GlobalConfig {
  address: string
  /** 0 is 873. */
  port: number
  socketOptions: string
  listenBacklog: number
  pidFile: RawPath
  motdFile: RawPath
  daemonUid: string
  daemonGid: string
  /** Our own, for rsync-ssl and `rsyncs://`: PEM files; TLS is spoken where both are given. 0 is 874. */
  sslPort: number
  sslCertificate: RawPath
  sslKey: RawPath
}

/** Something was read otherwise than it was meant, perhaps: a line in the log, and how to mend it. */
export interface Notice extends Place {
  /** What stock rsync logs of it, in one line or two; ours where it says nothing. */
  text: string
  mend: string
}

export interface DaemonConfig {
  globals: GlobalConfig
  /** The module parameters outside of modules: the daemon's own log file and look-ups. Its name is ''. */
  defaults: ModuleConfig
  /** In the order of the file, under the names that clients must use. */
  modules: Map<string, ModuleConfig>
  notices: Notice[]
}

const NONE = '' as RawPath

const GLOBALS: GlobalConfig = {
  address: '',
  port: 0,
  socketOptions: '',
  listenBacklog: 5,
  pidFile: NONE,
  motdFile: NONE,
  daemonUid: '',
  daemonGid: '',
  sslPort: 0,
  sslCertificate: NONE,
  sslKey: NONE,
}

const MODULE: ModuleConfig = {
  name: '',
  comment: '',
  path: NONE,
  uid: '',
  gid: '',
  useChroot: null,
  mungeSymlinks: null,
  numericIds: null,
  maxConnections: 0,
  lockFile: '/var/run/rsyncd.lock' as RawPath,
  timeout: 0,
  logFile: NONE,
  transferLogging: false,
  logFormat: '%o %h [%a] %m (%u) %f %l',
  maxVerbosity: 1,
  ignoreErrors: false,
  readOnly: true,
  writeOnly: false,
  list: true,
  hostsAllow: '',
  hostsDeny: '',
  reverseLookup: true,
  forwardLookup: true,
  authUsers: '',
  authDigest: '',
  secretsFile: NONE,
  strictModes: true,
  fakeSuper: false,
  filter: '',
  include: '',
  exclude: '',
  includeFrom: NONE,
  excludeFrom: NONE,
  incomingChmod: '',
  outgoingChmod: '',
  dontCompress: '',
  refuseOptions: '',
  tempDir: NONE,
}

/** Parameters of stock rsync that we do not have, and what to do instead. Unset or false they do no harm. */
const REFUSED: Record<string, string> = {
  charset: 'file names pass as the bytes they are: remove the line',
  daemonchroot: 'remove the line; "use chroot" confines each module',
  earlyexec: 'remove the line and prepare the directory before the daemon starts',
  ignorenonreadable: 'remove the line, and "exclude" what clients must not see',
  insecurelinks: 'remove the line: symlinks that lead out of a module are never followed',
  nameconverter: 'set "numeric ids = yes", or "use chroot = no" to find names in the system',
  opennoatime: 'remove the line and mount the filesystem with noatime',
  'post-xferexec': 'remove the line and watch the module with syncline instead',
  'pre-xferexec': 'remove the line; it may have been an access check, so see "hosts allow" and "auth users" instead',
  proxyprotocol: 'remove the line and let clients connect directly',
  proxyprotocolhosts: 'remove the line and let clients connect directly',
}

/** These only say how syslog is used, which we do not use. */
const WITHOUT_EFFECT = new Set(['syslogfacility', 'syslogtag'])

type Value = string | number | boolean | null
type Values = Record<string, Value>

const squash = (name: string) => name.replace(/\s+/g, '').toLowerCase()
const keysOf = (table: object) => new Map(Object.keys(table).map((key) => [key.toLowerCase(), key]))
const GLOBAL_KEYS = keysOf(GLOBALS)
const MODULE_KEYS = keysOf(MODULE)

const TRISTATE = new Set(['useChroot', 'mungeSymlinks', 'numericIds'])
const DIRECTORIES = new Set(['path', 'tempDir']) // stock rsync cuts slashes off their ends

const MODULES_MAX = 10_000
const LENGTH_MAX = 1 << 16 // of a value: it may be a long list of hosts

/** Reads and checks `file` and what it includes. Throws DaemonConfigError for what stock rsync does not load either. */
export function loadDaemonConfig(file: string): DaemonConfig {
  return interpret(readConfigFile(file))
}

/** loadparm.c: what the statements amount to. */
export function interpret(statements: Iterable<Statement>): DaemonConfig {
  const loader = new Loader()
  for (const statement of statements) loader.take(statement)
  return loader.finish()
}

class Loader {
  #globals: Values = {}
  /** Of modules that start from here on. */
  #defaults: Values = {}
  /** The module that is being read; null outside of all. */
  #section: Values | null = null
  readonly #sections: Values[] = []
  readonly #pushed: { globals: Values; defaults: Values }[] = []
  readonly #notices: Notice[] = []
  readonly #places = new Map<string, Place>()

  take(statement: Statement): void {
    switch (statement.kind) {
      case 'section':
        return this.#enter(statement.name, statement)
      case 'parameter':
        return this.#set(statement.name, statement.value, statement)
      case 'malformed':
        return this.#malformed(statement.text, statement.atEnd, statement)
      case 'push':
        this.#pushed.push({ globals: { ...this.#globals }, defaults: { ...this.#defaults } })
        this.#section = null
        return
      case 'pop': {
        const before = this.#pushed.pop()!
        this.#globals = before.globals
        this.#defaults = before.defaults
        this.#section = null // what follows is outside of modules, even if the &include was not
      }
    }
  }

  finish(): DaemonConfig {
    const globals = expandAll({ ...GLOBALS, ...this.#globals } as GlobalConfig)
    const place = this.#places.get('sslCertificate') ?? this.#places.get('sslKey') ?? this.#places.get('sslPort')
    if (place !== undefined && (globals.sslCertificate === '' || globals.sslKey === ''))
      throw new DaemonConfigError(place, 'TLS takes both "ssl certificate" and "ssl key"', 'say where both files are')
    const defaults = expandAll({ ...MODULE, ...this.#defaults } as ModuleConfig)
    const modules = new Map(this.#sections.map((section) => [section.name as string, this.#complete(section)]))
    return { globals, defaults, modules, notices: this.#notices }
  }

  /** loadparm.c do_section(): modules with names that differ in case and blanks alone are one. */
  #enter(name: string, place: Place): void {
    const squashed = squash(name)
    if (squashed === 'global') {
      this.#section = null
      return
    }
    if (name.includes('/'))
      throw new DaemonConfigError(
        place,
        `Warning: invalid section name in configuration file: ${name}`,
        'a module is called without slashes; its directory is its "path"',
      )
    this.#section = this.#sections.find((section) => squash(section.name as string) === squashed) ?? null
    if (this.#section !== null) return
    if (this.#sections.length === MODULES_MAX)
      throw new DaemonConfigError(place, `more than ${MODULES_MAX} modules`, 'divide them among several daemons')
    this.#section = { ...this.#defaults, name }
    this.#sections.push(this.#section)
  }

  #set(name: string, value: string, place: Place): void {
    const squashed = squash(name)
    const moduleKey = MODULE_KEYS.get(squashed)
    const globalKey = GLOBAL_KEYS.get(squashed)
    const key = moduleKey ?? globalKey
    if (value.length > LENGTH_MAX)
      throw new DaemonConfigError(place, `"${name}" is longer than ${LENGTH_MAX} bytes`, 'shorten it')
    if (key === undefined) return this.#without(name, squashed, value, place)
    if (globalKey !== undefined && this.#section !== null)
      return this.#notice(place, `Global parameter ${name} found in module section!`, 'move the line above all modules')
    const values = globalKey !== undefined ? this.#globals : (this.#section ?? this.#defaults)
    const before = globalKey !== undefined ? GLOBALS : MODULE
    const read = this.#read(name, key, value, (before as unknown as Values)[key], place)
    if (read === undefined) return
    values[key] = read
    this.#places.set(key, place)
  }

  /** The value, of the kind that the default is; undefined where it was none, and what was there before stays. */
  #read(name: string, key: string, value: string, like: Value, place: Place): Value | undefined {
    if (typeof like === 'boolean' || TRISTATE.has(key))
      return this.#boolean(name, expand(value), TRISTATE.has(key), place)
    if (typeof like === 'number') return this.#integer(name, key, expand(value), place)
    return DIRECTORIES.has(key) && value !== '/' ? value.replace(/(?<=.)\/+$/, '') : value
  }

  #boolean(name: string, value: string, tristate: boolean, place: Place): boolean | null | undefined {
    const word = squash(value)
    if (['yes', 'true', '1'].includes(word)) return true
    if (['no', 'false', '0'].includes(word)) return false
    if (tristate && ['unset', '-1'].includes(word)) return null
    this.#notice(
      place,
      `Badly formed boolean in configuration file: "${value}".`,
      `"${name}" is yes or no; it stays what it was`,
    )
    return undefined
  }

  /** atoi(3), as stock rsync has it: `3x` is 3 and `x` is 0. */
  #integer(name: string, key: string, value: string, place: Place): number {
    const digits = /^\s*[+-]?\d+/.exec(value)?.[0] ?? ''
    const number = Number(digits)
    const sane = number >= -0x80000000 && number <= 0x7fffffff ? number : 0
    if (digits !== value || sane !== number)
      this.#notice(place, `"${name} = ${value}" is read as ${sane}`, 'write a whole number')
    if (/port$/i.test(key) && (sane < 0 || sane > 65535))
      throw new DaemonConfigError(place, `"${name} = ${value}" is no port`, 'write a number from 1 to 65535')
    return sane
  }

  /** A parameter that is not one of ours. */
  #without(name: string, squashed: string, value: string, place: Place): void {
    const mend = REFUSED[squashed]
    if (mend !== undefined) {
      if (['', 'no', 'false', '0', 'unset', '-1'].includes(squash(value))) return
      throw new DaemonConfigError(place, `"${name}" is not offered by this daemon`, mend)
    }
    if (WITHOUT_EFFECT.has(squashed))
      return this.#notice(place, `"${name}" has no effect: syslog is not used`, 'set "log file"')
    // loadparm.c says it twice, and leaves the first out for names that start with a dash.
    const known = name.startsWith('-') ? '' : `Unknown Parameter encountered: "${name}"\n`
    this.#notice(place, `${known}IGNORING unknown parameter "${name}"`, `correct the name or remove the line`)
  }

  #malformed(text: string, atEnd: boolean, place: Place): void {
    const problem = atEnd ? 'Unexpected end-of-file at' : 'Ignoring badly formed line in config file'
    this.#notice(place, `params.c:Parameter() - ${problem}: ${text}`, `to set it, write "${text} = yes"`)
  }

  #notice(place: Place, text: string, mend: string): void {
    this.#notices.push({ file: place.file, line: place.line, text, mend })
  }

  /**
   * Text that a module does not set is what the defaults are in the end, even if that was said after the module; all
   * else is what they were when the module started. (loadparm.c FN_LOCAL_STRING() and FN_LOCAL_BOOL())
   */
  #complete(section: Values): ModuleConfig {
    const late = Object.entries(this.#defaults).filter(([key]) => (MODULE as unknown as Values)[key] === '')
    return { ...MODULE, ...Object.fromEntries(late), ...section }
  }
}

/** By name, latin1; stock rsync has RSYNC_MODULE_NAME, RSYNC_USER_NAME and others for a connection. */
export type Variables = Readonly<Record<string, string | undefined>>

const VARIABLE_MAX = 256 // of a name with its percent signs

/**
 * loadparm.c expand_vars(): `%NAME%` is one of `variables` or of the environment, where there is one and it starts with
 * a capital letter. All else stays as it is, `%%` too, and what was put in is not looked at again.
 */
export function expand(text: string, variables: Variables = {}): string {
  let expanded = ''
  for (let i = 0; i < text.length; ) {
    const name = text[i] === '%' ? /^%([A-Z][^%]*)%/.exec(text.slice(i, i + VARIABLE_MAX))?.[1] : undefined
    const value = name === undefined ? undefined : (variables[name] ?? fromEnvironment(name))
    expanded += value ?? text[i]
    i += value === undefined ? 1 : name!.length + 2
  }
  return expanded
}

function fromEnvironment(name: string): string | undefined {
  const value = process.env[name]
  return value === undefined ? undefined : Buffer.from(value).toString('latin1')
}

/** The module with its text expanded. Do it from the original again once more variables are known. */
export const expandModule = (module: ModuleConfig, variables: Variables): ModuleConfig => ({
  ...expandAll(module, variables),
  name: module.name,
})

function expandAll<T extends object>(table: T, variables: Variables = {}): T {
  const expanded = Object.entries(table).map(([key, value]) => [
    key,
    typeof value === 'string' ? expand(value, variables) : value,
  ])
  return Object.fromEntries(expanded) as T
}

/** Whether clients' names must be looked up as soon as they connect: a look-up for one module alone would tell of it. */
export const needsReverseLookup = (config: DaemonConfig): boolean =>
  config.defaults.reverseLookup || [...config.modules.values()].some((module) => module.reverseLookup)

/** Whether the module must be served in a chroot; null: it is if that can be done, and the log says so if it cannot. */
export const wantsChroot = (module: ModuleConfig): boolean | null =>
  module.useChroot ?? (module.path.includes('/./') ? true : null)

/** How a module is entered. */
export interface Entrance {
  /** The directory to chroot to, or without a chroot the module itself. */
  root: RawPath
  /** In the chroot the module itself, as an absolute path. */
  inside: RawPath
  /** Symlinks that clients send are bent, so that nobody follows them out of the module. */
  mungeSymlinks: boolean
  /** In a chroot there is no /etc/passwd to look names up in. */
  numericIds: boolean
}

/** `path = /outer/./inner` is served from a chroot to /outer. */
export function entrance(module: ModuleConfig, chroot: boolean): Entrance {
  const divider = chroot ? module.path.indexOf('/./') : -1
  const root = divider < 0 ? module.path : module.path.slice(0, divider) || '/'
  const inside = divider < 0 ? '/' : posix.join('/', module.path.slice(divider + 2), '.')
  return {
    root: root as RawPath,
    inside: inside as RawPath,
    mungeSymlinks: module.mungeSymlinks ?? (!chroot || inside !== '/'),
    numericIds: module.numericIds ?? chroot,
  }
}

/** Lines for the log: what stock rsync says, then where and how to mend it. */
export const noticeLines = ({ text, file, line, mend }: Notice) =>
  `${text} (${printable(file)}:${line}: ${mend})`.split('\n')
