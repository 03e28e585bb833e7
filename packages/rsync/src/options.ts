import { OFFERED } from './digest.js'
import { INFO_OF_VERBOSITY, type InfoLevels, setInfo } from './info-flags.js'
import { type Operand, parseOperand } from './operand.js'
import { DAEMON_LINE, DAEMON_OPTIONS, type Draft, OPTIONS, type Option, UsageError } from './option-table.js'
import type { RawPath } from './raw-path.js'
import { describe, Refusals } from './refuse.js'
import type { DeleteWhen, Invocation, Settings } from './settings.js'
import { rsyncHelp } from './usage.js'
import { PROTOCOL, RERR } from './wire/constants.js'

export { UsageError } from './option-table.js'

/** What a server knows besides its command line. */
export interface Circumstances {
  /** Of the daemon's module that these arguments are for: its `refuse options`. */
  refuseOptions?: string
  /** With -s: the arguments that the client sent behind, without the `rsync` in front of them. */
  secluded?: readonly string[]
}

const PATH_MAX = 4096
const TEMP_DIR_SPARE = 10
const BACKUP_DIR_SPARE = 128
/** Where --delay-updates keeps what is not in place yet. */
export const DELAYED_DIR = '.~tmp~'
const DEFAULT_SUFFIX = '~'
const INT_MAX = 2 ** 31 - 1

/**
 * Reads the arguments of a client, of `--daemon`, or of `--server`, as latin1 and without the program's name. Throws
 * UsageError. A server whose `settings.secludedArgs` is set has been told nothing yet: read what the client sends, and
 * ask again with it.
 */
export function parseInvocation(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  around: Circumstances = {},
): Invocation {
  const draft = blankDraft()
  const refusals = around.refuseOptions === undefined ? null : new Refusals(around.refuseOptions)
  const operands = readWords([...argv, ...(around.secluded ?? [])], draft, refusals)
  if (operands === null) return parseDaemonInvocation(argv)
  const { call, settings } = draft
  if (call.sender && !call.server) throw new UsageError(rsyncHelp())
  if (call.help === null && settings.humanReadable > 1 && argv.length === 1 && !call.server) call.help = 'rsync'
  if (call.help === null && !call.version) {
    decideQuoting(draft, env)
    if (!call.server || !settings.secludedArgs || around.secluded) conclude(draft, operands, env, refusals)
  }
  return { settings, ...call }
}

function parseDaemonInvocation(argv: readonly string[]): Invocation {
  const { settings, call } = readDaemonWords(argv)
  if (!call.daemon && call.help === null)
    throw new UsageError(`Daemon option(s) used without --daemon.\n${DAEMON_ASSISTANCE}`)
  return { settings, ...call }
}

function readDaemonWords(argv: readonly string[]): Draft {
  const draft = blankDraft()
  const reader = { find: finder(DAEMON_OPTIONS), refuse: unsupportedHere, endsAtDot: () => false }
  try {
    draft.call.operands = scan(argv, draft, reader) as RawPath[]
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    throw new UsageError(`${error.message} (in daemon mode)\n${DAEMON_ASSISTANCE}`)
  }
  return draft
}

const DAEMON_ASSISTANCE = '(Type "rsync --daemon --help" for assistance with daemon mode.)'

/** The operands; null when this is a daemon's line. */
function readWords(argv: readonly string[], draft: Draft, refusals: Refusals | null): string[] | null {
  const refuse = (option: Option, call: Draft['call']) => {
    const refused = refusals?.of(option) ?? (option.short === 'a' ? refusals?.ofArchive() : null)
    if (refused) throw new UsageError(refused)
    unsupportedHere(option, call)
  }
  try {
    // Behind the `.` there are names, and a name is never an option, whatever a pattern has made of it.
    return scan(argv, draft, { find: finder(OPTIONS), refuse, endsAtDot: () => draft.call.server })
  } catch (error) {
    if (error !== DAEMON_LINE) throw error
    if (refusals !== null) throw new UsageError('rsync: Attempt to hack rsync thwarted!')
    return null
  }
}

