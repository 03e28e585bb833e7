import { parseChmod } from './chmod.js'
import { type InfoLevels, setInfo } from './info-flags.js'
import type { FilterArgument, Invocation, Settings } from './settings.js'

/** The command line is wrong: `message` is what rsync prints, without the last line that names the exit code. */
export class UsageError extends Error {
  readonly code = 'RSYNC_USAGE'
  constructor(
    message: string,
    readonly exitCode = 1,
  ) {
    super(message)
  }
}

/** What has been read so far. Some options only have a meaning once all are known: their bare values are here too. */
export interface Draft {
  settings: { -readonly [K in keyof Settings]: Settings[K] }
  call: Omit<Invocation, 'settings'>
  filterArguments: FilterArgument[]
  infoAsked: InfoLevels
  recurse: 'no' | 'by -a' | 'by -r'
  dirs: 'no' | 'by -d' | 'by --old-dirs' | null
  relative: boolean | null
  deleteAny: boolean
  deleteBefore: boolean
  deleteDuring: false | 'during' | 'delay'
  deleteAfter: boolean
  suffix: string | null
  compress: number
  compressWord: string | null
  itemize: number
  progress: boolean
  perDirectoryRules: number
  oldArgs: number | null
  secludedArgs: boolean | null
  alternates: { kind: 'compare' | 'copy' | 'link'; dirs: string[] } | null
}

export type Option = { name: string | null; short: string | null } & (
  | { takes: 'nothing'; set: (draft: Draft) => unknown }
  | { takes: 'text'; set: (draft: Draft, value: string) => unknown }
  | { takes: 'number'; set: (draft: Draft, value: number) => unknown }
  | { takes: 'unsupported' }
)

/** Thrown where an option shows that the whole line is a daemon's, which has options of its own. */
export const DAEMON_LINE = Symbol('daemon line')

const ALTERNATES_MAX = 20 // rsync.h MAX_BASIS_DIRS
const BLOCK_SIZE_MAX = 1 << 17
const BWLIMIT_MIN = 512
const SIZE_LIMIT = 2 ** 63

const plain = (name: string | null, short: string | null, set: (draft: Draft) => unknown): Option => ({
  name,
  short,
  takes: 'nothing',
  set,
})
const text = (
  names: string | string[],
  short: string | null,
  set: (draft: Draft, value: string) => unknown,
): Option[] => [names].flat().map((name) => ({ name, short, takes: 'text', set }))
const number = (
  names: string | string[],
  short: string | null,
  set: (draft: Draft, value: number) => unknown,
): Option[] => [names].flat().map((name) => ({ name, short, takes: 'number', set }))

/** The same under several names: rsync has --no-r for --no-recursive, and so on. */
const names = (all: string[], set: (draft: Draft) => unknown): Option[] => all.map((name) => plain(name, null, set))

type Switch = { [K in keyof Settings]: Settings[K] extends boolean ? K : never }[keyof Settings]

/** What an option without a value changes: settings, the call, or what is only noted for now. */
const put = (change: Partial<Draft['settings']>) => (draft: Draft) => Object.assign(draft.settings, change)
const tell = (change: Partial<Draft['call']>) => (draft: Draft) => Object.assign(draft.call, change)
const note = (change: Partial<Draft>) => (draft: Draft) => Object.assign(draft, change)

/** Where an option's value is kept. */
function putAs<V>(key: keyof Settings, meaning: (value: V) => unknown = (value) => value) {
  return ({ settings }: Draft, value: V) => Object.assign(settings, { [key]: meaning(value) })
}
const tellAs = (key: keyof Invocation) => (draft: Draft, value: unknown) => Object.assign(draft.call, { [key]: value })
const noteAs = (key: keyof Draft) => (draft: Draft, value: unknown) => Object.assign(draft, { [key]: value })
const milliseconds = (seconds: number) => Math.max(seconds, 0) * 1000

/** A setting that is off until it is named. */
const on = (key: Switch, name: string, short: string | null = null) => [plain(name, short, put({ [key]: true }))]

/** The same, with --no-NAME, and --no-X where there is a letter. */
function toggle(key: Switch, name: string, short: string | null = null): Option[] {
  const off = short === null ? [`no-${name}`] : [`no-${name}`, `no-${short}`]
  return [...on(key, name, short), ...names(off, put({ [key]: false }))]
}

