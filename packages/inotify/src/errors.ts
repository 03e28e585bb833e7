export type WatchErrorCode =
  | 'ROOT_NOT_FOUND'
  | 'ROOT_NOT_A_DIRECTORY'
  | 'ROOT_UNREADABLE'
  | 'WATCH_LIMIT' // not even the root could be watched
  | 'INSTANCE_LIMIT'
  | 'NO_INOTIFY'
  | 'CANNOT_WATCH'
  | 'NO_FANOTIFY' // not here: the message says why
  | 'QUEUE_BROKEN' // the kernel's queue could not be read, or held nonsense
  | 'CLOSED'

/** The tree cannot be watched. `code` is stable; the message says what, where and how to mend it. */
export class WatchError extends Error {
  override readonly name = 'WatchError'
  constructor(
    readonly code: WatchErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** Anything thrown, as an Error. */
export const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))
