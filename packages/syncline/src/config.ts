import { resolve } from 'node:path'
import { DEFAULT_PORT, type RawPath, TLS_PORT, type TlsFiles } from '@syncline/rsync'
import { type Document, isNode, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { type Action, checkedUrl, type Deed } from './actions.js'
import { type Destination, parseDestination, realPath, refuseWithin } from './destination.js'
import { ConfigError } from './errors.js'
import type { GuardOptions } from './guarded.js'
import type { MirrorOptions } from './mirror.js'
import {
  credentialsOf,
  type HttpAddress,
  initialSyncOf,
  limitOf,
  parseHttp,
  parseRate,
  patternRule,
  readSmallFile,
  resolveSource,
} from './options.js'
import { parseSchedule } from './schedule.js'
import { expressionOf, readSersync } from './sersync.js'
import type { TargetOptions } from './target.js'

const CONFIG_MAX = 1 << 20
const ALIASES_MAX = 100

const tls = z.strictObject({
  ca: z.string().min(1).optional().describe("Whose certificates are believed. Default: the system's list"),
  certificate: z.string().min(1).optional().describe('Our own certificate, where the server asks for one'),
  key: z.string().min(1).optional().describe("Its key. Default: in the certificate's file"),
})

/** What may stand beside a target, or beside a source for all its targets. */
const targetKeys = {
  delete: z.boolean().optional().describe('Delete at the target what the source does not have. Default: true'),
  'max-delete': z
    .union([z.int().min(0), z.string()])
    .optional()
    .describe(
      'Halt rather than delete more names than this within ten seconds: a number, or a part such as 25%. Default: no limit',
    ),
  compress: z.boolean().optional().describe('Compress what is sent. Default: false'),
  update: z.boolean().optional().describe('Leave files alone that are newer at the target (rsync -u). Default: false'),
  bwlimit: z
    .union([z.string(), z.number()])
    .optional()
    .describe('Send at most this much: KiB a second, or with K, M, G. Default: no limit'),
  sessions: z.int().min(1).max(64).optional().describe('Connections kept ready. Default: 4'),
  timeout: z
    .int()
    .min(1)
    .max(86_400)
    .optional()
    .describe('Seconds of silence after which a connection is given up. Default: 60'),
  rsh: z.string().min(1).optional().describe('The remote shell for HOST:/PATH, with its options. Default: ssh'),
  tls: tls.optional().describe('PEM files for rsyncs://. Default: RSYNC_SSL_CA_CERT, RSYNC_SSL_CERT and RSYNC_SSL_KEY'),
  'password-file': z.string().min(1).optional().describe('A file, mode 600, whose first line is the password'),
  'password-env': z.string().min(1).optional().describe('The environment variable that holds the password'),
  'password-credential': z
    .string()
    .regex(/^[^/]+$/)
    .optional()
    .describe('The systemd credential (LoadCredential=) that holds the password'),
}

const PASSWORD_KEYS = ['password-file', 'password-env', 'password-credential'] as const
const NO_PASSWORD = { 'password-file': undefined, 'password-env': undefined, 'password-credential': undefined }

const to = z
  .string()
  .describe(
    '/DIRECTORY, [USER@]HOST::MODULE[/PATH], rsync://[USER@]HOST[:PORT]/MODULE[/PATH], rsyncs:// likewise by TLS, or [USER@]HOST:/PATH by ssh',
  )
const targetMapping = z.strictObject({ to, ...targetKeys })
const target = z.union([to, targetMapping])

const pattern = z.string().min(1)

const action = z.strictObject({
  run: z
    .array(z.string())
    .min(1)
    .optional()
    .describe(
      'Run this program with these arguments, without a shell; {path} stands for the path, and the change is on its standard input as JSON',
    ),
  post: z.string().optional().describe('POST the change there as JSON'),
  connect: z.string().optional().describe('Connect to this HOST:PORT and send the path'),
  'refresh-cdn': z
    .strictObject({
      server: z.string().describe('HOST:PORT'),
      user: z.string(),
      password: z.string(),
      base: z.string().describe('What URLs begin with'),
      match: z
        .string()
        .optional()
        .describe('A regular expression: its first group and what follows the match go behind base'),
    })
    .optional()
    .describe("sersync's refreshCDN plugin"),
  'only-regex': z.array(pattern).optional().describe('Only for paths that one of these matches as a whole'),
  'ignore-errors': z.boolean().optional().describe('Do not warn of failures. Default: false'),
})

const source = z.strictObject({
  path: z.string().min(1).describe('The directory to mirror'),
  include: z
    .array(pattern)
    .optional()
    .describe("Patterns of what is not left out (rsync's pattern language); they go before `exclude`"),
  exclude: z
    .array(pattern)
    .optional()
    .describe('Patterns of what is left out; `+ PATTERN` makes an exception. The first that matches decides'),
  'exclude-regex': z
    .array(pattern)
    .optional()
    .describe('As sersync has it: regular expressions that match a whole path. `exclude` is the better way'),
  attributes: z
    .boolean()
    .optional()
    .describe('Send a change of mode, owner or time alone when it happens, not with the next change. Default: true'),
  'initial-sync': z
    .union([z.enum(['auto', 'always', 'never']), z.boolean()])
    .optional()
    .describe(
      'Compare everything at the start: auto (unless the snapshot of the last run tells what changed), always, or never. Default: auto',
    ),
  watch: z
    .enum(['auto', 'inotify', 'fanotify', 'poll'])
    .optional()
    .describe(
      'How to watch: by inotify each directory, by fanotify whole filesystems (as root), by looking at everything again and again (poll), or auto: poll on network filesystems, fanotify for large trees where it can be had, otherwise inotify. Default: auto',
    ),
  'full-sync': z.string().optional().describe('When to compare everything again: "every 10h", or a cron expression'),
  'full-sync-exclude': z
    .array(pattern)
    .optional()
    .describe('Patterns of what that comparison leaves alone, at both ends; changes are sent all the same'),
  actions: z
    .array(action)
    .optional()
    .describe('What to do about each change, once it is at every target that can be reached'),
  'while-written': z
    .boolean()
    .optional()
    .describe('Send a file every 2 s even while it is written without a pause. Default: false'),
  'failure-file': z.string().min(1).optional().describe('Keep a list there of what has failed and is still owed'),
  targets: z.array(target).min(1).describe('Where to'),
  ...targetKeys,
})

const guard = z.strictObject({
  paths: z.array(z.string().startsWith('/')).min(1).describe('Files or directories, by their absolute paths'),
  restore: z.boolean().optional().describe('Put the kept good copy back. Default: false'),
  actions: z.array(action).optional().describe('What to do about each change'),
})

const schema = z.strictObject({
  sources: z.array(source).optional().describe('The directories to mirror, each to its own targets'),
  guards: z.array(guard).optional().describe('Files and directories that are not to change without being noticed'),
  'state-dir': z.string().min(1).optional().describe('Where journals and control sockets are kept'),
  http: z.string().optional().describe('Serve the status as JSON at /status there: ADDRESS:PORT, or off'),
  'pid-file': z.string().min(1).optional().describe('Write the process id there while running'),
  'log-file': z.string().min(1).optional().describe('Log there instead of to standard error'),
  'log-format': z.enum(['pretty', 'json']).optional().describe('How log lines look. Default: pretty'),
})

type TargetKeys = Omit<Exclude<z.infer<typeof target>, string>, 'to'>

/** A configuration, read and checked. */
export interface Config {
  file: string
  mirrors: MirrorOptions[]
  guards: GuardOptions[]
  /** What the command line says goes before these. */
  process: {
    stateDir?: string
    http?: HttpAddress | 'off'
    /** sersync itself never listened at its `host`: several that name the same one must go on running. */
    httpOptional?: boolean
    pidFile?: string
    logFile?: string
    logFormat?: 'pretty' | 'json'
  }
  /** What the reader should know and may not expect. */
  remarks: string[]
  /** It was sersync's. */
  sersync: boolean
}

/** The schema that `docs/syncline.schema.json` publishes, for editors that check while one types. */
export const jsonSchema = () => z.toJSONSchema(schema, { io: 'input' })

/**
 * Reads a configuration: sersync's XML when it begins like XML, otherwise YAML. With `plugin`, only what that plugin of
 * sersync's is to be told of, and no targets. Throws ConfigError.
 */
export function readConfig(file: string, plugin?: string): Config {
  let bytes: Buffer
  try {
    bytes = readSmallFile(file, CONFIG_MAX)
  } catch (error) {
    throw new ConfigError(`configuration ${file}: ${(error as Error).message}`)
  }
  const beginning = bytes
    .subarray(0, 512)
    .toString('latin1')
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
  const config = beginning.startsWith('<') ? readSersync(file, bytes, plugin) : readYaml(file, bytes)
  refuseOverlaps(config)
  return config
}

/** Two that write to one place would delete each other's files. */
function refuseOverlaps({ file, mirrors }: Config): void {
  const all = mirrors.flatMap(({ targets }) => targets.map(({ destination }) => destination))
  const place = ({ remote: { host, port, module, path, shell, local, tls } }: Destination) =>
    local
      ? `${realPath(path as RawPath)}/`
      : `${host.toLowerCase()}:${shell === undefined ? (port ?? (tls === undefined ? DEFAULT_PORT : TLS_PORT)) : 'ssh'}/${module}/${path === '' ? '' : `${path}/`}`
  for (const [i, one] of all.entries()) {
    const other = all
      .slice(0, i)
      .find((before) => place(one).startsWith(place(before)) || place(before).startsWith(place(one)))
    if (other !== undefined)
      throw new ConfigError(
        `${file}: ${other.name} and ${one.name} are the same place, or one within the other: give each a place of its own`,
      )
  }
  const lists = mirrors.flatMap(({ failureFile }) => failureFile ?? [])
  const twice = lists.find((one, i) => lists.indexOf(one) !== i)
  if (twice !== undefined)
    throw new ConfigError(`${file}: failure-file ${twice} is there twice; give each source its own`)
}

type Path = (string | number)[]

/** Something is wrong with what stands at `path`. */
class ValueError extends Error {
  constructor(
    readonly path: Path,
    message: string,
  ) {
    super(message)
  }
}

function readYaml(file: string, bytes: Buffer): Config {
  const lines = new LineCounter()
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new ConfigError(`${file}: it is not UTF-8; save it as UTF-8`)
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  // A warning is such as a tag that nobody knows.
  const [fault] = [...document.errors, ...document.warnings]
  if (fault !== undefined) {
    const { line, col } = lines.linePos(fault.pos[0])
    throw new ConfigError(`${file}:${line}:${col}: ${fault.message}`)
  }
  try {
    const result = schema.safeParse(at([], () => document.toJS({ maxAliasCount: ALIASES_MAX }) as unknown))
    if (!result.success) throw firstIssue(result.error)
    return convert(file, result.data)
  } catch (error) {
    if (!(error instanceof ValueError)) throw error
    const { line, col } = positionOf(document, lines, error.path)
    throw new ConfigError(`${file}:${line}:${col}: ${pathText(error.path)}${error.message}`)
  }
}

function firstIssue({ issues }: z.ZodError): ValueError {
  const [issue] = issues
  if (issue.code === 'unrecognized_keys') {
    return unknownKey(issue.path as Path, issue.keys[0])
  }
  if (issue.code === 'invalid_union') {
    // A target is a string, or a mapping: whoever wrote a mapping wants to hear what is wrong with that.
    const inner = issue.errors.flat().find((one) => one.path.length > 0 || one.code === 'unrecognized_keys')
    if (inner?.code === 'unrecognized_keys') return unknownKey(issue.path as Path, inner.keys[0])
    if (inner !== undefined) return new ValueError([...issue.path, ...inner.path] as Path, inner.message)
  }
  return new ValueError(
    issue.path as Path,
    issue.message
      .replace(/^Invalid input: expected (\w+), received undefined$/, 'it is missing; a $1 is wanted')
      .replace(/^Invalid input: expected (\w+), received/, 'it must be of the kind $1, not')
      .replace(/^Invalid input$/, 'it is of the wrong kind; see docs/config.md'),
  )
}

function unknownKey(path: Path, key: string): ValueError {
  const { shape } =
    path.length === 0
      ? schema
      : path.at(-1) === 'tls'
        ? tls
        : path.includes('targets')
          ? targetMapping
          : path.includes('actions')
            ? action
            : path[0] === 'guards'
              ? guard
              : source
  return new ValueError([...path, key], `there is no such key; known are ${Object.keys(shape).join(', ')}`)
}

/** Where the value stands, or what is nearest above it. */
function positionOf(document: Document, lines: LineCounter, path: Path): { line: number; col: number } {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(path.slice(0, length), true)
    if (isNode(node) && node.range) return lines.linePos(node.range[0])
  }
  return { line: 1, col: 1 }
}

