import type { Expression, FilterRule } from '@syncline/rsync'
import { DOMParser, type Element, MIME_TYPE } from '@xmldom/xmldom'
import { RE2JS } from 're2js'
import { type Action, checkedUrl } from './actions.js'
import type { Config } from './config.js'
import { type Destination, parseDestination } from './destination.js'
import { ConfigError } from './errors.js'
import { credentialsOf, parseNumber, parseRate, patternFile, patternRule, resolveSource } from './options.js'
import { everySchedule, type Schedule } from './schedule.js'

const TIMEOUT_S = 60
const SESSIONS = 4

/** Reads sersync's confxml.xml; with `alone` only what that plugin is to be told of. Throws ConfigError with file, line and column. */
export function readSersync(file: string, bytes: Buffer, alone?: string): Config {
  return new Reader(file).read(decodeXml(file, bytes), alone)
}

/** In the encoding that the declaration names: real files are UTF-8, GBK, or say ISO-8859-1 and hold any of these. */
function decodeXml(file: string, bytes: Buffer): string {
  const name = /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]{1,40})["']/.exec(
    bytes.toString('latin1', 0, 512),
  )?.[1]
  // Whoever declared ISO-8859-1, as the shipped file does, hardly meant it where the bytes are good UTF-8.
  for (const encoding of /^iso-8859-1$|^latin1$/i.test(name ?? '')
    ? ['utf-8', 'gb18030', 'latin1']
    : [name ?? 'utf-8']) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(bytes)
    } catch {
      // the next one, or the error below
    }
  }
  throw new ConfigError(`${file}:1:1: its bytes are not ${name ?? 'UTF-8'}; correct encoding="..." in its first line`)
}

const SWITCHES = [
  'delete',
  'createFolder',
  'createFile',
  'closeWrite',
  'moveFrom',
  'moveTo',
  'attrib',
  'modify',
] as const
type Switch = (typeof SWITCHES)[number]
const SWITCH_DEFAULTS: Record<Switch, boolean> = {
  delete: true,
  createFolder: true,
  createFile: false,
  closeWrite: true,
  moveFrom: true,
  moveTo: true,
  attrib: false,
  modify: false,
}

type Known = { [name: string]: Known }

const FILTER: Known = { exclude: {}, include: {} }
/** Which element may stand in which. */
const ELEMENTS: Known = {
  host: {},
  debug: {},
  fileSystem: {},
  filter: FILTER,
  inotify: Object.fromEntries(SWITCHES.map((name) => [name, {}])),
  sersync: {
    localpath: { remote: {} },
    rsync: { commonParams: {}, auth: {}, userDefinedPort: {}, timeout: {}, ssh: {} },
    failLog: {},
    crontab: { crontabfilter: FILTER },
    plugin: {},
  },
  plugin: {
    param: {},
    filter: FILTER,
    localpath: { deshost: {}, cdninfo: {}, sendurl: {}, regexurl: {} },
    deshost: {},
    cdninfo: {},
    sendurl: {},
    regexurl: {},
  },
}

interface Locator {
  lineNumber?: number
  columnNumber?: number
}

/** What `commonParams` says, in our terms. */
interface Params {
  rules: FilterRule[]
  compress: boolean
  update: boolean
  rate: number
  timeoutS: number | undefined
}

class Reader {
  readonly #remarks: string[] = []

  constructor(readonly file: string) {}

