import { readFileSync } from 'node:fs'
import { CHECKSUMS } from './digest.js'
import { PROTOCOL } from './wire/constants.js'

/** What `--version` prints. */
export function versionText(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return [
    `syncline rsync  version ${version}  protocol version ${PROTOCOL.MAX}`,
    'Capabilities:',
    '    64-bit files, 64-bit inums, 64-bit timestamps, 64-bit long ints,',
    '    symlinks, symtimes, hardlinks, hardlink-specials, hardlink-symlinks,',
    '    IPv6, inplace, append, ACLs, xattrs, optional secluded-args, prealloc,',
    '    no atimes, no batchfiles, no iconv, no stop-at, no crtimes',
    'Checksum list:',
    `    ${CHECKSUMS.join(' ')} none`,
    'Compress list:',
    '    zlibx zlib none',
    '',
    'This is a program of its own that speaks the protocol of rsync(1). MIT licence, no warranty.',
    '',
  ].join('\n')
}

const USAGE = `Usage: rsync [OPTION]... SRC [SRC]... DEST
  or   rsync [OPTION]... SRC [SRC]... [USER@]HOST:DEST
  or   rsync [OPTION]... SRC [SRC]... [USER@]HOST::DEST
  or   rsync [OPTION]... SRC [SRC]... rsync://[USER@]HOST[:PORT]/DEST
  or   rsync [OPTION]... [USER@]HOST:SRC [DEST]
  or   rsync [OPTION]... [USER@]HOST::SRC [DEST]
  or   rsync [OPTION]... rsync://[USER@]HOST[:PORT]/SRC [DEST]
One colon goes through a remote shell; two of them, and rsync://, go to an rsync daemon, where the path begins with the
name of a module. A single path is listed.
`