const pathText = (path: Path) =>
  path.length === 0
    ? ''
    : `${path.map((part, i) => (typeof part === 'number' ? `[${part}]` : i === 0 ? part : `.${part}`)).join('')}: `

/** Runs `make`, whose errors are about what stands at `path`. */
function at<T>(path: Path, make: () => T): T {
  try {
    return make()
  } catch (error) {
    if (error instanceof ValueError) throw error
    throw new ValueError(path, (error as Error).message)
  }
}

function convert(file: string, data: z.infer<typeof schema>): Config {
  const { sources = [] } = data
  const guards = (data.guards ?? []).flatMap(({ paths, restore = false, actions = [] }, i) =>
    paths.map(
      (path): GuardOptions => ({
        path: Buffer.from(resolve(path)).toString('latin1') as GuardOptions['path'],
        restore,
        actions: actions.map((text, k) => actionOf(text, ['guards', i, 'actions', k])),
      }),
    ),
  )
  if (sources.length + guards.length === 0) throw new ValueError([], 'it has neither sources nor guards; add some')
  const mirrors = sources.map((one, i): MirrorOptions => {
    const path: Path = ['sources', i]
    const {
      include = [],
      exclude = [],
      'exclude-regex': expressions = [],
      'initial-sync': initialSync,
      'full-sync': fullSync,
    } = one
    const source = at([...path, 'path'], () => resolveSource(one.path))
    return {
      source,
      rules: [
        ...include.map((text, k) => at([...path, 'include', k], () => patternRule('pattern ', text, true))),
        ...exclude.map((text, k) => at([...path, 'exclude', k], () => patternRule('pattern ', text, false))),
      ],
      expressions: expressions.map((text, k) => at([...path, 'exclude-regex', k], () => expressionOf(text))),
      attributes: one.attributes ?? true,
      whileWritten: one['while-written'] ?? false,
      failureFile: one['failure-file'],
      fullSyncRules: (one['full-sync-exclude'] ?? []).map((text, k) =>
        at([...path, 'full-sync-exclude', k], () => patternRule('pattern ', text, false)),
      ),
      actions: (one.actions ?? []).map((text, k) => actionOf(text, [...path, 'actions', k])),
      initialSync: initialSyncOf(initialSync),
      watch: one.watch ?? 'auto',
      fullSync: fullSync === undefined ? undefined : at([...path, 'full-sync'], () => parseSchedule(fullSync)),
      targets: one.targets.map((text, k) => {
        const own = typeof text === 'string' ? { to: text } : text
        // A target's own password goes before the one beside the source, wherever it comes from.
        const ownPassword = PASSWORD_KEYS.some((key) => Object.hasOwn(own, key))
        const common = ownPassword ? { ...one, ...NO_PASSWORD } : one
        const options = targetOf(own.to, { ...common, ...own }, [...path, 'targets', k])
        const { destination } = options
        at([...path, 'targets', k], () => refuseWithin(source, destination))
        if ('tls' in own && destination.remote.tls === undefined)
          throw new ValueError([...path, 'targets', k, 'tls'], `it is for rsyncs://, and ${own.to} is not`)
        return options
      }),
    }
  })
  const { 'state-dir': stateDir, http, 'pid-file': pidFile, 'log-file': logFile, 'log-format': logFormat } = data
  return {
    file,
    mirrors,
    guards,
    process: {
      ...(stateDir !== undefined && { stateDir }),
      ...(http !== undefined && { http: at(['http'], () => parseHttp(http)) }),
      ...(pidFile !== undefined && { pidFile }),
      ...(logFile !== undefined && { logFile }),
      ...(logFormat !== undefined && { logFormat }),
    },
    remarks: [],
    sersync: false,
  }
}

