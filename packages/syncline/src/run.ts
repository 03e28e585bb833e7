import { closeSync, existsSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:http'
import { resolve } from 'node:path'
import { fromBytes, printable, type RawPath, RemoteError } from '@syncline/rsync'
import type { Config } from './config.js'
import { serveControl, serveGuards, serveHttp } from './control.js'
import { isWithin } from './destination.js'
import { detach, isDetached, reportStarted } from './detach.js'
import { dryRun } from './dry-run.js'
import { ConfigError } from './errors.js'
import { GuardedPath, type GuardOptions } from './guarded.js'
import { Journal } from './journal.js'
import { sdNotify } from './kernel.js'
import { type LogOptions, openLog } from './log.js'
import { Mirror, type MirrorOptions } from './mirror.js'
import { type CommandOptions, type HttpAddress, processOptions, readSmallFile } from './options.js'
import { claim, guardDirectory, guardsDirectory, openState } from './state.js'
import type { Target } from './target.js'

/** What belongs to the process, whatever it mirrors. */
export interface ProcessOptions {
  stateDir: string
  http: HttpAddress | 'off'
  /** Whether to go on when that address cannot be had. */
  httpOptional: boolean
  pidFile: string | undefined
  log: LogOptions
  dryRun: boolean
}

/** What a configuration says, with what the command line says beside it. */
export async function runConfig(
  config: Config,
  options: CommandOptions,
  given: ReadonlySet<string>,
  reread: () => Config,
): Promise<number> {
  // In the background they have been said by whoever started it.
  for (const remark of isDetached() ? [] : config.remarks) console.error(`syncline: ${config.file}: ${remark}`)
  if (options.detach && !isDetached()) return detach(process.argv.slice(1))
  return runMirrors(config.mirrors, processOptions(options, config.process, given), reread, config.guards)
}

/** A mirror that runs, with what it holds. */
interface Running {
  mirror: Mirror
  control: Server
}

/**
 * Mirrors every source until a signal ends it. SIGHUP calls `reread`, and changes what differs. Resolves with the exit
 * code. Throws ConfigError, and what a daemon that refuses said.
 */
export async function runMirrors(
  list: readonly MirrorOptions[],
  options: ProcessOptions,
  reread?: () => Config,
  guarded: readonly GuardOptions[] = [],
): Promise<number> {
  for (const one of list) stateOutside(one, options.stateDir)
  if (options.dryRun) return dryRunAll(list)
  const log = openLog(options.log)
  const running: Running[] = []
  const mirrors: Mirror[] = []
  const guards: GuardedPath[] = []
  let guardControl: Server | undefined
  let http: Server | undefined
  let wrotePid = false
  let ready = false
  let isStarted: () => void = () => undefined
  let reloading = new Promise<void>((resolve) => {
    isStarted = resolve
  })
  const ended = new Promise<number>((resolve) =>
    onSignals(resolve, () => {
      log.reopen()
      if (reread !== undefined) reloading = reloading.then(() => reload(reread)) // one after the other
    }),
  )
  let fail: (error: Error) => void = () => undefined
  const failed = new Promise<number>((resolve) => {
    fail = (error) => {
      console.error(`syncline: ${error.message}`)
      resolve(1)
    }
  })
  try {
    for (const one of list) await open(one)
    const early = await Promise.race([probeAll(mirrors, log.logger), ended, failed])
    if (typeof early === 'number') return early
    if (options.http !== 'off') {
      http = await serveHttp(mirrors, options.http).catch((error: Error) => {
        if (!options.httpOptional) throw error
        log.logger.warn(`the status is not served: ${error.message}`)
        return undefined
      })
    }
    if (options.pidFile !== undefined) writePidFile(options.pidFile)
    wrotePid = options.pidFile !== undefined
    await Promise.all(mirrors.map((mirror) => mirror.start()))
    for (const { source, targets } of list)
      if (targets.length === 0) process.stdout.write(`watching ${printable(source)}\n`)
    await openGuards(guarded)
    isStarted()
    if (list.length === 0) ready = sdNotify('READY=1')
    if (isDetached()) detachFromTerminal()
    const code = await Promise.race([ended, failed])
    sdNotify('STOPPING=1')
    await reloading
    return code
  } finally {
    http?.close()
    guardControl?.close()
    await Promise.all(guards.map((guard) => guard.close()))
    await Promise.all(running.map(close))
    if (wrotePid && readPid(options.pidFile!) === process.pid) rmSync(options.pidFile!, { force: true })
  }

  async function open(one: MirrorOptions): Promise<Mirror> {
    const names = one.targets.map(({ destination }) => destination.name)
    const directory = openState(options.stateDir, one.source, names)
    const journal = await Journal.open(`${directory}/journal`)
    try {
      for (const name of names)
        if (!claim(options.stateDir, directory, one.source, name)) journal.setSynced(name, undefined)
      const mirror = new Mirror(one, journal, log.logger, (target) => announce(one, target), fail)
      running.push({ mirror, control: await serveControl(mirror, directory) })
      mirrors.push(mirror)
      return mirror
    } catch (error) {
      await journal.close()
      throw error
    }
  }

  async function openGuards(all: readonly GuardOptions[]): Promise<void> {
    if (all.length === 0) return
    for (const one of all) {
      const guard = new GuardedPath(one, guardDirectory(options.stateDir, one.path), log.logger, fail)
      guards.push(guard)
      await guard.start()
      process.stdout.write(`guarding ${guard.name}\n`)
    }
    guardControl = await serveGuards(guards, guardsDirectory(options.stateDir))
  }

  async function close({ mirror, control }: Running): Promise<void> {
    control.close()
    await mirror.stop()
  }

  /** Goes over to what the configuration says now; what it says of a source as before is not touched. */
  async function reload(read: () => Config): Promise<void> {
    try {
      const config = read()
      for (const one of config.mirrors) stateOutside(one, options.stateDir)
      const wanted = [...config.mirrors]
      const closed: MirrorOptions[] = []
      for (const one of [...running]) {
        const at = wanted.findIndex((next) => one.mirror.takes(next))
        if (at >= 0) {
          const [next] = wanted.splice(at, 1)
          await one.mirror.changeTargets(next.targets)
          continue
        }
        running.splice(running.indexOf(one), 1)
        mirrors.splice(mirrors.indexOf(one.mirror), 1)
        await close(one)
        closed.push(one.mirror.options)
        log.logger.info(`${printable(one.mirror.options.source)} is no longer mirrored as it was`)
      }
      for (const one of wanted) await begin(one, closed)
      await changeGuards(config.guards)
      log.logger.info(`${config.file} was read again`)
    } catch (error) {
      log.logger.error(`${(error as Error).message}; nothing was changed by SIGHUP beyond what was said above`)
    }
  }

  /** Opens and starts; what cannot be is mirrored as it was before, if it was. */
  async function begin(one: MirrorOptions, closed: readonly MirrorOptions[]): Promise<void> {
    try {
      await start(one)
    } catch (error) {
      log.logger.error(`${printable(one.source)}: ${(error as Error).message}`)
      const before = closed.find(({ source }) => source === one.source)
      if (before !== undefined) await start(before)
    }
  }

  async function start(one: MirrorOptions): Promise<void> {
    const mirror = await open(one)
    try {
      await mirror.start()
    } catch (error) {
      const at = running.findIndex((other) => other.mirror === mirror)
      mirrors.splice(mirrors.indexOf(mirror), 1)
      await close(running.splice(at, 1)[0])
      throw error
    }
  }

  async function changeGuards(wanted: readonly GuardOptions[]): Promise<void> {
    const meaning = (all: readonly GuardOptions[]) => JSON.stringify(all)
    if (meaning(wanted) === meaning(guards.map((guard) => guard.options))) return
    guardControl?.close()
    await Promise.all(guards.splice(0).map((guard) => guard.close()))
    await openGuards(wanted)
  }

  function announce(of: MirrorOptions, { name }: Target): void {
    process.stdout.write(`mirroring ${printable(of.source)} to ${name}\n`)
    const settled = (one: Target) => one.announced || ['refused', 'halted', 'backing-off'].includes(one.state)
    const targets = mirrors.flatMap((mirror) => mirror.targets)
    if (!ready && targets.every(settled)) ready = sdNotify(`READY=1\nSTATUS=mirroring to ${targets.length} targets`)
  }
}

async function dryRunAll(list: readonly MirrorOptions[]): Promise<number> {
  let code = 0
  for (const one of list) code = (await dryRun(one)) || code
  return code
}

/** A journal below SRC would be a change that each change makes; below DEST it would be deleted. */
function stateOutside({ source, targets }: MirrorOptions, stateDir: string): void {
  const state = fromBytes(Buffer.from(resolve(stateDir)))
  const refuse = (where: string) =>
    new ConfigError(`the state directory ${stateDir} is below ${where}; choose another with --state-dir`)
  if (isWithin(state, source)) throw refuse('SRC')
  for (const { destination } of targets)
    if (destination.remote.local && isWithin(state, destination.remote.path as RawPath)) throw refuse(destination.name)
}

/**
 * Finds out before anything is started whether the daemons take us. One that refuses for good, alone, is an error that
 * someone must mend now; beside others it is shown and retried, because one target must not stop the rest.
 */
async function probeAll(mirrors: readonly Mirror[], log: { warn(line: string): void }): Promise<void> {
  const refusals: RemoteError[] = []
  const targets = mirrors.flatMap((mirror) => mirror.targets)
  const probes = targets.map((target) =>
    target.probe().catch((error: Error) => {
      if (error instanceof RemoteError && error.permanent) refusals.push(error)
      if (refusals.length < targets.length) log.warn(`${target.name}: ${error.message}; trying again`)
      throw error
    }),
  )
  // As soon as one can be reached there is work to do; the others join when they can.
  await Promise.any(probes).catch(() => undefined)
  if (refusals.length > 0 && refusals.length === targets.length) throw refusals[0]
}

/** SIGTERM and SIGINT end in peace, a second one at once; SIGHUP reopens the log and reads the configuration again. */
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

/** The number in a pid file, or undefined where there is no such file or something else in it. */
function readPid(file: string): number | undefined {
  try {
    const text = readSmallFile(file, 64).toString('latin1').trim()
    return /^\d{1,10}$/.test(text) ? Number(text) : undefined
  } catch {
    return undefined
  }
}

function writePidFile(file: string): void {
  try {
    // Whatever else is called so is not ours to overwrite.
    if (existsSync(file) && statSync(file).size > 0 && readPid(file) === undefined)
      throw new Error('it is there and holds no process id; name another, or remove it')
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