interface Reader {
  find(name: string | null, letter: string | null): Option | null
  /** Throws when the option is not accepted. */
  refuse(option: Option, call: Draft['call']): void
  endsAtDot(): boolean
}

function finder(options: readonly Option[]): Reader['find'] {
  const byName = new Map(options.map((option) => [option.name, option]))
  // Several names may share a letter; the first of them has it.
  const byLetter = new Map([...options].reverse().map((option) => [option.short, option]))
  return (name, letter) => (name === null ? byLetter.get(letter) : byName.get(name)) ?? null
}

function unsupportedHere(option: Option, { server }: Draft['call']): void {
  if (option.takes !== 'unsupported') return
  throw new UsageError(`rsync: ${server ? 'The server' : 'This rsync'} does not support ${describe(option)}`)
}

const scan = (argv: readonly string[], draft: Draft, reader: Reader) => new Scan(argv, draft, reader).run()

/** popt's reading of a line: options anywhere, letters in clusters, values behind `=` or in the next word. */
class Scan {
  #at = 0
  readonly #operands: string[] = []

  constructor(
    readonly argv: readonly string[],
    readonly draft: Draft,
    readonly reader: Reader,
  ) {}

  run(): string[] {
    for (; this.#at < this.argv.length && this.draft.call.help === null; this.#at++) {
      const word = this.argv[this.#at]
      if (word === '--' || (word === '.' && this.reader.endsAtDot()))
        return [...this.#operands, ...this.argv.slice(this.#at + 1)]
      if (word === '-' || !word.startsWith('-')) this.#operands.push(word)
      else if (word.startsWith('--')) this.#long(word)
      else this.#cluster(word)
    }
    return this.#operands
  }

  #long(word: string): void {
    const [, name, value] = /^--([^=]*)(?:=(.*))?$/s.exec(word)!
    const option = this.reader.find(name, null)
    if (value !== undefined && option?.takes === 'nothing') throw this.#wrong('option does not take an argument')
    this.#apply(option, value ?? null)
  }

  #cluster(word: string): void {
    for (let i = 1; i < word.length; i++) {
      const option = this.reader.find(null, word[i])
      const valued = option?.takes === 'text' || option?.takes === 'number'
      const value = valued && i + 1 < word.length ? word.slice(i + 1).replace(/^=/, '') : null
      this.#apply(option, value)
      if (valued) return
    }
  }

  #apply(option: Option | null, value: string | null): void {
    if (option === null) throw this.#wrong('unknown option')
    this.reader.refuse(option, this.draft.call)
    if (option.takes === 'nothing') option.set(this.draft)
    if (option.takes === 'text') option.set(this.draft, value ?? this.#next())
    if (option.takes === 'number') option.set(this.draft, this.#number(value ?? this.#next()))
  }

  #next(): string {
    if (this.#at + 1 === this.argv.length) throw this.#wrong('missing argument')
    return this.argv[++this.#at]
  }

  /** strtol() with any base: 0x10 and 010 are numbers too. */
  #number(text: string): number {
    const parts = /^\s*([+-]?)(0x[\da-f]+|0[0-7]*|[1-9]\d*|)$/i.exec(text)
    if (!parts) throw this.#wrong('invalid numeric value')
    const [, sign, digits] = parts
    const value = /^0[0-7]/.test(digits) ? Number.parseInt(digits, 8) : Number(digits)
    if (value > INT_MAX) throw this.#wrong('number too large or too small')
    return sign === '-' ? -value : value
  }

  #wrong(problem: string): UsageError {
    const where = this.draft.call.server ? 'on remote machine: ' : ''
    return new UsageError(`rsync: ${where}${this.argv[this.#at]}: ${problem}`)
  }
}

