import { readFileSync, writeFileSync } from 'node:fs'
import { totalmem } from 'node:os'

type Limit = 'max_user_watches' | 'max_user_instances' | 'max_queued_events'

export type Notice = (line: string) => void

/** What a limit is raised to when it is lower. */
const LEAST: Readonly<Record<Limit, number>> = {
  max_user_watches: 1 << 20,
  max_user_instances: 256,
  /** As many as a burst of some seconds makes while the main thread is busy; the kernel's default is 16384. */
  max_queued_events: 327_679,
}
const INSTANCES_MAX = 65_536
const WATCH_BYTES = 1300 // pinned in the kernel for each watch
/** Half of the memory in watches: more would trade a blind spot for a machine that swaps. */
const WATCHES_MAX = Math.floor(totalmem() / 2 / WATCH_BYTES)

/** A user namespace has these limits of its own, beside the machine's; in the first one they are the same numbers. */
const OF_NAMESPACE: Partial<Record<Limit, string>> = {
  max_user_watches: 'user.max_inotify_watches',
  max_user_instances: 'user.max_inotify_instances',
}

/** The sysctl that limits: of the machine, or where that is lower, of this user namespace. */
export function settingOf(limit: Limit): string {
  const machine = `fs.inotify.${limit}`
  const own = OF_NAMESPACE[limit]
  return own !== undefined && read(own) < read(machine) ? own : machine
}

const file = (setting: string): string => `/proc/sys/${setting.replaceAll('.', '/')}`

function read(setting: string): number {
  try {
    return Number(readFileSync(file(setting), 'latin1'))
  } catch {
    return Number.NaN // no /proc/sys in this container: nothing to raise, and nothing compares below it
  }
}

export const currentLimit = (limit: Limit): number => read(settingOf(limit))

/** Whether the queue of an instance made now is as long as it should be; without /proc/sys, nobody knows. */
export const queueIsLong = (): boolean => currentLimit('max_queued_events') >= LEAST.max_queued_events

/** Takes effect only for instances made afterwards. */
export const raiseQueuedEvents = (notice: Notice): boolean =>
  raise('max_queued_events', LEAST.max_queued_events, notice)

export const raiseInstances = (notice: Notice): boolean =>
  raise(
    'max_user_instances',
    Math.min(Math.max(currentLimit('max_user_instances') * 2, LEAST.max_user_instances), INSTANCES_MAX),
    notice,
  )

export const raiseWatches = (notice: Notice): boolean => raise('max_user_watches', moreWatches(), notice)

const moreWatches = (): number =>
  Math.min(Math.max(currentLimit('max_user_watches') * 2, LEAST.max_user_watches), WATCHES_MAX)

/** Only upwards. True when the limit is higher now. */
function raise(limit: Limit, wanted: number, notice: Notice): boolean {
  const setting = settingOf(limit)
  const before = read(setting)
  if (!(before < wanted)) return false
  try {
    writeFileSync(file(setting), String(wanted))
  } catch {
    return false // not root, or a read-only /proc/sys: the caller goes on with what there is
  }
  const after = read(setting)
  if (after > before) notice(`raised ${setting} from ${before} to ${after}`)
  return after > before
}

/** How an operator raises a limit, now and for good. */
export function mend(limit: Limit): string {
  const wanted = Math.max(currentLimit(limit) * 2 || 0, LEAST[limit])
  return `sysctl -w ${settingOf(limit)}=${wanted} (and put that setting into /etc/sysctl.d/60-inotify.conf)`
}
