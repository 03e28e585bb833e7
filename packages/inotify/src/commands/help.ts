import { createRequire } from 'node:module'

const { version: VERSION } = createRequire(import.meta.url)('../../../package.json') as { version: string }

const EVENTS = `Events, for -e (several by commas, or by several -e; without -e all of them):
  access         was read                       moved_to      came here by a rename
  modify         was written                    moved_from    left by a rename
  attrib         its attributes changed         move          either of these two
  close_write    was closed, had been writable  move_self     what is watched was renamed
  close_nowrite  was closed, had been read-only create        a name was made
  close          either of these two            delete        a name was removed
  open           was opened                     delete_self   what is watched was removed
  unmount        its filesystem was unmounted
`

const PATHS = `  @PATH                    leave this directory out
  --fromfile FILE          more paths, and @PATHs, a line each; '-' is standard input
  --exclude PATTERN        leave out events on paths that match this POSIX extended expression
  --excludei PATTERN       the same, of whatever case
  --include PATTERN        leave out events on all other paths
  --includei PATTERN       the same, of whatever case
  -r, --recursive          watch all directories below, too
  -P, --no-dereference     watch symbolic links themselves
  -I, --inotify            watch by inotify (what is done anyway)
  -F, --fanotify           the same: of single paths fanotify tells no more
  -S, --filesystem         watch all of the filesystem that PATH is on, by fanotify; print absolute paths
`

export const waitHelp = (program: string): string => `${program} of syncline ${VERSION}
Waits for something to happen to files and directories, and prints what it was.

Usage: ${program} [OPTIONS] PATH...

${PATHS}  -m, --monitor            go on after the first event
  -d, --daemon             the same in the background, with -o
  -t, --timeout SECONDS    give up when nothing happens for so long; 0: never
  -e, --event EVENT        print only these
  -o, --outfile FILE       append to this file what would be printed
  -s, --syslog             say to syslog what would go to standard error
  -q, --quiet              say nothing but events; -qq: not even them
  -c, --csv                print events as comma-separated values
  --format FORMAT          print them so: %w what is watched, %f the name in it, %e the events, %Xe with X
                           between them, %T the time, %c the cookie of a rename, %0 NUL, %n newline, %% a %
  --no-newline             no newline behind that
  --timefmt FORMAT         what %T is, as strftime(3) has it
  -h, --help               print this

Exit codes: 0 an event came; 1 something failed, or what was watched is gone; 2 the time was up.

${EVENTS}`

export const watchHelp = (program: string): string => `${program} of syncline ${VERSION}
Counts what happens to files and directories until it is interrupted, and prints a table.

Usage: ${program} [OPTIONS] PATH...

${PATHS}  -t, --timeout SECONDS    for so long; 0: until it is interrupted
  -e, --event EVENT        count only these
  -a, --ascending EVENT    sort by this event, or 'total'; the least first
  -d, --descending EVENT   sort by this event, or 'total'; the most first (by total, unless one is given)
  -z, --zero               print rows and columns of zeros, too
  -v, --verbose            say more
  -h, --help               print this

SIGUSR1 prints the table and goes on. Exit codes: 0 as it should be; 1 something failed.

${EVENTS}`