function decideQuoting({ settings, call, oldArgs, secludedArgs }: Draft, env: NodeJS.ProcessEnv): void {
  if (oldArgs && secludedArgs) throw new UsageError('rsync: --secluded-args conflicts with --old-args.')
  const local = call.server ? {} : env
  const oldByHabit = oldArgs === null && !secludedArgs && local.RSYNC_OLD_ARGS
  settings.oldArgs = oldArgs ?? (oldByHabit ? Number.parseInt(oldByHabit, 10) || 0 : 0)
  const undecided = secludedArgs === null && !oldArgs && !oldByHabit
  settings.secludedArgs = undecided ? Number.parseInt(local.RSYNC_PROTECT_ARGS ?? '', 10) > 0 : (secludedArgs ?? false)
}

/** What the options mean together, and which do not go together: in rsync's order, so that the same one is complained of. */
function conclude(draft: Draft, operands: string[], env: NodeJS.ProcessEnv, refusals: Refusals | null): void {
  const { settings, call } = draft
  call.operands = operands as RawPath[]
  if (call.server) call.capabilities = call.rsh?.includes('.') ? call.rsh.slice(call.rsh.indexOf('.') + 1) : ''
  call.rsh = call.server ? null : (call.rsh ?? (env.RSYNC_RSH || null))
  const demand = (refused: string | null | undefined) => {
    if (refused) throw new UsageError(refused)
  }
  decideProtocol(draft)
  decideChecksum(settings)
  decideCompression(draft)
  if (settings.compress || settings.compressLevel !== null) demand(refusals?.of('compress'))
  demand(refusals?.of('no-iconv'))
  if (settings.fakeSuper && settings.xattrs > 1) throw new UsageError('rsync: --fake-super conflicts with -XX')
  if ((settings.tempDir?.length ?? 0) >= PATH_MAX - TEMP_DIR_SPARE)
    throw new UsageError('rsync: the --temp-dir path is WAY too long.')
  decideList(draft)
  decideDeletion(draft, refusals)
  if (settings.deleteWhen !== null || settings.deleteMissingArgs) demand(refusals?.of('delete'))
  if (settings.removeSourceFiles && call.sender) demand(refusals?.of('delete'))
  decideBackup(draft)
  decideOutput(draft)
  decideWriting(draft, env, demand, refusals)
  decideFilesFrom(draft)
  settings.alternates = draft.alternates
  settings.filterArguments = draft.filterArguments
}

function decideProtocol({ settings, call }: Draft): void {
  const { protocol } = settings
  const where = call.server ? 'Server' : 'Client'
  if (protocol !== null && protocol < PROTOCOL.MIN)
    throw new UsageError(`--protocol must be at least ${PROTOCOL.MIN} on the ${where}.`, RERR.PROTOCOL)
  if (protocol !== null && protocol > PROTOCOL.MAX)
    throw new UsageError(`--protocol must be no more than ${PROTOCOL.MAX} on the ${where}.`, RERR.PROTOCOL)
}

function decideChecksum(settings: Draft['settings']): void {
  const given = settings.said.checksumChoice
  if (given === null || /^auto(,auto)?$/i.test(given)) {
    settings.said.checksumChoice = null
    return
  }
  const comma = given.indexOf(',')
  // A wrong first name is complained of with the second one behind it.
  const transfer = checksumName(comma > 0 ? given.slice(0, comma) : given, given)
  settings.checksumChoice = [transfer, comma > 0 ? checksumName(given.slice(comma + 1)) : transfer]
  if (transfer === 'none') settings.wholeFile = true
}

function checksumName(given: string, shown = given): string {
  const name = given.toLowerCase().replace(/^xxhash$/, 'xxh64')
  if (([...OFFERED, 'auto'] as string[]).includes(name)) return name
  throw new UsageError(`unknown checksum name: ${shown}`, RERR.UNSUPPORTED)
}

