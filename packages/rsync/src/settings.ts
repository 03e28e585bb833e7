import type { FilterRule } from './filter.js'
import type { InfoFlag } from './info-flags.js'
import type { RawPath } from './raw-path.js'

/** Permission changes of --chmod and of `incoming chmod`: each applies to what it names, in order. */
export interface ChmodRule {
  to: 'all' | 'files' | 'directories'
  /** The permission bits after it, of `bits` before it; `mode` is the original one, with the file type. */
  apply(bits: number, mode: number, umask: number): number
}

/** An option that adds filter rules, in the order in which they were given. */
export interface FilterArgument {
  option: 'filter' | 'exclude' | 'include' | 'exclude-from' | 'include-from'
  /** A rule, a pattern, or the file that holds them. */
  text: string
  /** --from0 and --delete-excluded had been given by then: rsync reads each rule as soon as it meets it. */
  from0?: boolean
  deleteExcluded?: boolean
}

/** Where a deletion falls in the course of a transfer; null deletes nothing. */
export type DeleteWhen = 'before' | 'during' | 'delay' | 'after'

/** What rsync's options say of a transfer, by the long names of rsync(1). Paths are latin1, sizes bytes, times ms. */
export interface Settings {
  // what is listed
  recursive: boolean
  /** -d: directories themselves without what they hold. */
  dirs: boolean
  relative: boolean
  impliedDirs: boolean
  /** -x once or twice. */
  oneFileSystem: 0 | 1 | 2
  /** --files-from: '-' is standard input (of a server: the wire), ':NAME' a file at the other end. */
  filesFrom: string | null
  from0: boolean
  ignoreMissingArgs: boolean
  deleteMissingArgs: boolean
  pruneEmptyDirs: boolean

  // what is kept of an entry
  links: boolean
  copyLinks: boolean
  copyUnsafeLinks: boolean
  safeLinks: boolean
  copyDirlinks: boolean
  keepDirlinks: boolean
  mungeLinks: boolean
  hardLinks: boolean
  perms: boolean
  executability: boolean
  acls: boolean
  /** -X once or twice: twice copies rsync's own too. */
  xattrs: 0 | 1 | 2
  fakeSuper: boolean
  /** --super, --no-super; null: whether we are root decides. */
  superUser: boolean | null
  owner: boolean
  group: boolean
  devices: boolean
  specials: boolean
  times: boolean
  omitDirTimes: boolean
  omitLinkTimes: boolean
  numericIds: boolean
  /** Applied by the client, whichever end sends: it does not travel. */
  chmod: readonly ChmodRule[]

  // what is transferred
  checksum: boolean
  update: boolean
  ignoreTimes: boolean
  sizeOnly: boolean
  /** Seconds; -1 compares nanoseconds. */
  modifyWindow: number
  wholeFile: boolean | null
  existing: boolean
  ignoreExisting: boolean
  maxSize: number | null
  minSize: number | null
  alternates: { kind: 'compare' | 'copy' | 'link'; dirs: readonly string[] } | null

  // deleting
  deleteWhen: DeleteWhen | null
  deleteExcluded: boolean
  ignoreErrors: boolean
  /** Null without a limit. Negative is 0, and says so differently. */
  maxDelete: number | null
  force: boolean
  removeSourceFiles: boolean

  // how files are written
  dryRun: boolean
  /** -n of a client whose generator must still itemize: as `dryRun`, kept for the log. */
  blockSize: number
  sparse: boolean
  preallocate: boolean
  inplace: boolean
  append: false | 'append' | 'verify'
  partial: boolean
  partialDir: string | null
  delayUpdates: boolean
  tempDir: string | null
  backup: boolean
  backupDir: string | null
  /** Of backups; `~`, or '' with a backup directory. */
  suffix: string
  fsync: boolean
  /** All missing directories on the way to the destination are made. */
  mkpath: boolean

  // the wire
  compress: boolean
  /** --compress-choice; null lets both ends choose. */
  compressChoice: 'zlib' | 'zlibx' | 'none' | null
  /** As it was given: 0 is none, and more than an algorithm has is its most. */
  compressLevel: number | null
  skipCompress: string | null
  /** --checksum-choice, one or two names in lower case, `auto` and `none` among them; null lets both ends choose. */
  checksumChoice: readonly [transfer: string, preTransfer: string] | null
  checksumSeed: number
  /** Bytes a second, 0 without a limit. */
  bwlimit: number
  /** 0 without. */
  timeoutMs: number
  connectTimeoutMs: number
  /** --protocol: the highest version to offer. */
  protocol: number | null
  /** Incremental recursion is allowed (--no-inc-recursive forbids it). */
  incRecursive: boolean
  /** --old-args once or twice: paths, or all arguments, go to the remote shell as they are. */
  oldArgs: number
  /** -s: arguments travel in the protocol instead of on the remote command line. */
  secludedArgs: boolean
  /** -M: options for the server alone. */
  remoteOptions: readonly string[]

  // output
  verbose: number
  quiet: boolean
  /** Each --info flag's level, from -v, --stats, --progress and --info. One that is missing is 0. */
  info: ReadonlyMap<InfoFlag, number>
  /** Those that --info itself has set: they travel. */
  infoAsked: ReadonlyMap<InfoFlag, number>
  /** 1: changes are itemized, 2: what is unchanged too (-ii); from -i or from the format. */
  itemize: number
  /** The line of each update; null prints none. -i and -v have formats of their own. */
  outFormat: string | null
  /** --stats was said; `info` tells how much is printed. */
  stats: boolean
  /** 0: plain digits, 1: with separators, 2 and 3: with units of 1000 and of 1024. */
  humanReadable: number
  /** `file`: --progress; `total`: --info=progress2. */
  progress: 'file' | 'total' | null
  eightBitOutput: boolean
  listOnly: boolean
  logFile: string | null
  logFileFormat: string | null
  motd: boolean

  /** Filter rules in order, as given and as they travel: made of `filterArguments`. */
  filter: readonly FilterRule[]
  /** With those that other options imply: -F, --old-dirs, --backup with --delete. */
  filterArguments: readonly FilterArgument[]
  cvsExclude: boolean

  /** What was said itself and not implied: the other end is told the difference. */
  said: {
    dirs: boolean
    listOnly: boolean
    deleteWhen: boolean
    modifyWindow: boolean
    compress: boolean
    checksumChoice: string | null
  }
}

/** How the program was called: what is copied where, and by what means. */
export interface Invocation {
  settings: Settings
  /** Operands as latin1, in order; the last is DEST where there are two. A server's without the `.` in front. */
  operands: RawPath[]
  // client
  rsh: string | null
  rsyncPath: string
  port: number | null
  address: string | null
  family: 0 | 4 | 6
  sockopts: string | null
  blockingIo: boolean
  passwordFile: string | null
  // server
  server: boolean
  /** The server's role is the sender's. */
  sender: boolean
  /** The client's capability letters, behind `-e.`; '' where there were none. */
  capabilities: string
  daemon: boolean
  config: string | null
  detach: boolean
  /** What to explain instead of doing anything. */
  help: 'rsync' | 'daemon' | 'info' | null
  version: boolean
}