export type ActionKeys = z.infer<typeof action>

function actionOf(keys: ActionKeys, path: Path): Action {
  const { run, post, connect, 'refresh-cdn': refresh, 'only-regex': only = [], 'ignore-errors': ignoreErrors } = keys
  const deeds: Deed[] = []
  if (run !== undefined) deeds.push({ run })
  if (post !== undefined) deeds.push({ post: at([...path, 'post'], () => checkedUrl(post)) })
  if (connect !== undefined) deeds.push({ connect: at([...path, 'connect'], () => hostAndPort(connect)) })
  if (refresh !== undefined) {
    const { server, match, ...rest } = refresh
    if (match !== undefined) at([...path, 'refresh-cdn', 'match'], () => expressionOf(match))
    const place = at([...path, 'refresh-cdn', 'server'], () => hostAndPort(server))
    deeds.push({ refresh: { ...place, ...rest, match } })
  }
  if (deeds.length !== 1) throw new ValueError(path, 'give one of run, post, connect, refresh-cdn')
  const expressions = only.map((text, k) => at([...path, 'only-regex', k], () => expressionOf(text)))
  return { deed: deeds[0], only: expressions, ignoreErrors: ignoreErrors ?? false }
}

function hostAndPort(text: string): HttpAddress {
  const address = parseHttp(text)
  if (address === 'off' || address.port === 0) throw new Error(`"${text}": write HOST:PORT`)
  return address
}