function decideCompression({ settings, compress, compressWord }: Draft): void {
  const word = compressWord ?? (compress > 1 ? 'zlibx' : 'auto')
  const name = word.toLowerCase()
  if (name !== 'auto' && name !== 'zlib' && name !== 'zlibx' && name !== 'none')
    throw new UsageError(`unknown compress name: ${word}`, RERR.UNSUPPORTED)
  settings.compressChoice = name === 'auto' ? null : name
  settings.said.compress = compress > 0
  const wanted = name === 'auto' ? compress > 0 || settings.compressLevel !== null : name !== 'none'
  settings.compress = wanted && settings.compressLevel !== 0
}

/** What is listed: directories, below them, and under which names. */
function decideList(draft: Draft): void {
  const { settings, call } = draft
  const filesFrom = settings.filesFrom !== null
  if (call.operands.length < 2 && !call.server) settings.listOnly = true
  const all = draft.recurse === 'by -r' || (draft.recurse === 'by -a' && !filesFrom)
  settings.recursive = all || draft.dirs === 'by --old-dirs'
  if (draft.dirs === 'by --old-dirs') draft.filterArguments.push({ option: 'filter', text: '- /*/*' })
  settings.said.dirs = !settings.recursive && draft.dirs === 'by -d'
  settings.dirs = settings.recursive || (draft.dirs === null ? filesFrom || settings.listOnly : draft.dirs !== 'no')
  settings.relative = draft.relative ?? filesFrom
  settings.impliedDirs &&= settings.relative
}

function decideDeletion(draft: Draft, refusals: Refusals | null): void {
  const { settings } = draft
  const when: DeleteWhen[] = []
  if (draft.deleteBefore) when.push('before')
  if (draft.deleteDuring) when.push(draft.deleteDuring)
  if (draft.deleteAfter) when.push('after')
  if (when.length > 1) throw new UsageError('rsync: You may not combine multiple --delete-WHEN options.')
  settings.said.deleteWhen = when.length === 1
  settings.deleteWhen = when[0] ?? (draft.deleteAny || settings.deleteExcluded ? ownTime(refusals) : null)
  if (settings.deleteWhen !== null && !settings.dirs)
    throw new UsageError('rsync: --delete does not work without --recursive (-r) or --dirs (-d).')
  if (settings.deleteMissingArgs) settings.ignoreMissingArgs = false
}

/** When plain --delete deletes: before, where a module refuses the other. */
function ownTime(refusals: Refusals | null): DeleteWhen {
  if (!refusals?.of('delete-during')) return 'during'
  const refused = refusals.of('delete-before')
  if (refused) throw new UsageError(refused)
  return 'before'
}

function decideBackup(draft: Draft): void {
  const { settings, call } = draft
  let dir = settings.backupDir
  settings.suffix = draft.suffix ?? (dir === null ? DEFAULT_SUFFIX : '')
  if (settings.suffix.includes('/')) throw new UsageError(`rsync: --suffix cannot contain slashes: ${settings.suffix}`)
  if (dir !== null) {
    settings.backup = true
    dir = dir.replace(/^(\.\/)+/, '').replace(/^\.$/, '')
    if (dir.length > PATH_MAX - BACKUP_DIR_SPARE) throw new UsageError('rsync: the --backup-dir path is WAY too long.')
  }
  const same = dir === ''
  settings.backupDir = dir || null
  if (settings.backupDir !== null) return
  if (settings.suffix === '' && !(call.server && call.sender)) {
    const when = same ? 'when --backup-dir is the same as the dest dir' : 'without a --backup-dir'
    throw new UsageError(`rsync: --suffix cannot be empty ${when}`)
  }
  if (!settings.backup) return
  settings.omitDirTimes = true
  if (settings.deleteWhen !== null && !settings.deleteExcluded && !call.server)
    draft.filterArguments.push({ option: 'filter', text: `P *${settings.suffix}` })
}

