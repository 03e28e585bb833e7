import { infoOption } from './info-flags.js'
import { DELAYED_DIR, formatHas } from './options.js'
import { escapePath, escapeRemoteOption, escapeValue } from './remote-args.js'
import type { Settings } from './settings.js'

/** What our end of a session can do, behind `-e.`: `i` in front where incremental recursion is wanted (compat.c). */
const CAPABILITIES = 'LsfxCIvu'
const DEFAULT_SUFFIX = '~'

export interface Direction {
  /** The server sends: this is a pull. */
  sender: boolean
}

/** The options that a client gives to `rsync --server`, up to the `.` in front of the paths (options.c server_options()). */
export function serverOptions(settings: Settings, { sender }: Direction): string[] {
  const options = ['--server', ...(sender ? ['--sender'] : []), letters(settings, sender)]
  for (const [option, wanted] of general(settings, sender)) if (wanted) options.push(...[option].flat())
  return [...options, ...settings.remoteOptions.map((option) => escapeRemoteOption(option, settings))]
}

/** All arguments of a remote shell's `rsync`, or of a daemon that is reached by a socket, which gets paths as they are. */
export function serverArguments(
  settings: Settings,
  how: Direction & { paths: readonly string[]; daemon: boolean },
): string[] {
  const paths = how.daemon ? how.paths : how.paths.map((path) => escapePath(path, settings, how.sender))
  return [...serverOptions(settings, how), '.', ...paths]
}

/**
 * With -s only the first few arguments are on the remote command line (of a daemon: in the first list). The others are
 * sent through the protocol, each ended by a NUL, and an empty one after the last.
 */
export function splitSecluded(args: readonly string[]): { open: string[]; secluded: string[] } {
  const open = args.slice(0, args[1] === '--sender' ? 3 : 2)
  return { open, secluded: ['rsync', ...args.slice(open.length)] }
}

/** Whether lists may come piece by piece: not where the receiving client must know all of them first (compat.c). */
export function allowsIncRecurse(settings: Settings, clientReceives: boolean): boolean {
  const { recursive, incRecursive, deleteWhen, delayUpdates, pruneEmptyDirs } = settings
  const needsAll = deleteWhen === 'before' || deleteWhen === 'after' || delayUpdates || pruneEmptyDirs
  return recursive && incRecursive && !(clientReceives && needsAll)
}

type Wanted = boolean | number | null

function letters(s: Settings, pull: boolean): string {
  const push = !pull
  const listed = s.said.dirs || (s.dirs && !s.recursive && (s.listOnly || (s.deleteWhen !== null && push)))
  const zlib = s.compressChoice === 'zlib' || (s.compressChoice === null && s.said.compress)
  // Without a backup directory directories' times are never kept: both ends know.
  const omitDirTimes = s.omitDirTimes && !(s.backup && s.backupDir === null)
  const table: [letter: string, wanted: Wanted][] = [
    ['s', s.secludedArgs],
    ['v', s.verbose],
    ['q', s.quiet],
    ['b', s.backup],
    ['u', s.update],
    ['n', s.dryRun],
    ['l', s.links],
    ['d', listed],
    ['K', push && s.keepDirlinks],
    ['m', push && s.pruneEmptyDirs],
    ['O', push && omitDirTimes],
    ['J', push && s.omitLinkTimes],
    ['L', pull && s.copyLinks],
    ['k', pull && s.copyDirlinks],
    ['W', s.wholeFile],
    ['H', s.hardLinks],
    ['o', s.owner],
    ['g', s.group],
    ['D', s.devices],
    ['t', s.times],
    ['p', s.perms],
    ['E', push && s.executability && !s.perms],
    ['A', s.acls],
    ['X', s.xattrs],
    ['r', s.recursive],
    ['c', s.checksum],
    ['C', s.cvsExclude],
    ['I', s.ignoreTimes],
    ['R', s.relative],
    ['x', s.oneFileSystem],
    ['S', s.sparse],
    ['z', zlib],
  ]
  const wanted = table.map(([letter, count]) => letter.repeat(Number(count ?? 0)))
  return `-${wanted.join('')}e.${allowsIncRecurse(s, pull) ? 'i' : ''}${CAPABILITIES}`
}

