#!/usr/bin/env node
import './memory.js' // first: it sets up the heap before anything fills it
import { Command, Option } from 'commander'
import { readConfig } from './config.js'
import { ConfigError } from './errors.js'
import { execute } from './execute.js'
import { parseNumber } from './options.js'
import { runConfig } from './run.js'
import { defaultStateDir } from './state.js'

interface Flags {
  r?: boolean
  d?: boolean
  n?: number
  o: string
  m?: string
  stateDir: string
}

/** sersync's command line: the same letters, combined in any way, for the same confxml.xml. */
function program(run: (code: Promise<number>) => void): Command {
  return new Command('sersync2')
    .description('Mirror what confxml.xml says, as sersync does.')
    .option('-r', 'a full sync first (watches are set before it)')
    .option('-d', 'go to the background once started')
    .addOption(
      new Option('-n <n>', 'connections kept ready for each remote').argParser((text: string) =>
        parseNumber('-n ', text, 1, 64),
      ),
    )
    .option('-o <file>', 'the configuration', 'confxml.xml')
    .addOption(
      new Option('-m <plugin>', 'run this plugin alone, for what it watches, and mirror nothing').choices([
        'command',
        'socket',
        'refreshCDN',
        'http',
      ]),
    )
    .helpOption('-h', 'this help')
    .addOption(
      new Option('--state-dir <dir>', 'where journals and control sockets are kept').default(defaultStateDir()),
    )
    .allowExcessArguments(false)
    .action((flags: Flags) => run(start(flags)))
}

async function start(options: Flags): Promise<number> {
  const read = () => {
    const config = readSersyncConfig(options.o, options.m)
    for (const mirror of config.mirrors) {
      mirror.initialSync = options.r === true ? 'always' : 'never'
      if (options.n !== undefined) for (const target of mirror.targets) target.sessions = options.n
    }
    return config
  }
  const common = {
    delete: true,
    initialSync: true,
    sessions: 1,
    timeout: 60,
    http: 'off' as const,
    logFormat: 'pretty' as const,
    stateDir: options.stateDir,
    ...(options.d && { detach: true }),
  }
  return runConfig(read(), common, new Set(['stateDir']), read)
}

/** sersync ends with 255 when it cannot read its configuration, and scripts may rely on that. */
function readSersyncConfig(file: string, plugin: string | undefined) {
  try {
    return readConfig(file, plugin)
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(error.message, 255) : error
  }
}

await execute('sersync2', program)
