import { askAccept, askResume, askStatus } from './control.js'
import type { MirrorStatus } from './mirror.js'
import { guardsDirectory, stateDirectories } from './state.js'
import type { TargetStatus } from './target.js'

/** `syncline status`: 0 when every target is mirroring and owes nothing that failed, else 1. */
export async function showStatus(stateDir: string, json: boolean): Promise<number> {
  const instances: MirrorStatus[] = []
  for (const directory of stateDirectories(stateDir)) {
    const answer = await askStatus(directory).catch(() => undefined)
    if (answer !== undefined) instances.push(...answer.instances)
  }
  if (json) console.log(JSON.stringify({ instances }))
  else if (instances.length === 0) console.log(`no mirror is running (looked in ${stateDir})`)
  else for (const instance of instances) console.log(describe(instance))
  const fine =
    instances.length > 0 &&
    instances.every(({ targets }) => targets.every((t) => t.state === 'mirroring' && t.failures.length === 0))
  return fine ? 0 : 1
}

/** `syncline resume [TARGET]`: 0 when a target was told, else 1. */
export async function resume(stateDir: string, target: string | undefined): Promise<number> {
  let told = 0
  for (const directory of stateDirectories(stateDir)) {
    try {
      const { resumed } = await askResume(directory, target)
      for (const name of resumed) console.log(`resumed ${name}`)
      told += resumed.length
    } catch (error) {
      if (isNotRunning(error)) continue
      console.error(`syncline: ${(error as Error).message}`)
    }
  }
  if (told === 0)
    console.error(
      `syncline: no running mirror has ${target === undefined ? 'a target' : `the target ${target}`} that could be resumed (looked in ${stateDir})`,
    )
  return told > 0 ? 0 : 1
}

/** `syncline accept [PATH]`: 0 when a guard was told that what is there now is good, else 1. */
export async function accept(stateDir: string, path: string | undefined): Promise<number> {
  try {
    const { accepted } = await askAccept(guardsDirectory(stateDir), path)
    for (const name of accepted) console.log(`accepted ${name}`)
    if (accepted.length > 0) return 0
    console.error(`syncline: ${path} is not guarded`)
  } catch (error) {
    const text = isNotRunning(error) ? `no guard is running (looked in ${stateDir})` : (error as Error).message
    console.error(`syncline: ${text}`)
  }
  return 1
}

const isNotRunning = (error: unknown) =>
  ['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '')

function describe({
  pid,
  source,
  watchedBy,
  watches,
  overflows,
  unwatched,
  journalProblem,
  targets,
}: MirrorStatus): string {
  const lines = [
    `${source}  (pid ${pid}, ${watches} ${watchedBy === 'fanotify' ? 'filesystems' : 'directories'} ${watchedBy === 'poll' ? 'looked at' : 'watched'})`,
  ]
  if (unwatched > 0)
    lines.push(`  WARNING ${unwatched} directories could not be watched and are only looked at now and then`)
  if (overflows > 0) lines.push(`  the kernel's queue overflowed ${overflows} times; a full comparison followed each`)
  if (journalProblem !== null) lines.push(`  WARNING the journal cannot be written: ${journalProblem}`)
  for (const target of targets) lines.push(...describeTarget(target))
  return lines.join('\n')
}

function describeTarget(target: TargetStatus): string[] {
  const { name, state, owed, lagMs, reason, failures, lastError } = target
  const lines = [`  ${name}  ${state}  ${owed === 0 ? 'nothing owed' : `${owed} owed, oldest ${duration(lagMs)}`}`]
  if (reason !== null) lines.push(`    ${reason}`)
  for (const failure of failures) {
    const retry = failure.retryAtMs > Date.now() ? `, next try in ${duration(failure.retryAtMs - Date.now())}` : ''
    lines.push(`    ${failure.path}: ${failure.reason} (${failure.attempts} tries${retry})`)
  }
  if (lastError !== null && reason === null && failures.length === 0)
    lines.push(`    last error, since mended: ${lastError}`)
  return lines
}

function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 90_000) return `${Math.round(ms / 1000)} s`
  return ms < 5_400_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`
}
