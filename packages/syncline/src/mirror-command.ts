import './memory.js' // first: it sets up the heap before anything fills it
import type { FilterRule } from '@syncline/rsync'
import { Command, Option } from 'commander'
import { detach, isDetached } from './detach.js'
import { ConfigError } from './errors.js'
import { execute } from './execute.js'
import {
  type CommandOptions,
  limitOf,
  mirrorOf,
  parseHttp,
  parseNumber,
  parseRate,
  patternFile,
  patternRule,
  processOptions,
} from './options.js'
import { runConfig, runMirrors } from './run.js'
import { defaultStateDir } from './state.js'
import { accept, resume, showStatus } from './status.js'

const EXIT_CODES = `
DEST is [USER@]HOST::MODULE[/PATH] or rsync://[USER@]HOST[:PORT]/MODULE[/PATH]: a module of any rsync daemon, 3.0 or newer;
rsyncs://[USER@]HOST[:PORT]/MODULE[/PATH]: the same by TLS (port 874; RSYNC_SSL_CA_CERT, RSYNC_SSL_CERT and RSYNC_SSL_KEY name
files, as for rsync-ssl); [USER@]HOST:/PATH: a directory, by ssh and the rsync there (login by key; one connection is kept);
or /DIRECTORY: one of this machine.
What is in SRC is made to be in DEST, and what is not in SRC is deleted there unless --no-delete.

syncline daemon is an rsync daemon, and syncline rsync is rsync, argument for argument; syncline inotifywait and syncline
inotifywatch are those of inotify-tools. Each has a --help of its own.

SIGHUP reopens the log and reads the configuration again: what it changes is changed, without a full sync of the rest.

Exit codes: 0 ended by a signal; 1 wrong usage, or the module is read only; 3 SRC is not a directory;
5 the daemon refuses (password, unknown module, address, certificate); other codes are rsync's.`

interface SubOptions {
  stateDir?: string
}

function program(run: (code: Promise<number>) => void): Command {
  const rules: FilterRule[] = []
  const stateDir = () => new Option('--state-dir <dir>', 'where journals and control sockets are kept')
  // Before the subcommand's name, or after it.
  const stateDirOf = (sub: SubOptions) => sub.stateDir ?? command.opts<{ stateDir: string }>().stateDir
  const add = (more: FilterRule[]) => {
    rules.push(...more)
    return rules
  }
  const command = new Command('syncline')
    .usage(
      '[OPTIONS] SRC DEST...\n       syncline [OPTIONS] -c FILE\n       syncline status [--json]\n       syncline resume [TARGET]\n       syncline accept [PATH]\n       syncline check FILE\n       syncline import confxml.xml\n       syncline daemon [ARGS...]\n       syncline rsync ARGS...\n       syncline inotifywait ARGS...\n       syncline inotifywatch ARGS...',
    )
    .description('Mirror SRC to every DEST: a full sync first, then each change as it happens.')
    .argument('[SRC]', 'the directory to mirror')
    .argument('[DEST...]', 'where to')
    .option('-c, --config <file>', "read what to mirror from a configuration: YAML, or sersync's confxml.xml")
    .option(
      '-e, --rsh <command>',
      'the remote shell for HOST:/PATH, with its options (or set RSYNC_RSH); ssh by itself',
    )
    .option('--password-file <file>', 'read the password from the first line of this file (or set RSYNC_PASSWORD)')
    .addOption(
      new Option('--exclude <pattern>', "leave out what matches (rsync's pattern language; may be repeated)").argParser(
        (text: string) => add([patternRule('--exclude=', text, false)]),
      ),
    )
    .addOption(
      new Option(
        '--include <pattern>',
        'do not leave out what matches; the first pattern that matches decides',
      ).argParser((text: string) => add([patternRule('--include=', text, true)])),
    )
    .addOption(
      new Option('--exclude-from <file>', 'read patterns from this file').argParser((text: string) =>
        add(patternFile(text)),
      ),
    )
    .option('--no-delete', 'never delete anything at DEST')
    .addOption(
      new Option(
        '--max-delete <limit>',
        'halt rather than delete more names than this at DEST within ten seconds: a number, or a part such as 25%',
      ).argParser((text: string) => limitOf('--max-delete=', text)),
    )
    .addOption(
      new Option(
        '--initial-sync <when>',
        'compare everything first: auto (unless the snapshot of the last run tells what changed), always, never',
      ).choices(['auto', 'always', 'never']),
    )
    .option('--no-initial-sync', 'do not compare anything first; send only changes from now on (the same as never)')
    .addOption(
      new Option(
        '--watch <how>',
        'watch each directory (inotify) or whole filesystems (fanotify), or look at everything over and over (poll); auto: what suits the tree and is allowed',
      )
        .choices(['auto', 'inotify', 'fanotify', 'poll'])
        .default('auto'),
    )
    .option('-z, --compress', 'compress what is sent')
    .addOption(
      new Option('--bwlimit <rate>', 'send at most this much: KiB a second, or with K, M, G').argParser(parseRate),
    )
    .addOption(
      new Option('--sessions <n>', 'connections kept ready for each DEST')
        .default(4)
        .argParser((text: string) => parseNumber('--sessions=', text, 1, 64)),
    )
    .addOption(
      new Option('--timeout <seconds>', 'give a connection up after so much silence')
        .default(60)
        .argParser((text: string) => parseNumber('--timeout=', text, 1, 86_400)),
    )
    .addOption(stateDir().default(defaultStateDir()))
    .addOption(
      new Option('--http <address:port>', 'serve the status as JSON at /status there')
        .default('off')
        .argParser(parseHttp),
    )
    .option('-d, --detach', 'go to the background once started')
    .option('--pid-file <file>', 'write the process id there while running')
    .option('--log-file <file>', 'log there instead of to standard error; SIGHUP reopens it')
    .addOption(new Option('--log-format <format>', 'how log lines look').choices(['pretty', 'json']).default('pretty'))
    .option('-n, --dry-run', 'print what a full sync would do, and change nothing')
    .option('-v, --verbose', 'log each batch')
    .option('-q, --quiet', 'log only warnings and errors')
    .version('0.1.0', '-V, --version')
    .addHelpText('after', EXIT_CODES)
    .enablePositionalOptions()
    .action((source: string | undefined, destinations: string[], options: CommandOptions) => {
      // Commander keeps only an option's last value; the order of all patterns together is what counts.
      run(start(source, destinations, { ...options, rules }, given(command)))
    })
  command
    .command('status')
    .description('what each target still owes, its lag, its last error')
    .option('--json', 'as JSON')
    .addOption(stateDir())
    .action((options: SubOptions & { json?: boolean }) => run(showStatus(stateDirOf(options), options.json === true)))
  command
    .command('resume')
    .description('let a halted target go on, or all')
    .argument('[TARGET]', 'as it was given as DEST')
    .addOption(stateDir())
    .action((target: string | undefined, options: SubOptions) => run(resume(stateDirOf(options), target)))
  command
    .command('accept')
    .description('take what a guarded path is now as the good copy; all guarded paths without one')
    .argument('[PATH]', 'as it stands in the configuration')
    .addOption(stateDir())
    .action((path: string | undefined, options: SubOptions) => run(accept(stateDirOf(options), path)))
  command
    .command('check')
    .description('validate a configuration and say what it means')
    .argument('<FILE>', "YAML, or sersync's confxml.xml")
    .action((file: string) => run(check(file)))
  command
    .command('import')
    .description("print sersync's confxml.xml as YAML, with a remark for each thing that changed meaning")
    .argument('<FILE>', 'the confxml.xml')
    .action((file: string) => run(importSersync(file)))
  return command
}

