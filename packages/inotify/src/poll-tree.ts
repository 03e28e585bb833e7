import type { BigIntStats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import type { TreeEvents, TreeStats, WatchedTree } from './backend.js'
import { asError, WatchError } from './errors.js'
import { HintList } from './hint.js'
import * as kernel from './kernel.js'
import { fromBytes, join, printable, type RawPath, ROOT, toBytes } from './raw-path.js'
import { cannotOpenRoot } from './root.js'

/** Time between the end of a round and the next one, and at least so many times what the round took. */
const INTERVAL_MS = 5_000
const SHARE = 10
/** Of several watchers of one server each begins at another time: the interval is so much longer or shorter. */
const JITTER = 0.2
/** Names that are looked at between two pauses, and how much longer these are than the looking. */
const PIECE = 200
const PAUSE_SHARE = 2

/** What a name was when it was looked at last: which inode, and all that changes when somebody changes it. */
type Stamp = string

interface Known {
  stamp: Stamp
  isDir: boolean
  /** It changed so lately that on some filesystems the next change would have the same times. */
  fresh: boolean
}

/**
 * A tree on a filesystem that tells of no events: it is looked at over and over again, slowly. Every directory is listed
 * each time: on such filesystems its time is no proof that nothing changed in it.
 */
export class PollTree implements WatchedTree {
  readonly identity: kernel.Identity
  readonly complete: Promise<void>
  /** What is in each directory. */
  readonly #known = new Map<RawPath, Map<RawPath, Known>>()
  readonly #hints = new HintList()
  readonly #root: Buffer
  #changes = 0
  #timer: NodeJS.Timeout | undefined
  #wake: (() => void) | undefined
  #roundBeganMs = 0
  #drainedAtMs = 0
  #looked = 0
  #pieceBeganMs = 0
  #rootStamp: Stamp = ''
  /** Directories that could not be listed, in the last round and in this one; and why others could not, of which the operator was told. */
  #blind = 0
  #unlisted = 0
  readonly #told = new Set<string>()
  #closed = false
  #closedBecause: Error | undefined

  /** Throws WatchError. `intervalMs` is for tests. */
  constructor(
    rootPath: RawPath,
    readonly events: TreeEvents,
    readonly intervalMs = INTERVAL_MS,
  ) {
    const identity = kernel.withDirectory(rootPath, kernel.identityOf)
    if (typeof identity === 'number') throw cannotOpenRoot(rootPath, identity)
    this.identity = identity
    this.#root = toBytes(rootPath)
    this.complete = this.#round(true)
    this.complete.then(
      () => void this.#goOn(),
      () => undefined,
    )
  }

  get stats(): TreeStats {
    return { watches: this.#known.size, events: this.#changes, overflows: 0, blind: this.#blind }
  }

  /** Nobody knows what is still to be found. */
  get hasMore(): boolean {
    return false
  }

  get drainedAtMs(): number {
    return this.#drainedAtMs
  }

  flush(): void {
    const hints = this.#hints.take()
    this.#changes += hints.length
    if (hints.length > 0 && !this.#closed) this.events.onHints(hints)
  }

  async close(reason: Error): Promise<void> {
    this.#closed = true
    this.#closedBecause ??= reason
    clearTimeout(this.#timer)
    this.#wake?.()
  }

  async #goOn(): Promise<void> {
    try {
      while (!this.#closed) {
        const tookMs = performance.now() - this.#roundBeganMs
        await this.#pause(Math.max(this.intervalMs, SHARE * tookMs) * (1 + JITTER * (2 * Math.random() - 1)))
        if (!this.#closed) await this.#round(false)
      }
    } catch (error) {
      if (!this.#closed) this.events.onError(asError(error))
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
      this.#timer = setTimeout(resolve, ms)
    })
  }

  /** Looks at everything once. `first`: what is there is what there was. */
  async #round(first: boolean): Promise<void> {
    this.#roundBeganMs = this.#pieceBeganMs = performance.now()
    const beganAtMs = Date.now()
    if (!first) this.events.onRootDoubt('moved')
    this.#unlisted = 0
    const seen = new Set<RawPath>()
    const open: RawPath[] = [ROOT]
    for (let path = open.pop(); path !== undefined && !this.#closed; path = open.pop()) {
      const found = await this.#list(path)
      if (this.#closed) break
      // What cannot be listed now is as it was.
      const content = found ?? this.#known.get(path)
      if (content === undefined && path === ROOT) throw cannotOpenRoot(fromBytes(this.#root), -kernel.ERRNO.ENOENT)
      if (content === undefined) continue
      seen.add(path)
      if (found !== undefined && !first) this.#compare(path, this.#known.get(path), found)
      this.#known.set(path, content)
      for (const [name, { isDir }] of content) if (isDir) open.push(join(path, name))
      this.flush()
    }
    if (this.#closed && first) throw this.#closedBecause
    if (this.#closed) return
    for (const path of this.#known.keys()) if (!seen.has(path)) this.#known.delete(path)
    this.#blind = this.#unlisted
    if (this.#blind === 0) this.#told.clear()
    this.#drainedAtMs = beganAtMs
  }

  #compare(path: RawPath, before: Map<RawPath, Known> | undefined, now: Map<RawPath, Known>): void {
    // What has come since a 'tree' has told of it, or since it could not be listed, is in nobody's list.
    if (before === undefined) return void this.#hints.push({ kind: 'tree', path })
    for (const [name, known] of now) {
      const old = before.get(name)
      const at = join(path, name)
      if (old?.stamp === known.stamp && (known.isDir || !old.fresh)) continue
      if (old !== undefined && old.isDir !== known.isDir)
        this.#hints.push({ kind: 'entry', path: at, isDir: old.isDir, gone: true })
      if (!known.isDir) this.#hints.push({ kind: 'entry', path: at, isDir: false })
      else if (old?.isDir === true && inodeOf(old.stamp) === inodeOf(known.stamp))
        this.#hints.push({ kind: 'entry', path: at, isDir: true, attribOnly: true })
      else this.#hints.push({ kind: 'tree', path: at })
    }
    for (const [name, { isDir }] of before) {
      if (now.has(name)) continue
      this.#hints.push({ kind: 'entry', path: join(path, name), isDir, gone: true })
    }
  }

  /** Undefined when it cannot be listed, or is no directory any more. */
  async #list(path: RawPath): Promise<Map<RawPath, Known> | undefined> {
    let names: Buffer[]
    try {
      if (path === ROOT) this.#lookAtRoot(await lstat(Buffer.concat([this.#root, Buffer.from('/.')]), { bigint: true }))
      names = await readdir(this.#absolute(path), { encoding: 'buffer' })
      if (path === ROOT && !this.#isRoot()) return undefined
    } catch (thrown) {
      if (!isOrdinary(thrown)) this.#cannotList(path, codeOf(thrown))
      return undefined
    }
    const found = new Map<RawPath, Known>()
    for (const bytes of names) {
      const name = fromBytes(bytes)
      const at = join(path, name)
      if (this.events.exclude?.(at, true) && this.events.exclude(at, false)) continue
      try {
        const stats = await lstat(this.#absolute(at), { bigint: true })
        const isDir = stats.isDirectory()
        if (!this.events.exclude?.(at, isDir)) found.set(name, { stamp: stampOf(stats), isDir, fresh: isFresh(stats) })
      } catch (thrown) {
        // What went meanwhile is not there. What cannot be looked at now is as it was.
        const before = isOrdinary(thrown) ? undefined : this.#known.get(path)?.get(name)
        if (before !== undefined) found.set(name, before)
      }
      if (++this.#looked % PIECE === 0) await this.#breathe()
      if (this.#closed) return undefined
    }
    return found
  }

  /** Throws WatchError when it is the root, and nothing is known of it. */
  #cannotList(path: RawPath, code: string): void {
    const problem = `cannot list ${printable(fromBytes(this.#absolute(path)))}: ${code}`
    if (path === ROOT && this.#known.size === 0)
      throw new WatchError('ROOT_UNREADABLE', `${problem}. To mend it: grant read and search permission on it`)
    this.#unlisted++
    if (this.#told.has(code)) return
    this.#told.add(code)
    const mending = 'To mend it: make it readable, or exclude it'
    this.events.onNotice(
      `${problem}; of what changes in it, and in others that fail alike, nothing is told. ${mending}`,
    )
  }

  #lookAtRoot(stats: BigIntStats): void {
    const stamp = stampOf(stats)
    if (this.#rootStamp !== '' && stamp !== this.#rootStamp)
      this.#hints.push({ kind: 'entry', path: ROOT, isDir: true, attribOnly: true })
    this.#rootStamp = stamp
  }

  /** Whether what was listed is the root, and not what shows where it was mounted. */
  #isRoot(): boolean {
    const found = kernel.directoryIdentity(fromBytes(this.#root))
    return typeof found !== 'number' && found.ino === this.identity.ino && found.dev === this.identity.dev
  }

  async #breathe(): Promise<void> {
    const tookMs = performance.now() - this.#pieceBeganMs
    // The first time there is somebody who waits for the end.
    if (this.#drainedAtMs > 0) await this.#pause(PAUSE_SHARE * tookMs)
    this.#pieceBeganMs = performance.now()
  }

  #absolute(path: RawPath): Buffer {
    return path === ROOT ? this.#root : Buffer.concat([this.#root, Buffer.from('/'), toBytes(path)])
  }
}

const stampOf = ({ dev, ino, mode, size, uid, gid, mtimeNs, ctimeNs }: BigIntStats): Stamp =>
  `${dev}:${ino} ${mode} ${size} ${uid} ${gid} ${mtimeNs} ${ctimeNs}`

/** It is not there, or not a directory any more. */
const isOrdinary = (thrown: unknown): boolean => ['ENOENT', 'ENOTDIR', 'ESTALE'].includes(codeOf(thrown))

const codeOf = (thrown: unknown): string => (thrown as NodeJS.ErrnoException).code ?? String(thrown)

/** Times of whole seconds, or of two, */
const FRESH_MS = 3_000
/** and a clock that is not quite ours. Times far in the future are no proof of anything. */
const AHEAD_MS = 60_000

function isFresh({ mtimeMs, ctimeMs }: BigIntStats): boolean {
  const ages = [mtimeMs, ctimeMs].map((timeMs) => Date.now() - Number(timeMs))
  return ages.some((ageMs) => ageMs < FRESH_MS && ageMs > -AHEAD_MS)
}

const inodeOf = (stamp: Stamp) => stamp.slice(0, stamp.indexOf(' '))