const filter = (name: FilterArgument['option'], short: string | null = null): Option[] =>
  text(name, short, (draft, value) => {
    const { from0, deleteExcluded } = draft.settings
    draft.filterArguments.push({ option: name, text: value, from0, deleteExcluded })
  })

const alternate = (kind: 'compare' | 'copy' | 'link'): Option[] =>
  text(`${kind}-dest`, null, (draft, dir) => {
    draft.alternates ??= { kind, dirs: [] }
    const { kind: before, dirs } = draft.alternates
    if (before !== kind)
      throw new UsageError(`rsync: ERROR: the --${kind}-dest option conflicts with the --${before}-dest option`)
    if (dirs.length === ALTERNATES_MAX)
      throw new UsageError(`rsync: ERROR: at most ${ALTERNATES_MAX} --${kind}-dest args may be specified`)
    dirs.push(dir)
  })

/** Known to rsync and not to us: refused as an rsync that was built without it refuses it. */
const unsupported = (name: string, short: string | null = null): Option => ({ name, short, takes: 'unsupported' })

const ALREADY_OFF = (
  'no-iconv no-atimes no-U no-open-noatime no-crtimes no-N no-write-devices no-fuzzy no-y ' +
  'no-insecure-links no-drop-D'
).split(' ')

/** Every option of rsync's own table but those of daemons, with the names that `refuse options` knows (options.c). */
export const OPTIONS: readonly Option[] = [
  plain('help', null, tell({ help: 'rsync' })),
  plain('version', 'V', tell({ version: true })),
  plain('verbose', 'v', ({ settings }) => settings.verbose++),
  ...names(['no-verbose', 'no-v'], put({ verbose: 0 })),
  ...text('info', null, addInfo),
  ...on('quiet', 'quiet', 'q'),
  ...toggle('motd', 'motd'),
  ...on('stats', 'stats'),
  plain('human-readable', 'h', ({ settings }) => settings.humanReadable++),
  ...names(['no-human-readable', 'no-h'], put({ humanReadable: 0 })),
  ...on('dryRun', 'dry-run', 'n'),
  plain('archive', 'a', archive),
  plain('recursive', 'r', note({ recurse: 'by -r' })),
  ...names(['no-recursive', 'no-r'], note({ recurse: 'no' })),
  ...toggle('incRecursive', 'inc-recursive'),
  ...toggle('incRecursive', 'i-r'),
  plain('dirs', 'd', note({ dirs: 'by -d' })),
  ...names(['no-dirs', 'no-d'], note({ dirs: 'no' })),
  ...names(['old-dirs', 'old-d'], note({ dirs: 'by --old-dirs' })),
  ...toggle('perms', 'perms', 'p'),
  ...on('executability', 'executability', 'E'),
  plain('acls', 'A', put({ acls: true, perms: true })),
  ...names(['no-acls', 'no-A'], put({ acls: false })),
  plain('xattrs', 'X', ({ settings }) => Object.assign(settings, { xattrs: settings.xattrs === 0 ? 1 : 2 })),
  ...names(['no-xattrs', 'no-X'], put({ xattrs: 0 })),
  ...toggle('times', 'times', 't'),
  unsupported('atimes', 'U'),
  unsupported('open-noatime'),
  unsupported('crtimes', 'N'),
  ...toggle('omitDirTimes', 'omit-dir-times', 'O'),
  ...toggle('omitLinkTimes', 'omit-link-times', 'J'),
  ...number('modify-window', '@', ({ settings }, seconds) => {
    settings.modifyWindow = seconds
    settings.said.modifyWindow = true
  }),
  plain('super', null, put({ superUser: true, fakeSuper: false })),
  plain('no-super', null, put({ superUser: false, fakeSuper: false })),
  plain('fake-super', null, put({ superUser: false, fakeSuper: true })),
  ...toggle('owner', 'owner', 'o'),
  ...toggle('group', 'group', 'g'),
  plain(null, 'D', put({ devices: true, specials: true })),
  plain('no-D', null, put({ devices: false, specials: false })),
  ...toggle('devices', 'devices'),
  unsupported('copy-devices'),
  unsupported('write-devices'),
  unsupported('drop-D'),
  ...toggle('specials', 'specials'),
  ...toggle('links', 'links', 'l'),
  ...on('copyLinks', 'copy-links', 'L'),
  ...on('copyUnsafeLinks', 'copy-unsafe-links'),
  ...on('safeLinks', 'safe-links'),
  unsupported('insecure-links'),
  unsupported('confine-root'),
  ...toggle('mungeLinks', 'munge-links'),
  ...on('copyDirlinks', 'copy-dirlinks', 'k'),
  ...on('keepDirlinks', 'keep-dirlinks', 'K'),
  ...toggle('hardLinks', 'hard-links', 'H'),
  plain('relative', 'R', note({ relative: true })),
  ...names(['no-relative', 'no-R'], note({ relative: false })),
  ...toggle('impliedDirs', 'implied-dirs'),
  ...toggle('impliedDirs', 'i-d'),
  ...text('chmod', null, addChmod),
  ...on('ignoreTimes', 'ignore-times', 'I'),
  ...on('sizeOnly', 'size-only'),
  plain('one-file-system', 'x', ({ settings }) => {
    settings.oneFileSystem = settings.oneFileSystem === 0 ? 1 : 2
  }),
  ...names(['no-one-file-system', 'no-x'], put({ oneFileSystem: 0 })),
  ...on('update', 'update', 'u'),
  ...on('existing', 'existing'),
  ...on('existing', 'ignore-non-existing'),
  ...on('ignoreExisting', 'ignore-existing'),
  ...text(
    'max-size',
    null,
    putAs('maxSize', (value) => parseSize('max-size', value, 'b')),
  ),
  ...text(
    'min-size',
    null,
    putAs('minSize', (value) => parseSize('min-size', value, 'b')),
  ),
  unsupported('max-alloc'),
  ...toggle('sparse', 'sparse', 'S'),
  ...on('preallocate', 'preallocate'),
  ...toggle('inplace', 'inplace'),
  plain('append', null, addAppend),
  plain('append-verify', null, put({ append: 'verify' })),
  plain('no-append', null, put({ append: false })),
  plain('del', null, note({ deleteDuring: 'during' })),
  plain('delete', null, note({ deleteAny: true })),
  plain('delete-before', null, note({ deleteBefore: true })),
  plain('delete-during', null, note({ deleteDuring: 'during' })),
  plain('delete-delay', null, note({ deleteDuring: 'delay' })),
  plain('delete-after', null, note({ deleteAfter: true })),
  ...on('deleteExcluded', 'delete-excluded'),
  ...on('deleteMissingArgs', 'delete-missing-args'),
  ...on('ignoreMissingArgs', 'ignore-missing-args'),
  ...on('removeSourceFiles', 'remove-sent-files'),
  ...on('removeSourceFiles', 'remove-source-files'),
  ...toggle('force', 'force'),
  ...toggle('ignoreErrors', 'ignore-errors'),
  ...number(
    'max-delete',
    null,
    putAs('maxDelete', (count) => Math.max(count, 0)),
  ),
  plain(null, 'F', addPerDirectoryRules),
  ...filter('filter', 'f'),
  ...filter('exclude'),
  ...filter('include'),
  ...filter('exclude-from'),
  ...filter('include-from'),
  ...on('cvsExclude', 'cvs-exclude', 'C'),
  plain('whole-file', 'W', put({ wholeFile: true })),
  ...names(['no-whole-file', 'no-W'], put({ wholeFile: false })),
  ...toggle('checksum', 'checksum', 'c'),
  ...text(['checksum-choice', 'cc'], null, ({ settings }, checksumChoice) =>
    Object.assign(settings.said, { checksumChoice }),
  ),
  ...text('block-size', 'B', ({ settings }, value) => {
    settings.blockSize = parseSize('block-size', value, 'b', { max: BLOCK_SIZE_MAX, maxText: '128.00K' })
  }),
  ...alternate('compare'),
  ...alternate('copy'),
  ...alternate('link'),
  unsupported('fuzzy', 'y'),
  plain('compress', 'z', (draft) => draft.compress++),
  plain('old-compress', null, note({ compressWord: 'zlib' })),
  plain('new-compress', null, note({ compressWord: 'zlibx' })),
  ...names(['no-compress', 'no-z'], (draft) => {
    draft.compress = 0
    draft.compressWord = null
  }),
  ...text(['compress-choice', 'zc'], null, noteAs('compressWord')),
  ...text('skip-compress', null, putAs('skipCompress')),
  ...number(['compress-level', 'zl'], null, putAs('compressLevel')),
  unsupported('compress-threads'),
  unsupported('zt'),
  plain(null, 'P', addProgressAndPartial),
  plain('progress', null, note({ progress: true })),
  plain('no-progress', null, note({ progress: false })),
  ...toggle('partial', 'partial'),
  ...text('partial-dir', null, putAs('partialDir')),
  ...toggle('delayUpdates', 'delay-updates'),
  ...toggle('pruneEmptyDirs', 'prune-empty-dirs', 'm'),
  ...text('log-file', null, putAs('logFile')),
  ...text('log-file-format', null, putAs('logFileFormat')),
  ...text(['out-format', 'log-format'], null, putAs('outFormat')),
  plain('itemize-changes', 'i', (draft) => draft.itemize++),
  ...names(['no-itemize-changes', 'no-i'], note({ itemize: 0 })),
  ...text('bwlimit', null, putAs('bwlimit', parseRate)),
  plain('no-bwlimit', null, put({ bwlimit: 0 })),
  plain('backup', 'b', put({ backup: true })),
  plain('no-backup', null, put({ backup: false })),
  ...text('backup-dir', null, putAs('backupDir')),
  ...text('suffix', null, noteAs('suffix')),
  plain('list-only', null, sayListOnly),
  unsupported('read-batch'),
  unsupported('write-batch'),
  unsupported('only-write-batch'),
  ...text('files-from', null, putAs('filesFrom')),
  plain('from0', '0', put({ from0: true })),
  plain('no-from0', null, put({ from0: false })),
  plain('old-args', null, (draft) => Object.assign(draft, { oldArgs: (draft.oldArgs ?? 0) + 1 })),
  plain('no-old-args', null, note({ oldArgs: 0 })),
  plain('secluded-args', 's', note({ secludedArgs: true })),
  plain('protect-args', null, note({ secludedArgs: true })),
  ...names(['no-secluded-args', 'no-protect-args', 'no-s'], note({ secludedArgs: false })),
  unsupported('trust-sender'),
  ...toggle('numericIds', 'numeric-ids'),
  unsupported('usermap'),
  unsupported('groupmap'),
  unsupported('chown'),
  ...number('timeout', null, putAs('timeoutMs', milliseconds)),
  plain('no-timeout', null, put({ timeoutMs: 0 })),
  ...number('contimeout', null, putAs('connectTimeoutMs', milliseconds)),
  plain('no-contimeout', null, put({ connectTimeoutMs: 0 })),
  ...on('fsync', 'fsync'),
  unsupported('stop-after'),
  unsupported('time-limit'),
  unsupported('stop-at'),
  ...text('rsh', 'e', tellAs('rsh')),
  ...text('rsync-path', null, tellAs('rsyncPath')),
  ...text('temp-dir', 'T', putAs('tempDir')),
  unsupported('iconv'),
  // Switches off what we do not do: already so.
  ...names(ALREADY_OFF, () => {}),
  plain('ipv4', '4', tell({ family: 4 })),
  plain('ipv6', '6', tell({ family: 6 })),
  ...toggle('eightBitOutput', '8-bit-output', '8'),
  ...on('mkpath', 'mkpath'),
  unsupported('qsort'),
  unsupported('copy-as'),
  ...text('address', null, tellAs('address')),
  ...number('port', null, ({ call }, port) => Object.assign(call, { port: port || null })),
  ...text('sockopts', null, tellAs('sockopts')),
  ...text('password-file', null, tellAs('passwordFile')),
  unsupported('early-input'),
  plain('blocking-io', null, tell({ blockingIo: true })),
  plain('no-blocking-io', null, tell({ blockingIo: false })),
  unsupported('outbuf'),
  unsupported('debug'),
  unsupported('stderr'),
  unsupported('msgs2stderr'),
  unsupported('no-msgs2stderr'),
  ...text('remote-option', 'M', addRemoteOption),
  ...number('protocol', null, putAs('protocol')),
  ...number('checksum-seed', null, putAs('checksumSeed')),
  plain('server', null, tell({ server: true })),
  plain('sender', null, tell({ sender: true })),
  ...names(['daemon', 'detach', 'no-detach'], isDaemonLine),
  ...text(['config', 'dparam'], null, isDaemonLine),
]

