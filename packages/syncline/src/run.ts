import { closeSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { printable, RemoteError } from '@syncline/rsync'
import { serveControl, serveHttp } from './control.js'
import { isDetached, reportStarted } from './detach.js'
import { dryRun } from './dry-run.js'
import { ConfigError } from './errors.js'
import { Journal } from './journal.js'
import { sdNotify } from './kernel.js'
import { openLog } from './log.js'
import { Mirror, type MirrorOptions } from './mirror.js'
import { type CommandOptions, credentialsFor, resolveDestinations, resolveSource } from './options.js'
import { openState } from './state.js'
import type { Target } from './target.js'

/** `syncline [OPTIONS] SRC DEST...`: runs until a signal ends it. Resolves with the exit code. */
export async function runMirror(
  sourceText: string,
  destinationTexts: string[],
  options: CommandOptions,
): Promise<number> {
  const mirrorOptions = mirrorOptionsOf(sourceText, destinationTexts, options)
  if (options.dryRun) {
    return dryRun(mirrorOptions)
  }
  const log = openLog({
    file: options.logFile,
    format: options.logFormat,
    level: options.verbose ? 'debug' : options.quiet ? 'warn' : 'info',
  })
  const directory = openState(options.stateDir, mirrorOptions.source, destinationTexts)
  const journal = await Journal.open(`${directory}/journal`)
  const servers: Server[] = []
  let wrotePid = false
  let ready = false
  let mirror: Mirror | undefined
  const ended = new Promise<number>((resolve) => {
    const fatal = (error: Error) => {
      console.error(`syncline: ${error.message}`)
      resolve(1)
    }
    onSignals(resolve, () => log.reopen())
    mirror = new Mirror(mirrorOptions, journal, log.logger, (target) => announce(mirrorOptions, target.name), fatal)
  })
  try {
    const early = await Promise.race([probeAll(mirror!, log.logger), ended])
    if (typeof early === 'number') return early
    servers.push(await serveControl(mirror!, directory))
    if (options.http !== 'off') servers.push(await serveHttp(mirror!, options.http))
    if (options.pidFile !== undefined) writePidFile(options.pidFile)
    wrotePid = options.pidFile !== undefined
    await mirror!.start()
    if (isDetached()) detachFromTerminal()
    const code = await ended
    sdNotify('STOPPING=1')
    await mirror!.stop()
    return code
  } finally {
    for (const server of servers) server.close()
    if (wrotePid) rmSync(options.pidFile!, { force: true })
  }

  function announce(of: MirrorOptions, target: string): void {
    process.stdout.write(`mirroring ${printable(of.source)} to ${target}\n`)
    const settled = (one: Target) => one.announced || ['refused', 'halted', 'backing-off'].includes(one.state)
    if (!ready && mirror!.targets.every(settled))
      ready = sdNotify(`READY=1\nSTATUS=mirroring to ${mirror!.targets.length} targets`)
  }
}

function mirrorOptionsOf(sourceText: string, destinationTexts: string[], options: CommandOptions): MirrorOptions {
  const source = resolveSource(sourceText)
  const targets = resolveDestinations(destinationTexts).map((destination) => ({
    destination,
    credentials: credentialsFor(destination, options.passwordFile),
  }))
  stateOutside(source, options.stateDir)
  return {
    source,
    targets,
    rules: options.rules ?? [],
    delete: options.delete,
    initialSync: options.initialSync,
    compress: options.compress === true,
    bytesPerSecond: options.bwlimit ?? 0,
    sessions: options.sessions,
    timeoutMs: options.timeout * 1000,
  }
}

/** A journal below SRC would be a change that each change makes. */
function stateOutside(source: string, stateDir: string): void {
  const above = (path: string): string => {
    try {
      return realpathSync.native(path)
    } catch {
      const parent = path.replace(/\/+[^/]*\/*$/, '')
      return parent === path || parent === '' ? '/' : above(parent)
    }
  }
  const state = Buffer.from(above(stateDir.startsWith('/') ? stateDir : `${process.cwd()}/${stateDir}`)).toString(
    'latin1',
  )
  if (`${state}/`.startsWith(source === '/' ? '//' : `${source}/`))
    throw new ConfigError(`the state directory ${stateDir} is below SRC; choose another with --state-dir`)
}

/**
 * Finds out before anything is started whether the daemons take us. One that refuses for good, alone, is an error that
 * someone must mend now; beside others it is shown and retried, because one target must not stop the rest.
 */
async function probeAll(mirror: Mirror, log: { warn(line: string): void }): Promise<void> {
  const refusals: RemoteError[] = []
  const probes = mirror.targets.map((target) =>
    target.probe().catch((error: Error) => {
      if (error instanceof RemoteError && error.permanent) refusals.push(error)
      if (refusals.length < mirror.targets.length) log.warn(`${target.name}: ${error.message}; trying again`)
      throw error
    }),
  )
  // As soon as one can be reached there is work to do; the others join when they can.
  await Promise.any(probes).catch(() => undefined)
  if (refusals.length === mirror.targets.length) throw refusals[0]
}

/** SIGTERM and SIGINT end in peace, a second one at once; SIGHUP reopens the log. */
function onSignals(end: (code: number) => void, reload: () => void): void {
  let ending = false
  const stop = () => {
    if (ending) process.exit(1)
    ending = true
    end(0)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', reload)
}

function writePidFile(file: string): void {
  try {
    writeFileSync(file, `${process.pid}\n`)
  } catch (error) {
    throw new ConfigError(`--pid-file=${file}: ${(error as Error).message}`)
  }
}

/** What is printed from now on goes nowhere unless --log-file says where. */
function detachFromTerminal(): void {
  reportStarted()
  closeSync(2)
  openSync('/dev/null', 'w') // takes the lowest free number, which is 2
}