  read(text: string, alone: string | undefined): Config {
    const head = this.#parse(text)
    this.#checkNames(head, ELEMENTS)
    const sersync = this.#one(head, 'sersync')
    const local = this.#one(sersync, 'localpath')
    const rsync = this.#optional(sersync, 'rsync')
    const switches = this.#switches(head)
    const params = this.#params(rsync)
    const timeout = this.#started(rsync, 'timeout')
    const timeoutS = timeout === undefined ? (params.timeoutS ?? TIMEOUT_S) : this.#number(timeout, 'time', 1, 86_400)
    const watched = this.#watched(head, local, alone)
    const source = this.#at(watched, () => resolveSource(this.#attribute(watched, 'watch')))
    const remotes = alone === undefined ? this.#children(local, 'remote') : []
    const targets = remotes.map((remote) => {
      const destination = this.#destination(remote, rsync)
      const auth = this.#started(rsync, 'auth')
      const credentials =
        auth === undefined
          ? undefined
          : this.#at(auth, () => credentialsOf(destination, { file: this.#attribute(auth, 'passwordfile') }))
      return {
        destination,
        credentials,
        passwordFile: auth === undefined ? undefined : this.#attribute(auth, 'passwordfile'),
        delete: switches.delete,
        maxDelete: undefined,
        compress: params.compress,
        update: params.update,
        rate: params.rate,
        sessions: SESSIONS,
        timeoutMs: timeoutS * 1000,
      }
    })
    if (targets.length === 0 && alone === undefined)
      throw this.#error(local, 'it has no <remote ip="..." name="..."/>; name at least one')
    this.#remark('with syncline -c everything is compared at the start; sersync2 does so only with -r')
    this.#remark(
      'names that begin with "." or end with "~", and 4913, are mirrored like any other; sersync left them out',
    )
    return {
      file: this.file,
      mirrors: [
        {
          source,
          targets,
          rules: params.rules,
          expressions: this.#expressions(head),
          attributes: switches.attrib,
          whileWritten: switches.modify,
          initialSync: 'auto',
          watch: 'auto',
          fullSync: this.#crontab(sersync),
          fullSyncRules: this.#crontabFilter(sersync),
          actions: this.#plugins(head, sersync, alone),
          failureFile: this.#failLog(sersync),
        },
      ],
      guards: [],
      sersync: true,
      process: { http: this.#host(head), httpOptional: true },
      remarks: this.#remarks,
    }
  }