const SHARED_WITH_DAEMON = new Set(
  'address bwlimit ipv4 ipv6 log-file log-file-format port sockopts protocol server temp-dir verbose no-verbose no-v'.split(
    ' ',
  ),
)

export const DAEMON_OPTIONS: readonly Option[] = [
  ...OPTIONS.filter(({ name }) => name !== null && SHARED_WITH_DAEMON.has(name)),
  ...text('config', null, tellAs('config')),
  plain('daemon', null, tell({ daemon: true })),
  unsupported('dparam', 'M'),
  plain('detach', null, tell({ detach: true })),
  plain('no-detach', null, tell({ detach: false })),
  plain('help', 'h', tell({ help: 'daemon' })),
]

function isDaemonLine(): never {
  throw DAEMON_LINE
}

function archive(draft: Draft): void {
  if (draft.recurse === 'no') draft.recurse = 'by -a'
  const { settings } = draft
  settings.links = settings.perms = settings.times = settings.group = settings.owner = true
  settings.devices = settings.specials = true
}

function addProgressAndPartial(draft: Draft): void {
  draft.progress = true
  draft.settings.partial = true
}

function sayListOnly({ settings }: Draft): void {
  settings.listOnly = true
  settings.said.listOnly = true
}

function addInfo({ infoAsked, call }: Draft, words: string): void {
  const unknown = setInfo(infoAsked, words)
  if (unknown?.toLowerCase() === 'help') call.help = 'info'
  // A newer client may ask for what we do not have.
  else if (unknown !== null && !call.server) throw new UsageError(`Unknown --info item: "${unknown}"`)
}