/** The names of the options that the command line gives. */
function given(command: Command): Set<string> {
  const names = command.options.map((option) => option.attributeName())
  return new Set(names.filter((name) => command.getOptionValueSource(name) === 'cli'))
}

/** These say what to mirror, and so does a configuration. */
const MIRROR_OPTIONS = [
  'rsh',
  'passwordFile',
  'delete',
  'maxDelete',
  'initialSync',
  'watch',
  'compress',
  'bwlimit',
  'sessions',
  'timeout',
]

async function start(
  source: string | undefined,
  destinations: string[],
  options: CommandOptions,
  named: ReadonlySet<string>,
): Promise<number> {
  if (options.config === undefined) {
    if (source === undefined || destinations.length === 0)
      throw new ConfigError('SRC and DEST are missing: syncline [OPTIONS] SRC DEST..., or -c FILE; see syncline --help')
    const mirrors = [mirrorOf(source, destinations, options)]
    if (options.detach && !isDetached()) return detach(process.argv.slice(1))
    return runMirrors(mirrors, processOptions(options, {}, named))
  }
  if (source !== undefined) throw new ConfigError(`-c ${options.config} names what to mirror; "${source}" is too much`)
  const twofold = MIRROR_OPTIONS.find((name) => named.has(name)) ?? (options.rules?.length ? 'exclude' : undefined)
  if (twofold !== undefined)
    throw new ConfigError(
      `with -c, write what "${twofold}" would say into ${options.config}: it may differ for each target`,
    )
  const { readConfig } = await import('./config.js')
  const { config } = options
  return runConfig(readConfig(config), options, named, () => readConfig(config))
}

// Parsers and schemas are loaded where a configuration is read: they would take 6 MB of a mirror that has none.
async function check(file: string): Promise<number> {
  const [{ readConfig }, { describeConfig }] = await Promise.all([import('./config.js'), import('./explain.js')])
  console.log(describeConfig(readConfig(file)))
  return 0
}

async function importSersync(file: string): Promise<number> {
  const { toYaml } = await import('./explain.js')
  process.stdout.write(toYaml(file))
  return 0
}

await execute('syncline', program)