const definedOf = ({ ca, certificate, key }: NonNullable<TargetKeys['tls']> = {}): TlsFiles => ({
  ...(ca !== undefined && { ca }),
  ...(certificate !== undefined && { certificate }),
  ...(key !== undefined && { key }),
})

function targetOf(to: string, keys: TargetKeys, path: Path): TargetOptions {
  const destination = at(path, () => parseDestination(to, keys.rsh, definedOf(keys.tls)))
  const {
    bwlimit,
    'password-file': file,
    'password-env': env,
    'password-credential': credential,
    'max-delete': limit,
  } = keys
  if ([file, env, credential].filter((one) => one !== undefined).length > 1)
    throw new ValueError(path, `give one of ${PASSWORD_KEYS.join(', ')}`)
  return {
    destination,
    passwordFile: file,
    credentials: at(path, () => credentialsOf(destination, { file, env, credential })),
    delete: keys.delete ?? true,
    maxDelete: limit === undefined ? undefined : at(path, () => limitOf('max-delete: ', String(limit))),
    compress: keys.compress ?? false,
    update: keys.update ?? false,
    rate: bwlimit === undefined ? 0 : at(path, () => parseRate(String(bwlimit))),
    sessions: keys.sessions ?? 4,
    timeoutMs: (keys.timeout ?? 60) * 1000,
  }
}