function addChmod({ settings }: Draft, value: string): void {
  const rules = parseChmod(value)
  if (rules === null) throw new UsageError(`rsync: Invalid argument passed to --chmod (${value})`)
  settings.chmod = [...settings.chmod, ...rules]
}

/** A client says --append twice to a server where it means --append-verify. */
function addAppend({ settings, call }: Draft): void {
  settings.append = call.server && settings.append ? 'verify' : 'append'
}

function addPerDirectoryRules(draft: Draft): void {
  const rule = [': /.rsync-filter', '- .rsync-filter'][draft.perDirectoryRules++]
  if (rule !== undefined) draft.filterArguments.push({ option: 'filter', text: rule })
}

function addRemoteOption({ settings }: Draft, option: string): void {
  if (!option.startsWith('-')) throw new UsageError(`rsync: Remote option must start with a dash: ${option}`)
  settings.remoteOptions = [...settings.remoteOptions, option]
}

/** Counted in whole KiB a second, as it travels. */
function parseRate(value: string): number {
  const bytes = parseSize('bwlimit', value, 'K', { min: BWLIMIT_MIN })
  return Math.floor((bytes + 512) / 1024) * 1024
}

/** `1.5m`, `2KB`, `4GiB+1`: bytes. `unit` is meant where there is none (options.c parse_size_arg()). */
function parseSize(
  name: string,
  value: string,
  unit: string,
  limits: { min?: number; max?: number; maxText?: string } = {},
): number {
  const wrong = (problem: string) => new UsageError(`rsync: --${name}=${value} is ${problem}`)
  const parts = /^(-(?=[\d.]))?(\d*\.?\d*)(?:([bkmgtp])(b|ib)?)?([+-]1)?$/i.exec(value)
  if (!parts || value === '+1') throw wrong('invalid')
  const [, minus, digits, letter = unit, thousand, more = '0'] = parts
  const power = 'bkmgtp'.indexOf(letter.toLowerCase())
  const amount = (Number.parseFloat(digits) || 0) * (thousand?.length === 1 ? 1000 : 1024) ** power
  const size = Math.trunc(amount) + Number(more)
  if ((minus && amount > 0) || size < 0 || size >= SIZE_LIMIT) throw wrong('too large')
  if (limits.max !== undefined && size > limits.max) throw wrong(`too large (max: ${limits.maxText})`)
  if (limits.min !== undefined && size < limits.min && size !== 0)
    throw wrong(`too small (min: ${limits.min} or 0 for unlimited)`)
  return size
}
