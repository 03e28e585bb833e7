import { readFileSync, writeFileSync } from 'node:fs'
import { totalmem } from 'node:os'

type Limit = 'max_user_watches' | 'max_user_instances' | 'max_queued_events'

export type Notice = (line: string) => void

/** As many events as a burst of some seconds makes while the main thread is busy; the kernel's default is 16384. */
const QUEUED_EVENTS_MIN = 327_679
const INSTANCES_MAX = 65_536
const WATCH_BYTES = 1300 // pinned in the kernel for each watch
/** Half of the memory in watches: more would trade a blind spot for a machine that swaps. */
const WATCHES_MAX = Math.floor(totalmem() / 2 / WATCH_BYTES)
const WATCHES_STEP_MIN = 1 << 20

const file = (limit: Limit): string => `/proc/sys/fs/inotify/${limit}`

export function currentLimit(limit: Limit): number {
  try {
    return Number(readFileSync(file(limit), 'latin1'))
  } catch {
    return Number.NaN // no /proc/sys in this container: nothing to raise, and nothing compares below it
  }
}

/** Whether the queue of an instance made now is as long as it should be; without /proc/sys, nobody knows. */
export const queueIsLong = (): boolean => currentLimit('max_queued_events') >= QUEUED_EVENTS_MIN

/** Takes effect only for instances made afterwards. */
export const raiseQueuedEvents = (notice: Notice): boolean => raise('max_queued_events', QUEUED_EVENTS_MIN, notice)

export const raiseInstances = (notice: Notice): boolean =>
  raise('max_user_instances', Math.min(currentLimit('max_user_instances') * 2, INSTANCES_MAX), notice)

export const raiseWatches = (notice: Notice): boolean => raise('max_user_watches', moreWatches(), notice)

const moreWatches = (): number =>
  Math.min(Math.max(currentLimit('max_user_watches') * 2, WATCHES_STEP_MIN), WATCHES_MAX)

/** Only upwards. True when the limit is higher now. */
function raise(limit: Limit, wanted: number, notice: Notice): boolean {
  const before = currentLimit(limit)
  if (!(before < wanted)) return false
  try {
    writeFileSync(file(limit), String(wanted))
  } catch {
    return false // not root, or a read-only /proc/sys: the caller goes on with what there is
  }
  const after = currentLimit(limit)
  if (after > before) notice(`raised fs.inotify.${limit} from ${before} to ${after}`)
  return after > before
}

/** How an operator raises a limit, now and for good. */
export function mend(limit: Limit): string {
  const wanted = limit === 'max_user_watches' ? moreWatches() : currentLimit(limit) * 2 || QUEUED_EVENTS_MIN
  const setting = `fs.inotify.${limit}=${wanted}`
  return `sysctl -w ${setting} (and put that setting into /etc/sysctl.d/60-inotify.conf)`
}
