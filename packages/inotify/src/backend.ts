import type { Hint } from './hint.js'
import type { Identity } from './kernel.js'
import type { Notice } from './limits.js'
import type { RawPath } from './raw-path.js'

export type BackendName = 'inotify' | 'fanotify' | 'poll'

export interface TreeStats {
  /** What the kernel watches for us: directories with inotify, filesystems with fanotify. With polling: directories that are looked at. */
  watches: number
  events: number
  overflows: number
  /** Directories that could not be watched, and are looked at from time to time instead. */
  blind: number
}

export interface TreeEvents {
  readonly exclude: ((path: RawPath, isDir: boolean) => boolean) | undefined
  onHints(hints: Hint[]): void
  /** Our own failure, or the queue's. The tree is of no use any more. */
  onError(error: Error): void
  /** The watched directory may no longer be what the root's path leads to. */
  onRootDoubt(evidence: 'deleted' | 'moved' | 'unmounted'): void
  onNotice: Notice
}

/** One life of a watched tree, from the first watch on its root until the root goes. */
export interface WatchedTree {
  /** Of the root. */
  readonly identity: Identity
  readonly stats: TreeStats
  /** Resolves when every directory is watched. */
  readonly complete: Promise<void>
  /** Whether events wait to be read. */
  readonly hasMore: boolean
  /** When (Date.now) everything that had happened by then had been handed over. */
  readonly drainedAtMs: number
  /** Whether the directory is not where this backend looks for it, though the root's path leads there. */
  readonly isAstray?: boolean
  /** Hands over what was noticed so far. */
  flush(): void
  /** `reason` is what whoever still waits for `complete` hears. */
  close(reason: Error): Promise<void>
}