  #parse(text: string): Element {
    let root: Element | null = null
    let fault: string | undefined
    // Of any level: a warning is such as an attribute without quotes, and nobody knows what it then means.
    const onError = (_level: string, message: string, context: { locator?: Locator }) => {
      const { lineNumber = 1, columnNumber = 1 } = context.locator ?? {}
      fault ??= `${lineNumber}:${columnNumber}: ${message}`
    }
    try {
      const xml = text.replace(/^\ufeff/, '').trimStart()
      root = new DOMParser({ onError }).parseFromString(xml, MIME_TYPE.XML_TEXT).documentElement
    } catch (error) {
      fault ??= `1:1: ${(error as Error).message}`
    }
    if (fault !== undefined) throw new ConfigError(`${this.file}:${fault.split('\n')[0]}`)
    if (root === null || root.tagName !== 'head')
      throw new ConfigError(
        `${this.file}:1:1: its outermost element must be <head version="2.5">, as in sersync's confxml.xml`,
      )
    return root
  }

  /** A name that is written wrong would otherwise be a setting that is not made. */
  #checkNames(parent: Element, known: Known): void {
    for (let node = parent.firstChild; node !== null; node = node.nextSibling) {
      if (node.nodeType !== 1) continue
      const element = node as Element
      const inner = Object.hasOwn(known, element.tagName) ? known[element.tagName] : undefined
      if (inner === undefined)
        throw this.#error(
          element,
          `there is no such element in <${parent.tagName}>; known are ${Object.keys(known).join(', ')}`,
        )
      this.#checkNames(element, inner)
    }
  }

  /** Of a plugin alone, what it names itself. */
  #watched(head: Element, local: Element, alone: string | undefined): Element {
    const plugin = alone === undefined ? undefined : this.#plugin(head, alone)
    return (plugin === undefined ? undefined : this.#optional(plugin, 'localpath')) ?? local
  }

  /** The plugins that are switched on; with `alone`, that one, whatever is switched on. */
  #plugins(head: Element, sersync: Element, alone: string | undefined): Action[] {
    const started = this.#children(sersync, 'plugin').filter((one) => this.#flag(one, 'start', false))
    const names = alone === undefined ? started.map((one) => this.#attribute(one, 'name')) : [alone]
    return names.map((name) => {
      const plugin = this.#plugin(head, name)
      if (plugin === undefined)
        throw this.#error(
          started.find((one) => one.getAttribute('name') === name) ?? head,
          `there is no <plugin name="${name}"> that says what it does; add one below <head>, or set start="false"`,
        )
      return this.#action(plugin, name)
    })
  }

  #plugin(head: Element, name: string): Element | undefined {
    return this.#children(head, 'plugin').find((one) => one.getAttribute('name') === name)
  }

  #action(plugin: Element, name: string): Action {
    const plain = { only: [], ignoreErrors: false }
    const local = this.#optional(plugin, 'localpath') ?? plugin
    switch (name) {
      case 'command': {
        const param = this.#one(plugin, 'param')
        const words = (name: string) => (param.getAttribute(name) ?? '').split(/\s+/).filter((word) => word !== '')
        const run = [...words('prefix'), '{path}', ...words('suffix')]
        if (words('prefix').length === 0) throw this.#error(param, 'prefix="..." names no program; add it')
        const filter = this.#started(plugin, 'filter')
        const only = filter === undefined ? [] : this.#children(filter, 'include').map((one) => this.#expression(one))
        this.#remark('the command plugin is run without a shell: prefix and suffix are words, the path is one argument')
        return { deed: { run }, only, ignoreErrors: this.#flag(param, 'ignoreError', false) }
      }
      case 'socket':
        return { ...plain, deed: { connect: this.#place(this.#one(local, 'deshost'), 'ip') } }
      case 'http': {
        const url = this.#optional(local, 'sendurl')
        if (url !== undefined)
          return { ...plain, deed: { post: this.#at(url, () => checkedUrl(this.#attribute(url, 'base'))) } }
        const { host, port } = this.#place(this.#one(local, 'deshost'), 'ip')
        return { ...plain, deed: { post: `http://${host.includes(':') ? `[${host}]` : host}:${port}/` } }
      }
      case 'refreshCDN': {
        const info = this.#one(local, 'cdninfo')
        const regex = this.#optional(local, 'regexurl')
        const match =
          regex !== undefined && this.#flag(regex, 'regex', false) ? this.#attribute(regex, 'match') : undefined
        if (match !== undefined) this.#at(regex!, () => expressionOf(match))
        const [user, password] = [this.#attribute(info, 'username'), this.#attribute(info, 'passwd')]
        const base = this.#attribute(this.#one(local, 'sendurl'), 'base')
        return { ...plain, deed: { refresh: { ...this.#place(info, 'domainname'), user, password, base, match } } }
      }
      default:
        throw this.#error(plugin, `there is no plugin ${name}; known are command, socket, http, refreshCDN`)
    }
  }

  #place(element: Element, host: string): { host: string; port: number } {
    return { host: this.#attribute(element, host), port: this.#number(element, 'port', 1, 65_535) }
  }

  #switches(head: Element): Record<Switch, boolean> {
    const inotify = this.#optional(head, 'inotify')
    const values = { ...SWITCH_DEFAULTS }
    if (inotify === undefined) return values
    const element = (name: Switch) => this.#optional(inotify, name)
    for (const name of SWITCHES) {
      const one = element(name)
      if (one !== undefined) values[name] = this.#flag(one, 'start', values[name])
    }
    for (const name of ['closeWrite', 'moveTo', 'createFolder'] as const)
      if (!values[name])
        throw this.#error(
          element(name)!,
          'without it changes would never arrive, and Syncline promises that they do; set start="true"',
        )
    if (values.delete && !values.moveFrom)
      throw this.#error(
        element('moveFrom') ?? inotify,
        'names that were moved away stay only where nothing is deleted; set start="true", or <delete start="false"/>',
      )
    if (!values.delete && values.moveFrom)
      this.#remark('delete is off: the old name of what is moved stays at the target, too; sersync deleted it there')
    if (!values.createFile)
      this.#remark(
        'createFile is off: symlinks, hard links, devices and FIFOs are mirrored all the same; sersync missed them',
      )
    return values
  }

  #params(rsync: Element | undefined): Params {
    const params: Params = { rules: [], compress: false, update: false, rate: 0, timeoutS: undefined }
    const common = rsync === undefined ? undefined : this.#optional(rsync, 'commonParams')
    if (common === undefined) return params
    const missing = new Set('rlptgoD')
    const words = this.#attribute(common, 'params')
      .split(/\s+/)
      .filter((word) => word !== '')
    for (let word = words.shift(); word !== undefined; word = words.shift()) {
      if (word.startsWith('--')) this.#longParam(common, word, words, params)
      else if (word.startsWith('-')) for (const letter of word.slice(1)) this.#letter(common, letter, missing, params)
      else throw this.#error(common, `params: "${word}" is no rsync option; remove it`)
    }
    if (missing.size > 0)
      throw this.#error(
        common,
        `params: Syncline preserves all that -a does; write -a instead (missing: ${[...missing].join('')})`,
      )
    if (params.update)
      this.#remark(
        `-u in params: what has become older at the source (a restored file) or is newer at the target is never sent`,
      )
    return params
  }

  #letter(common: Element, letter: string, missing: Set<string>, params: Params): void {
    if (letter === 'a') missing.clear()
    else if ('rlptgoD'.includes(letter)) missing.delete(letter)
    else if (letter === 'z') params.compress = true
    else if (letter === 'u') params.update = true
    // Output, or what is always so here: hard links are kept, numbers readable.
    else if (!'vqhHPW'.includes(letter)) throw this.#error(common, `params: -${letter} is not supported; remove it`)
  }

  #longParam(common: Element, word: string, words: string[], params: Params): void {
    const [, name, given] = /^--([^=]*)(?:=(.*))?$/s.exec(word)!
    const value = () => given ?? words.shift() ?? ''
    this.#at(common, () => {
      switch (name) {
        case 'archive':
        case 'delete':
        case 'delete-during':
        case 'hard-links':
        case 'human-readable':
        case 'numeric-ids':
        case 'partial':
        case 'progress':
        case 'quiet':
        case 'stats':
        case 'verbose':
        case 'whole-file':
          return
        case 'compress':
          params.compress = true
          return
        case 'update':
          params.update = true
          return
        case 'bwlimit':
          params.rate = parseRate(value())
          return
        case 'timeout':
          params.timeoutS = parseNumber('--timeout=', value(), 1, 86_400)
          return
        case 'exclude':
          params.rules.push(patternRule('--exclude=', unquoted(value()), false))
          return
        case 'include':
          params.rules.push(patternRule('--include=', unquoted(value()), true))
          return
        case 'exclude-from':
          params.rules.push(...patternFile(unquoted(value())))
          return
        default:
          throw new Error(`params: --${name} is not supported; remove it`)
      }
    })
  }

  /** Several forms of one name: see Filter. */
  #expressions(head: Element): Expression[] {
    const filter = this.#started(head, 'filter')
    return filter === undefined ? [] : this.#children(filter, 'exclude').map((one) => this.#expression(one))
  }

  #expression(element: Element): Expression {
    const text = this.#attribute(element, 'expression')
    return this.#at(element, () => expressionOf(text))
  }

  #crontab(sersync: Element): Schedule | undefined {
    const crontab = this.#started(sersync, 'crontab')
    if (crontab === undefined) return undefined
    const minutes = this.#number(crontab, 'schedule', 1, 34_560)
    return everySchedule(minutes * 60_000)
  }

  #crontabFilter(sersync: Element): FilterRule[] {
    const filter = this.#started(this.#started(sersync, 'crontab'), 'crontabfilter')
    return filter === undefined
      ? []
      : this.#children(filter, 'exclude').map((one) =>
          this.#at(one, () => patternRule('exclude ', this.#attribute(one, 'expression'), false)),
        )
  }

  #failLog(sersync: Element): string | undefined {
    const element = this.#optional(sersync, 'failLog')
    if (element === undefined) return undefined
    this.#remark(
      'failLog: what failed is tried again by itself until it succeeds; the file lists it, and is never executed',
    )
    return this.#attribute(element, 'path')
  }

  #host(head: Element): { host: string; port: number } | 'off' {
    const host = this.#optional(head, 'host')
    if (host === undefined) return 'off'
    return { host: this.#attribute(host, 'hostip'), port: this.#number(host, 'port', 0, 65_535) }
  }

  #destination(remote: Element, rsync: Element | undefined): Destination {
    const auth = this.#started(rsync, 'auth')
    const port = this.#started(rsync, 'userDefinedPort')
    if (this.#started(rsync, 'ssh') !== undefined) return this.#shellDestination(remote, port)
    const user = auth === undefined ? '' : `${this.#attribute(auth, 'users')}@`
    const [ip, name] = [this.#attribute(remote, 'ip'), this.#attribute(remote, 'name')]
    const host = ip.includes(':') && !ip.startsWith('[') ? `[${ip}]` : ip
    return this.#at(remote, () =>
      parseDestination(
        port === undefined
          ? `${user}${host}::${name}`
          : `rsync://${user}${host}:${this.#number(port, 'port', 1, 65_535)}/${name}`,
      ),
    )
  }

  /** With ssh the name is a path, and ip may say the user. */
  #shellDestination(remote: Element, port: Element | undefined): Destination {
    const text = `${this.#attribute(remote, 'ip')}:${this.#attribute(remote, 'name')}`
    const rsh = port === undefined ? 'ssh' : `ssh -p ${this.#number(port, 'port', 1, 65_535)}`
    return this.#at(remote, () => parseDestination(text, rsh))
  }

  // --- elements and attributes

  #children(parent: Element, name: string): Element[] {
    const found: Element[] = []
    for (let node = parent.firstChild; node !== null; node = node.nextSibling)
      if (node.nodeType === 1 && (node as Element).tagName === name) found.push(node as Element)
    return found
  }

  #optional(parent: Element, name: string): Element | undefined {
    const [first, second] = this.#children(parent, name)
    if (second !== undefined) throw this.#error(second, 'it is there twice; remove one')
    return first
  }

  #one(parent: Element, name: string): Element {
    const element = this.#optional(parent, name)
    if (element === undefined) throw this.#error(parent, `it has no <${name}>; add it, as in sersync's confxml.xml`)
    return element
  }

  /** The child element when its `start` is true. */
  #started(parent: Element | undefined, name: string): Element | undefined {
    const element = parent === undefined ? undefined : this.#optional(parent, name)
    return element !== undefined && this.#flag(element, 'start', false) ? element : undefined
  }

  #attribute(element: Element, name: string): string {
    const value = element.getAttribute(name)
    if (value === null || value === '') throw this.#error(element, `${name}="..." is missing or empty; add it`)
    return value
  }

  #flag(element: Element, name: string, otherwise: boolean): boolean {
    const value = element.getAttribute(name)
    if (value === null) return otherwise
    if (value !== 'true' && value !== 'false') throw this.#error(element, `${name}="${value}": write "true" or "false"`)
    return value === 'true'
  }

  #number(element: Element, name: string, low: number, high: number): number {
    const text = this.#attribute(element, name)
    if (!/^\d{1,9}$/.test(text) || Number(text) < low || Number(text) > high)
      throw this.#error(element, `${name}="${text}": a whole number from ${low} to ${high} is wanted`)
    return Number(text)
  }

  #at<T>(element: Element, make: () => T): T {
    try {
      return make()
    } catch (error) {
      if (error instanceof ConfigError && error.message.startsWith(`${this.file}:`)) throw error
      throw this.#error(element, (error as Error).message, error instanceof ConfigError ? error.exitCode : 1)
    }
  }

  #error(element: Element, message: string, exitCode = 1): ConfigError {
    const { lineNumber = 1, columnNumber = 1 } = element as { lineNumber?: number; columnNumber?: number }
    return new ConfigError(`${this.file}:${lineNumber}:${columnNumber}: <${element.tagName}>: ${message}`, exitCode)
  }

  #remark(text: string): void {
    this.#remarks.push(text)
  }
}

/**
 * A regular expression that must match the whole of a path, as bytes. Throws Error. It is matched in linear time: whoever
 * may make a file must not be able to stop the mirror with its name. That leaves out back references and look-around.
 */
export function expressionOf(text: string): Expression {
  try {
    const compiled = RE2JS.compile(Buffer.from(text).toString('latin1'), RE2JS.DOTALL)
    return { source: text, matches: (path) => compiled.matches(path) }
  } catch (error) {
    throw new Error(
      `"${text}" is no regular expression that is supported (${(error as Error).message.replace('error parsing regexp: ', '')}); "*" alone repeats, ".*" is anything`,
    )
  }
}

/** sersync gave the line to a shell, so people quote patterns. */
const unquoted = (text: string) => text.replace(/^(['"])(.*)\1$/s, '$2')