/** The formats, and what -v, --stats, --progress and --info have to do with each other. */
function decideOutput({ settings, call, infoAsked, itemize, progress }: Draft): void {
  const implied: InfoLevels = new Map()
  for (const words of INFO_OF_VERBOSITY.slice(0, settings.verbose + 1)) setInfo(implied, words)
  if (settings.stats) setInfo(implied, settings.verbose > 1 ? 'STATS3' : 'STATS2')
  const level = (flag: 'NAME' | 'PROGRESS') => infoAsked.get(flag) ?? implied.get(flag) ?? 0
  const given = settings.outFormat
  settings.itemize = given === null ? itemize : itemizeOfFormat(given, itemize, call.server)
  if (given === null && itemize > 0) settings.outFormat = '%i %n%L'
  if (progress && !call.server) {
    const before = settings.outFormat !== null && !formatHas(settings.outFormat, 'bcC')
    if (!before && level('NAME') === 0) setInfo(implied, 'NAME')
    setInfo(implied, 'FLIST2,PROGRESS')
  }
  settings.outFormat ??= level('NAME') > 0 ? '%n%L' : null
  settings.infoAsked = infoAsked
  settings.info = new Map([...implied, ...infoAsked])
  settings.progress = [null, 'file', 'total'][Math.min(level('PROGRESS'), 2)] as Settings['progress']
  if (settings.logFile !== null) settings.logFileFormat ??= '%i %n%L'
}

/** A client tells a server of -ii by %I in the format. */
function itemizeOfFormat(format: string, count: number, server: boolean): number {
  if (server && formatHas(format, 'I')) return 2
  return formatHas(format, 'i') ? Math.max(count, 1) : 0
}