/** In the order in which rsync sends them; what holds for one direction is only told in it. */
function general(s: Settings, pull: boolean): [option: string | string[], wanted: Wanted][] {
  const push = !pull
  const value = (text: string) => escapeValue(text, s)
  const alternates = (s.alternates?.dirs ?? []).flatMap((dir) => [`--${s.alternates!.kind}-dest`, value(dir)])
  const info = infoOption(s.infoAsked, pull)
  return [
    ['--list-only', s.said.listOnly],
    ['--no-r', push && s.dirs && !s.recursive && s.deleteWhen !== null],
    [`--compress-level=${s.compressLevel}`, compresses(s) && s.compressLevel !== null],
    ['--no-specials', s.devices && !s.specials],
    ['--specials', s.specials && !s.devices],
    [logFormat(s), push && logFormat(s) !== ''],
    [`-B${s.blockSize}`, s.blockSize],
    [`--timeout=${s.timeoutMs / 1000}`, s.timeoutMs],
    [`--bwlimit=${s.bwlimit / 1024}`, s.bwlimit],
    // In two words, so that a shell makes a home of `~`.
    [['--backup-dir', value(s.backupDir ?? '')], s.backupDir !== null],
    [`--suffix=${value(s.suffix)}`, s.suffix !== (s.backupDir === null ? DEFAULT_SUFFIX : '')],
    [`--checksum-choice=${value(s.said.checksumChoice ?? '')}`, s.said.checksumChoice !== null],
    ['--new-compress', s.compressChoice === 'zlibx'],
    ['--old-compress', s.compressChoice === 'zlib'],
    ['--compress-choice=none', s.compressChoice === 'none'],
    // To servers before 3.0 a limit of 0 meant none.
    [`--max-delete=${s.maxDelete || -1}`, push && s.maxDelete !== null],
    [`--min-size=${BigInt(s.minSize ?? 0)}`, push && s.minSize !== null],
    [`--max-size=${BigInt(s.maxSize ?? 0)}`, push && s.maxSize !== null],
    [`--delete-${s.deleteWhen}`, push && s.said.deleteWhen],
    ['--delete', push && s.deleteWhen !== null && !s.said.deleteWhen && !s.deleteExcluded],
    ['--delete-excluded', push && s.deleteExcluded],
    ['--force', push && s.force],
    ['--super', push && s.superUser],
    ['--size-only', push && s.sizeOnly],
    ['--stats', push && s.stats],
    [`--skip-compress=${value(s.skipCompress ?? '')}`, pull && s.skipCompress !== null],
    ['--delete-missing-args', s.deleteMissingArgs],
    ['--ignore-missing-args', pull && s.ignoreMissingArgs],
    [`${s.modifyWindow < 0 ? '-@' : '--modify-window='}${s.modifyWindow}`, push && s.said.modifyWindow],
    [`--checksum-seed=${s.checksumSeed}`, s.checksumSeed !== 0],
    [['--partial-dir', value(s.partialDir ?? '')], push && s.partialDir !== null && !isDelayedDir(s)],
    ['--delay-updates', push && s.delayUpdates && s.partialDir !== null],
    ['--partial', push && s.partial && s.partialDir === null],
    ['--ignore-errors', s.ignoreErrors],
    ['--copy-unsafe-links', s.copyUnsafeLinks],
    ['--safe-links', s.safeLinks],
    ['--numeric-ids', s.numericIds],
    ['--ignore-existing', push && s.ignoreExisting],
    ['--existing', push && s.existing],
    [['--temp-dir', value(s.tempDir ?? '')], push && s.tempDir !== null],
    ['--fsync', push && s.fsync],
    ['--mkpath', push && s.mkpath],
    [alternates, push],
    [info ?? '', info !== null],
    // --append alone trusts what is there; said twice it is checked.
    [s.append === 'verify' ? ['--append', '--append'] : '--append', s.append !== false],
    ['--inplace', s.inplace && s.append === false],
    // Old servers would take --sparse --inplace for a reason to copy whole files.
    ['--no-W', push && s.inplace && s.append === false && s.sparse && s.wholeFile === false],
    ...filesFrom(s, pull),
    ['--no-implied-dirs', s.relative && !s.impliedDirs],
    ['--remove-source-files', s.removeSourceFiles],
    ['--preallocate', push && s.preallocate],
  ]
}

/** Even a level of 0 is told: that is what switches compression off. */
const compresses = (s: Settings) =>
  s.compressChoice !== 'none' && (s.compressLevel !== null || s.said.compress || s.compressChoice !== null)

const isDelayedDir = (s: Settings) => s.delayUpdates && s.partialDir === DELAYED_DIR

/** A server prints nothing, but must know whether it is to itemize. */
function logFormat({ outFormat, itemize, verbose }: Settings): string {
  if (outFormat === null) return ''
  if (itemize > 0) return itemize > 1 ? '--log-format=%i%I' : '--log-format=%i'
  if (formatHas(outFormat, 'o')) return '--log-format=%o'
  return verbose === 0 ? '--log-format=X' : ''
}

/** A list at this end is sent to a server that is to send what is in it; one at its own end it reads itself. */
function filesFrom(s: Settings, pull: boolean): [string | string[], boolean][] {
  const there = s.filesFrom?.startsWith(':') ?? false
  const told = s.filesFrom !== null && (pull || there)
  return [
    [['--files-from', escapeValue(s.filesFrom?.slice(1) ?? '', s)], there],
    ['--files-from=-', told && !there],
    ['--from0', told && (s.from0 || !there)],
    ['--no-relative', told && !s.relative],
  ]
}
