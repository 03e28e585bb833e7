import { WatchError } from '../errors.js'
import * as kernel from '../kernel.js'
import { UsageError } from './getopt.js'
import { WatchList, type WatchListOptions } from './watch-list.js'

/** What is said when a path cannot be watched, in the words that scripts look for. */
export function cannotWatch(what: string, path: string, errno: number): string {
  if (errno !== -kernel.ERRNO.ENOSPC) return `${what} ${path}: ${kernel.strerror(errno)}`
  return [
    `Failed to watch ${path}; upper limit on inotify watches reached!`,
    "Please increase the amount of inotify watches allowed per user via `/proc/sys/fs/inotify/max_user_watches'.",
  ].join('\n')
}

/** Throws UsageError when there are no inotify instances left. */
export function openWatchList(options: WatchListOptions): WatchList {
  try {
    return new WatchList(options)
  } catch (error) {
    if (!(error instanceof WatchError)) throw error
    if (error.code !== 'INSTANCE_LIMIT') throw new UsageError(error.message)
    const said = "Couldn't initialize inotify: Too many open files"
    throw new UsageError(`${said}\nTry increasing the value of /proc/sys/fs/inotify/max_user_instances`)
  }
}
