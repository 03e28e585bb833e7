#!/usr/bin/env node
import './memory.js' // first: it sets up the heap before anything fills it
import { ConnectError, type FilterRule, ProtocolError, RERR, RemoteError, TimeoutError } from '@syncline/rsync'
import { Command, CommanderError, Option } from 'commander'
import { detach, isDetached } from './detach.js'
import { ConfigError } from './errors.js'
import { type CommandOptions, parseHttp, parseNumber, parseRate, patternFile, patternRule } from './options.js'
import { runMirror } from './run.js'
import { defaultStateDir } from './state.js'
import { resume, showStatus } from './status.js'

const EXIT_CODES = `
DEST is [USER@]HOST::MODULE[/PATH] or rsync://[USER@]HOST[:PORT]/MODULE[/PATH]: a module of any rsync daemon, 3.0 or newer.
What is in SRC is made to be in DEST, and what is not in SRC is deleted there unless --no-delete.

Exit codes: 0 ended by a signal; 1 wrong usage, or the module is read only; 3 SRC is not a directory;
5 the daemon refuses (password, unknown module, address); other codes are rsync's.`

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
    .usage('[OPTIONS] SRC DEST...\n       syncline status [--json]\n       syncline resume [TARGET]')
    .description('Mirror SRC to every DEST: a full sync first, then each change as it happens.')
    .argument('<SRC>', 'the directory to mirror')
    .argument('<DEST...>', 'where to')
    .option('--password-file <file>', 'read the password from the first line of this file (or set RSYNC_PASSWORD)')
    .addOption(
      new Option('--exclude <pattern>', "leave out what matches (rsync's pattern language; may be repeated)").argParser(
        (text: string) => add([patternRule('--exclude', text, false)]),
      ),
    )
    .addOption(
      new Option(
        '--include <pattern>',
        'do not leave out what matches; the first pattern that matches decides',
      ).argParser((text: string) => add([patternRule('--include', text, true)])),
    )
    .addOption(
      new Option('--exclude-from <file>', 'read patterns from this file').argParser((text: string) =>
        add(patternFile(text)),
      ),
    )
    .option('--no-delete', 'never delete anything at DEST')
    .option('--no-initial-sync', 'do not compare everything first; send only changes from now on')
    .option('-z, --compress', 'compress what is sent')
    .addOption(
      new Option('--bwlimit <rate>', 'send at most this much: KiB a second, or with K, M, G').argParser(parseRate),
    )
    .addOption(
      new Option('--sessions <n>', 'connections kept ready for each DEST')
        .default(4)
        .argParser((text: string) => parseNumber('--sessions', text, 1, 64)),
    )
    .addOption(
      new Option('--timeout <seconds>', 'give a connection up after so much silence')
        .default(60)
        .argParser((text: string) => parseNumber('--timeout', text, 1, 86_400)),
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
    .action((source: string, destinations: string[], options: CommandOptions) => {
      // Commander keeps only an option's last value; the order of all patterns together is what counts.
      run(start(source, destinations, { ...options, rules }))
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
  return command
}

async function start(source: string, destinations: string[], options: CommandOptions): Promise<number> {
  if (options.detach && !isDetached()) return detach(process.argv.slice(1))
  return runMirror(source, destinations, options)
}

/** One line that says what is wrong and what to do, and the code for it. */
function explain(error: unknown): [line: string, code: number] {
  if (error instanceof CommanderError)
    return [error.message.replace(/^error: /, ''), error.exitCode === 0 ? 0 : RERR.SYNTAX]
  if (error instanceof ConfigError) return [error.message, error.exitCode]
  if (error instanceof RemoteError) return [`${error.message}${mend(error)}`, error.exitCode]
  if (error instanceof TimeoutError) return [error.message, RERR.TIMEOUT]
  if (error instanceof ConnectError) return [error.message, RERR.SOCKETIO]
  if (error instanceof ProtocolError) return [error.message, RERR.PROTOCOL]
  throw error // ours to mend: a stack trace helps whoever does
}

function mend(error: RemoteError): string {
  switch (error.reason) {
    case 'auth':
      return error.message.includes('--password-file')
        ? ''
        : " (check user and password; the daemon's log says which is wrong)"
    case 'unknown-module':
      return " (check its name in DEST; the daemon's rsyncd.conf lists its modules in brackets)"
    case 'read-only':
      return ' (set "read only = false" for it in the daemon\'s rsyncd.conf)'
    case 'denied':
      return ' (check "hosts allow" and "hosts deny" in the daemon\'s rsyncd.conf)'
    case 'refused':
    case 'max-connections':
    case 'failed':
      return ''
  }
}

async function main(): Promise<number> {
  try {
    let result: Promise<number> | undefined
    const command = program((code) => {
      result = code
    })
    command.exitOverride().configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    for (const sub of command.commands)
      sub.exitOverride().configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    command.parse()
    return (await result) ?? 0
  } catch (error) {
    const [line, code] = explain(error)
    if (code !== 0) console.error(`syncline: ${line.split('\n')[0]}`)
    return code
  }
}

// Whoever read what we print may go; that is no reason to stop mirroring.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)

process.exitCode = await main()
// A connection that lingers, or a read of the kernel's queue, must not keep a finished program alive.
process.exit()
