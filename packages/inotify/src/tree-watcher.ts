import { resolve } from 'node:path'
import type { BackendName, TreeStats, WatchedTree } from './backend.js'
import { type Choice, openTree } from './choice.js'
import { asError, WatchError } from './errors.js'
import type { Hint } from './hint.js'
import * as kernel from './kernel.js'
import { fromBytes, printable, type RawPath, ROOT } from './raw-path.js'

export interface TreeWatcherOptions {
  /** How to watch. 'auto', unless it is given: what suits the tree and is allowed; `choice` of the watcher says what and why. */
  backend?: 'auto' | BackendName
  /** Never watched, never reported. Called with the root-relative path. */
  exclude?: (path: RawPath, isDir: boolean) => boolean
  /**
   * All hints of one read of the kernel's queue, in kernel order, identical neighbours merged. Must not throw; what it throws
   * goes to onError, and its hints are lost.
   */
  onHints: (hints: Hint[]) => void
  /** A WatchError, or a failure of our own, after which the watcher is closed; or what onHints threw. */
  onError: (error: Error) => void
  /** One line for the operator: a limit that was raised, a directory that cannot be watched and how to mend it. */
  onNotice?: (line: string) => void
}

/** How soon a root that comes back is noticed. */
const ROOT_RETURN_POLL_MS = 1000
/** How soon it is noticed that the root's path leads elsewhere without an event: a parent renamed, a filesystem mounted over it. */
const ROOT_CHECK_MS = 5000

/** Watches the tree below a directory, whatever becomes of it, and says where to look. */
export class TreeWatcher {
  readonly #rootPath: RawPath
  readonly #options: TreeWatcherOptions
  /** undefined while there is no root. */
  #tree: WatchedTree | undefined
  /** Of the root that is, or was last, watched; undefined when that directory was deleted. */
  #lastIdentity: kernel.Identity | undefined
  #timer: NodeJS.Timeout | undefined
  #before: TreeStats = { watches: 0, events: 0, overflows: 0, blind: 0 }
  #lastNotice = ''
  #choice: Choice = { backend: 'inotify', reason: '' }
  #drainedAtMs = 0
  #isDelivering = false
  #closed = false

  /**
   * Resolves when every directory below root is watched. Hints may arrive before that. Rejects with WatchError when root is not
   * a directory, or when inotify cannot be used.
   */
  static async open(root: Buffer | string, options: TreeWatcherOptions): Promise<TreeWatcher> {
    const watcher = new TreeWatcher(absolute(root), options)
    const tree = watcher.#open()
    watcher.#lastIdentity = tree.identity
    try {
      await tree.complete
      watcher.#noteDrained()
    } catch (error) {
      await watcher.close()
      throw error
    }
    return watcher
  }

  private constructor(rootPath: RawPath, options: TreeWatcherOptions) {
    this.#rootPath = rootPath
    this.#options = options
  }

  /** How the tree is watched, and why so. It may change when the root comes back. */
  get choice(): Readonly<Choice> {
    return this.#choice
  }

  /** `blind`: directories that could not be watched and are polled instead. */
  get stats(): Readonly<TreeStats> {
    const now = this.#tree?.stats
    return {
      watches: now?.watches ?? 0,
      events: this.#before.events + (now?.events ?? 0),
      overflows: this.#before.overflows + (now?.overflows ?? 0),
      blind: now?.blind ?? 0,
    }
  }

  /**
   * When (Date.now, ms) the queue was last known to be drained: what happened before,
   * except in blind directories, was handed over. In onHints: before the hints that are being handed over.
   */
  get drainedAtMs(): number {
    this.#noteDrained()
    return this.#drainedAtMs
  }

  #noteDrained(): void {
    if (this.#tree !== undefined && !this.#isDelivering)
      this.#drainedAtMs = Math.max(this.#drainedAtMs, this.#tree.drainedAtMs)
  }

  /** Whether there are events that were not handed over yet: what they say may change what to make of the last hints. */
  get hasMore(): boolean {
    return this.#tree?.hasMore === true
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#leave(new WatchError('CLOSED', `${printable(this.#rootPath)}: the watcher was closed`))
  }