/** `[option, what it does]`, in the order in which rsync lists them. */
const RSYNC_OPTIONS: readonly (readonly [string, string])[] = [
  ['--verbose, -v', 'say more; may be repeated'],
  ['--info=FLAGS', 'choose what is said (--info=help lists the flags)'],
  ['--quiet, -q', 'say nothing but errors'],
  ['--no-motd', "do not show a daemon's message of the day"],
  ['--checksum, -c', 'compare by checksum instead of by size and time'],
  ['--archive, -a', 'the same as -rlptgoD'],
  ['--no-OPTION', 'take an option back (e.g. -a --no-D)'],
  ['--recursive, -r', 'go into directories'],
  ['--inc-recursive, --i-r', 'send the file list while it is still being made'],
  ['--no-inc-recursive', 'finish the file list first'],
  ['--no-i-r', 'same as --no-inc-recursive'],
  ['--relative, -R', 'keep the whole path of each SRC'],
  ['--no-implied-dirs', 'with -R: leave the directories above a SRC as they are'],
  ['--backup, -b', 'keep what is replaced or deleted'],
  ['--backup-dir=DIR', 'keep it in a tree below DIR'],
  ['--suffix=SUFFIX', 'what backups end in (~ without --backup-dir)'],
  ['--update, -u', 'leave alone what is newer at the receiver'],
  ['--inplace', 'write into the files themselves'],
  ['--append', 'send only what lies behind the end of shorter files'],
  ['--append-verify', '--append, and check the data in front of it'],
  ['--dirs, -d', 'send directories without what is in them'],
  ['--old-dirs', '--dirs for servers too old to know it'],
  ['--old-d', 'same as --old-dirs'],
  ['--links, -l', 'copy symlinks as symlinks'],
  ['--copy-links, -L', 'copy what symlinks point to'],
  ['--copy-unsafe-links', 'copy what symlinks point to outside of the tree'],
  ['--safe-links', 'skip symlinks that point out of the tree'],
  ['--munge-links', 'store symlinks so that they lead nowhere'],
  ['--copy-dirlinks, -k', 'at the sender, follow symlinks to directories'],
  ['--keep-dirlinks, -K', 'at the receiver, follow symlinks to directories'],
  ['--hard-links, -H', 'keep hard links'],
  ['--perms, -p', 'keep permissions'],
  ['--executability, -E', 'keep whether a file can be executed'],
  ['--chmod=CHMOD', 'change permissions on the way'],
  ['--acls, -A', 'keep ACLs (implies --perms)'],
  ['--xattrs, -X', 'keep extended attributes'],
  ['--owner, -o', 'keep owners (super-user only)'],
  ['--group, -g', 'keep groups'],
  ['--devices', 'keep device files (super-user only)'],
  ['--specials', 'keep sockets and FIFOs'],
  ['-D', 'same as --devices --specials'],
  ['--times, -t', 'keep modification times'],
  ['--omit-dir-times, -O', 'but not those of directories'],
  ['--omit-link-times, -J', 'but not those of symlinks'],
  ['--super', 'try at the receiver what only a super-user may do'],
  ['--fake-super', 'keep what only a super-user may set in attributes'],
  ['--sparse, -S', 'make holes of zeros'],
  ['--preallocate', 'reserve the space of files before writing them'],
  ['--dry-run, -n', 'only show what would be done'],
  ['--whole-file, -W', 'send whole files instead of differences'],
  ['--no-whole-file, --no-W', 'send differences, even between local paths'],
  ['--checksum-choice=STR', 'choose the checksum (also --cc)'],
  ['--one-file-system, -x', 'stay on the file system of each SRC'],
  ['--block-size=SIZE, -B', 'compare in blocks of this size'],
  ['--rsh=COMMAND, -e', 'the remote shell to use'],
  ['--rsync-path=PROGRAM', 'the rsync to run on the other machine'],
  ['--existing', 'make nothing new at the receiver'],
  ['--ignore-non-existing', 'same as --existing'],
  ['--ignore-existing', 'update nothing that is there already'],
  ['--remove-source-files', 'remove files at the sender once they are there'],
  ['--del', 'same as --delete-during'],
  ['--delete', 'delete what the sender does not have'],
  ['--delete-before', 'delete before the transfer'],
  ['--delete-during', 'delete in the course of the transfer'],
  ['--delete-delay', 'find what to delete during, delete after it'],
  ['--delete-after', 'delete after the transfer'],
  ['--delete-excluded', 'delete what is excluded, too'],
  ['--ignore-missing-args', 'say nothing of a SRC that does not exist'],
  ['--delete-missing-args', 'delete at the receiver each SRC that does not exist'],
  ['--ignore-errors', 'delete even after errors of reading'],
  ['--force', 'delete directories that are in the way'],
  ['--max-delete=NUM', 'delete no more than NUM entries'],
  ['--max-size=SIZE', 'send no larger file'],
  ['--min-size=SIZE', 'send no smaller file'],
  ['--partial', 'keep what arrived of a file when interrupted'],
  ['--partial-dir=DIR', 'keep it in DIR'],
  ['--delay-updates', 'put all files in place at the end'],
  ['--prune-empty-dirs, -m', 'leave out directories that would be empty'],
  ['--numeric-ids', 'keep the numbers of users and groups'],
  ['--timeout=SECONDS', 'give up when nothing happens for so long'],
  ['--contimeout=SECONDS', 'give up connecting to a daemon after so long'],
  ['--ignore-times, -I', 'update files whose size and time are equal, too'],
  ['--size-only', 'compare sizes only'],
  ['--modify-window=NUM, -@', 'take times for equal that differ by no more'],
  ['--temp-dir=DIR, -T', 'write new files in DIR first'],
  ['--compare-dest=DIR', 'skip what is in DIR unchanged'],
  ['--copy-dest=DIR', 'copy from DIR what is unchanged there'],
  ['--link-dest=DIR', 'hard-link to DIR what is unchanged there'],
  ['--compress, -z', 'compress data on the way'],
  ['--compress-choice=STR', 'choose the compression (also --zc)'],
  ['--compress-level=NUM', 'choose its level (also --zl)'],
  ['--skip-compress=LIST', 'do not compress files with these suffixes'],
  ['--cvs-exclude, -C', 'leave out what CVS leaves out'],
  ['--filter=RULE, -f', 'add a filter rule'],
  ['-F', "same as --filter='dir-merge /.rsync-filter'"],
  ['', "twice: also --filter='- .rsync-filter'"],
  ['--exclude=PATTERN', 'leave out what matches'],
  ['--exclude-from=FILE', 'read such patterns from FILE'],
  ['--include=PATTERN', 'do not leave out what matches'],
  ['--include-from=FILE', 'read such patterns from FILE'],
  ['--files-from=FILE', 'read from FILE what to send'],
  ['--from0, -0', 'names and rules in files end in a NUL'],
  ['--old-args', 'let the remote shell split arguments'],
  ['--secluded-args, -s', 'send arguments through the protocol'],
  ['--address=ADDRESS', 'connect to daemons from this address'],
  ['--port=PORT', "a daemon's port"],
  ['--sockopts=OPTIONS', 'options for the TCP socket'],
  ['--blocking-io', 'blocking I/O for the remote shell'],
  ['--stats', 'show statistics at the end'],
  ['--8-bit-output, -8', 'print bytes above 127 as they are'],
  ['--human-readable, -h', 'print numbers with units'],
  ['--progress', 'show progress'],
  ['-P', 'same as --partial --progress'],
  ['--itemize-changes, -i', 'show what changes of each entry'],
  ['--remote-option=OPT, -M', 'give OPT to the other end only'],
  ['--out-format=FORMAT', 'how to print updates'],
  ['--log-file=FILE', 'log to FILE'],
  ['--log-file-format=FMT', 'how to log updates'],
  ['--password-file=FILE', "read a daemon's password from FILE"],
  ['--list-only', 'list instead of copying'],
  ['--bwlimit=RATE', 'send no faster'],
  ['--fsync', 'flush every file to disk'],
  ['--mkpath', 'make all missing directories on the way to the destination'],
  ['--protocol=NUM', `offer no newer protocol (${PROTOCOL.MIN} to ${PROTOCOL.MAX})`],
  ['--checksum-seed=NUM', 'the seed of checksums'],
  ['--ipv4, -4', 'prefer IPv4'],
  ['--ipv6, -6', 'prefer IPv6'],
  ['--version, -V', 'print the version'],
  ['--help, -h (*)', 'print this (* -h only where it is the only word)'],
]