/** Whether a format has one of these escapes (log.c log_format_has()). */
export function formatHas(format: string, letters: string): boolean {
  return [...format.matchAll(/%(?:%|'*-?'*\d*'*(.))/gs)].some(
    ([, letter]) => letter !== undefined && letters.includes(letter),
  )
}

function decideWriting(
  { settings, call }: Draft,
  env: NodeJS.ProcessEnv,
  demand: (refused: string | null | undefined) => void,
  refusals: Refusals | null,
): void {
  if (settings.append) {
    if (settings.wholeFile) throw new UsageError('rsync: --append cannot be used with --whole-file')
    demand(refusals?.of('inplace'))
    settings.inplace = true
  }
  const dir = settings.partialDir ?? (settings.delayUpdates ? DELAYED_DIR : null)
  if (settings.inplace) {
    const [one, other] = [
      settings.append ? 'append' : 'inplace',
      settings.delayUpdates ? 'delay-updates' : 'partial-dir',
    ]
    if (dir !== null) throw new UsageError(`rsync: --${one} cannot be used with --${other}`)
    // What is written in place is kept anyway.
    demand(refusals?.of('partial'))
    settings.partial = false
    return
  }
  const usual = settings.partial && !call.server ? env.RSYNC_PARTIAL_DIR || null : null
  if (dir === null && usual === null) return
  const clean = cleanDirectory(dir ?? usual!)
  settings.partialDir = clean === '.' ? null : clean
  if (settings.partialDir === null) demand(refusals?.of('partial'))
  settings.partial = true
}

/** util1.c clean_fname(): no empty parts, `.` or `..` but in front. */
function cleanDirectory(path: string): string {
  const absolute = path.startsWith('/')
  const parts: string[] = []
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..' || (parts.length === 0 && !absolute) || parts.at(-1) === '..') parts.push(part)
    else parts.pop()
  }
  return `${absolute ? '/' : ''}${parts.join('/')}` || '.'
}

function decideFilesFrom({ settings, call }: Draft): void {
  const { filesFrom } = settings
  if (filesFrom === null) return
  const { operands } = call
  if (operands.length > 2 || (!call.server && operands.length === 1)) throw new UsageError(rsyncHelp())
  const list = filesFrom === '-' ? null : parseOperand(filesFrom)
  if (list === null || list.kind === 'local') return
  if (call.server) throw new UsageError('rsync: The --files-from sent to the server cannot specify a host.')
  if (list.path === '-') throw new UsageError('rsync: Invalid --files-from remote filename')
  settings.filesFrom = `:${list.path}`
  sameHost(
    list,
    operands.map(parseOperand).find(({ kind }) => kind !== 'local'),
  )
}

/** `HOST:` in front of the list may be left out. */
function sameHost(list: Operand & { host: string }, transfer: Operand | undefined): void {
  if (transfer === undefined || transfer.kind === 'local')
    throw new UsageError('--files-from cannot be remote when the transfer is local')
  if (list.host !== '' && list.host !== transfer.host)
    throw new UsageError('--files-from hostname is not the same as the transfer hostname')
}

function blankDraft(): Draft {
  return {
    settings: blankSettings(),
    call: {
      operands: [],
      rsh: null,
      rsyncPath: 'rsync',
      port: null,
      address: null,
      family: 0,
      sockopts: null,
      blockingIo: false,
      passwordFile: null,
      server: false,
      sender: false,
      capabilities: '',
      daemon: false,
      config: null,
      detach: true,
      help: null,
      version: false,
    },
    filterArguments: [],
    infoAsked: new Map(),
    recurse: 'no',
    dirs: null,
    relative: null,
    deleteAny: false,
    deleteBefore: false,
    deleteDuring: false,
    deleteAfter: false,
    suffix: null,
    compress: 0,
    compressWord: null,
    itemize: 0,
    progress: false,
    perDirectoryRules: 0,
    oldArgs: null,
    secludedArgs: null,
    alternates: null,
  }
}

/** What holds where nothing was said. */
export function blankSettings(): Draft['settings'] {
  return {
    recursive: false,
    dirs: false,
    relative: false,
    impliedDirs: true,
    oneFileSystem: 0,
    filesFrom: null,
    from0: false,
    ignoreMissingArgs: false,
    deleteMissingArgs: false,
    pruneEmptyDirs: false,
    links: false,
    copyLinks: false,
    copyUnsafeLinks: false,
    safeLinks: false,
    copyDirlinks: false,
    keepDirlinks: false,
    mungeLinks: false,
    hardLinks: false,
    perms: false,
    executability: false,
    acls: false,
    xattrs: 0,
    fakeSuper: false,
    superUser: null,
    owner: false,
    group: false,
    devices: false,
    specials: false,
    times: false,
    omitDirTimes: false,
    omitLinkTimes: false,
    numericIds: false,
    chmod: [],
    checksum: false,
    update: false,
    ignoreTimes: false,
    sizeOnly: false,
    modifyWindow: 0,
    wholeFile: null,
    existing: false,
    ignoreExisting: false,
    maxSize: null,
    minSize: null,
    alternates: null,
    deleteWhen: null,
    deleteExcluded: false,
    ignoreErrors: false,
    maxDelete: null,
    force: false,
    removeSourceFiles: false,
    dryRun: false,
    blockSize: 0,
    sparse: false,
    preallocate: false,
    inplace: false,
    append: false,
    partial: false,
    partialDir: null,
    delayUpdates: false,
    tempDir: null,
    backup: false,
    backupDir: null,
    suffix: DEFAULT_SUFFIX,
    fsync: false,
    mkpath: false,
    compress: false,
    compressChoice: null,
    compressLevel: null,
    skipCompress: null,
    checksumChoice: null,
    checksumSeed: 0,
    bwlimit: 0,
    timeoutMs: 0,
    connectTimeoutMs: 0,
    protocol: null,
    incRecursive: true,
    oldArgs: 0,
    secludedArgs: false,
    remoteOptions: [],
    verbose: 0,
    quiet: false,
    info: new Map(),
    infoAsked: new Map(),
    itemize: 0,
    outFormat: null,
    stats: false,
    humanReadable: 1,
    progress: null,
    eightBitOutput: false,
    listOnly: false,
    logFile: null,
    logFileFormat: null,
    motd: true,
    filter: [],
    filterArguments: [],
    cvsExclude: false,
    said: {
      dirs: false,
      listOnly: false,
      deleteWhen: false,
      modifyWindow: false,
      compress: false,
      checksumChoice: null,
    },
  }
}