  #open(): WatchedTree {
    let opened: WatchedTree | undefined
    const { tree, choice } = openTree(this.#rootPath, this.#options.backend, {
      exclude: this.#options.exclude,
      onHints: (hints) => this.#deliver(hints),
      onError: (error) => this.#die(error),
      onRootDoubt: (evidence) => {
        if (opened !== undefined && this.#tree === opened) this.#doubt(evidence)
      },
      onNotice: (line) => this.#options.onNotice?.(line),
    })
    this.#tree = opened = tree
    this.#choice = choice
    if (this.#closed)
      void this.close() // onNotice did
    else this.#checkLater()
    return tree
  }

  async #leave(reason: Error): Promise<void> {
    const tree = this.#tree
    if (tree === undefined) return
    this.#tree = undefined
    const { events, overflows } = tree.stats
    this.#before.events += events
    this.#before.overflows += overflows
    await tree.close(reason)
  }

  #deliver(hints: Hint[]): void {
    if (this.#closed) return
    this.#isDelivering = true
    try {
      this.#options.onHints(hints)
    } catch (thrown) {
      this.#options.onError(asError(thrown))
    } finally {
      this.#isDelivering = false
    }
  }

  #die(error: Error): void {
    void this.close()
    this.#options.onError(error)
  }

  // --- the root

  #checkLater(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#noteDrained() // when events are lost, it is to be known since when
      this.#doubt('moved')
      if (this.#tree !== undefined) this.#checkLater()
    }, ROOT_CHECK_MS).unref()
  }

  #doubt(evidence: 'deleted' | 'moved' | 'unmounted'): void {
    const found = kernel.directoryIdentity(this.#rootPath)
    // A deleted directory's inode number is soon used again, often by the very next directory.
    if (evidence === 'deleted') this.#lastIdentity = undefined
    if (evidence === 'unmounted') this.#lost('unmounted')
    else if (typeof found === 'number') this.#lost('gone')
    else if (!this.#isLast(found)) this.#lost('replaced')
    else if (this.#tree?.isAstray === true) this.#lost('gone')
  }

  #isLast(found: kernel.Identity): boolean {
    return found.ino === this.#lastIdentity?.ino && found.dev === this.#lastIdentity.dev
  }

  #lost(state: 'gone' | 'unmounted' | 'replaced'): void {
    this.#tree?.flush()
    void this.#leave(new WatchError('ROOT_NOT_FOUND', `${printable(this.#rootPath)}: the directory is ${state}`))
    this.#deliver([{ kind: 'root', state }])
    if (this.#closed) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#lookForRoot(state), state === 'replaced' ? 0 : ROOT_RETURN_POLL_MS)
  }

  #lookForRoot(state: 'gone' | 'unmounted' | 'replaced'): void {
    let tree: WatchedTree
    try {
      tree = this.#open()
    } catch (error) {
      this.#notYet(asError(error), state)
      return
    }
    if (!this.#isLast(tree.identity) && state !== 'replaced') this.#deliver([{ kind: 'root', state: 'replaced' }])
    this.#lastIdentity = tree.identity
    this.#deliver([{ kind: 'root', state: 'back' }])
    tree.complete.then(
      () => {
        this.#lastNotice = ''
        this.#deliver([{ kind: 'tree', path: ROOT }])
      },
      (error) => {
        if (this.#tree !== tree) return // the root went again meanwhile, and said so
        clearTimeout(this.#timer)
        void this.#leave(error)
        this.#deliver([{ kind: 'root', state: 'gone' }])
        this.#notYet(error, state)
      },
    )
  }

  #notYet(error: Error, state: 'gone' | 'unmounted' | 'replaced'): void {
    if (!(error instanceof WatchError)) {
      this.#die(error)
      return
    }
    if (error.code !== 'ROOT_NOT_FOUND' && error.message !== this.#lastNotice) this.#options.onNotice?.(error.message)
    this.#lastNotice = error.message
    if (this.#closed) return
    this.#timer = setTimeout(() => this.#lookForRoot(state), ROOT_RETURN_POLL_MS)
  }
}

function absolute(root: Buffer | string): RawPath {
  const given = typeof root === 'string' ? fromBytes(Buffer.from(root)) : fromBytes(root)
  if (given.startsWith('/')) return resolve(given) as RawPath
  return resolve(fromBytes(Buffer.from(process.cwd())), given) as RawPath
}
