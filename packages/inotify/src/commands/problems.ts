import type { WatchError } from '../errors.js'
import * as kernel from '../kernel.js'

/** What is said when a path cannot be watched, in the words that scripts look for. */
export function cannotWatch(what: string, path: string, errno: number): string {
  if (errno !== -kernel.ERRNO.ENOSPC) return `${what} ${path}: ${kernel.strerror(errno)}`
  return [
    `Failed to watch ${path}; upper limit on inotify watches reached!`,
    "Please increase the amount of inotify watches allowed per user via `/proc/sys/fs/inotify/max_user_watches'.",
  ].join('\n')
}

/** What is said when there are no inotify instances left. */
export function cannotInit(error: WatchError): string {
  if (error.code !== 'INSTANCE_LIMIT') return error.message
  const said = "Couldn't initialize inotify: Too many open files"
  return `${said}\nTry increasing the value of /proc/sys/fs/inotify/max_user_instances`
}