const DAEMON_OPTIONS: readonly (readonly [string, string])[] = [
  ['--daemon', 'run as a daemon'],
  ['--address=ADDRESS', 'listen on this address'],
  ['--bwlimit=RATE', 'send no faster'],
  ['--config=FILE', 'another rsyncd.conf'],
  ['--no-detach', 'stay in the foreground'],
  ['--port=PORT', 'listen on another port'],
  ['--log-file=FILE', 'instead of the "log file" of the configuration'],
  ['--log-file-format=FMT', 'instead of its "log format"'],
  ['--sockopts=OPTIONS', 'options for TCP sockets'],
  ['--temp-dir=DIR, -T', 'write new files in DIR first'],
  ['--verbose, -v', 'say more'],
  ['--ipv4, -4', 'prefer IPv4'],
  ['--ipv6, -6', 'prefer IPv6'],
  ['--help, -h', 'print this (with --daemon)'],
]

const INFO: readonly (readonly [string, string])[] = [
  ['BACKUP', 'files that were backed up'],
  ['COPY', 'files that were copied locally at the receiver'],
  ['DEL', 'deletions at the receiver'],
  ['FLIST', 'sending and receiving the file list (levels 1-2)'],
  ['MISC', 'anything else (levels 1-2)'],
  ['MOUNT', 'mount points that were found or skipped'],
  ['NAME', '1) what is updated, 2) what is unchanged too'],
  ['NONREG', 'skipped files that are not regular (1 unless set to 0)'],
  ['PROGRESS', '1) of each file, 2) of the whole transfer'],
  ['REMOVE', 'files that were removed at the sender'],
  ['SKIP', 'files that options left out (levels 1-2)'],
  ['STATS', 'statistics at the end (levels 1-3)'],
  ['SYMSAFE', 'symlinks that are not safe'],
  ['', ''],
  ['ALL', 'all of them (e.g. all4)'],
  ['NONE', 'none of them'],
  ['HELP', 'print this'],
]

/** What was asked for with --help, --daemon --help or --info=help. */
export function helpText(about: 'rsync' | 'daemon' | 'info'): string {
  return { rsync: rsyncHelp, daemon: daemonHelp, info: infoHelp }[about]()
}

/** Also what a command line gets that makes no sense. */
export function rsyncHelp(): string {
  const end = 'Use "rsync --daemon --help" for the options of a daemon.\n'
  return `${versionText()}\n${USAGE}\nOptions\n${columns(RSYNC_OPTIONS, 25)}\n${end}`
}

function daemonHelp(): string {
  return `${versionText()}\nUsage: rsync --daemon [OPTION]...\n${columns(DAEMON_OPTIONS, 25)}`
}

function infoHelp(): string {
  const start = 'FLAG or FLAG1 asks for level 1, FLAG2 for level 2 and so on; FLAG0 silences.\n'
  return `${start}\n${columns(INFO, 11)}`
}

const columns = (rows: readonly (readonly [string, string])[], width: number) =>
  rows
    .map(([left, right]) => `${left.padEnd(width)}${right}`.trimEnd())
    .join('\n')
    .concat('\n')
