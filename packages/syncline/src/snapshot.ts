import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import {
  FileError,
  type Filter,
  isDirectory,
  join,
  linkGroupOf,
  parent,
  type RawPath,
  type SourceTree,
  type Stat,
  SystemError,
} from '@syncline/rsync'
import type { Notice } from './dirty.js'
import { HaltError } from './errors.js'
import type { RootGuard } from './guard.js'
import type { Journal } from './journal.js'
import type { LinkIndex } from './links.js'
import { MUCH_WORK, releaseSoon } from './memory.js'

const ROOT = '' as RawPath
const SLICE_MS = 8
const REST_MS = 30
const CHUNK = 100
const LOOK_MS = 5_000
/** Directories in which something goes on are recorded at least so often, and no pass takes more than 2 % of the time. */
const PASS_MS = 60_000
const PASS_SHARE = 50
const FINISH_MS = 2_000
const DRAIN_MS = 10
const NOTICED_MAX = 100_000
const SAMPLE = 64

/** What has happened in a directory since it was recorded. */
interface Noticed {
  /** The names that events were about; null when all of them were. */
  names: Set<RawPath> | null
  /** What is below it is to be recorded, too. */
  below: boolean
}

/** How the source differs from its snapshot. */
export interface Comparison {
  notices: Notice[]
  /** How many names the source has. */
  names: number
  /** Some files that are as they were. */
  sample: RawPath[]
}

/** What a snapshot needs to know of its mirror. */
export interface SnapshotContext {
  source: SourceTree
  filter: Filter
  links: LinkIndex
  guard: RootGuard
  journal: Journal
  /** When (Date.now) all events until then had been handed over. */
  drainedAtMs: () => number
  /** Whether nothing is owed to any target. */
  calm: () => boolean
  mark: (notice: Notice) => void
}

/**
 * What every name of the source was, directory by directory, kept beside the journal: what differs from it at a target
 * is owed in the journal. So after a restart a look at the source tells what to send, and no target has to list what it
 * has. A record is as good as the events before it: it is written when all of them are in the journal.
 */
export class Snapshot {
  readonly #stale = new Map<RawPath, Noticed>()
  #noticedCount = 0
  #watchedMs = 0
  #timer: NodeJS.Timeout | undefined
  #pass: Promise<void> | undefined
  #lastPassMs = 0
  #notBeforeMs = 0
  #closed = false
  #compared = false
  #passed: () => void = () => undefined
  readonly #firstPass = new Promise<void>((resolve) => {
    this.#passed = resolve
  })

  constructor(readonly context: SnapshotContext) {}

  /** From now on every directory is watched, and nothing has been listed yet. */
  watched(): void {
    this.#watchedMs = Date.now()
  }

  /** Something happened to this name, or, with `below`, anywhere below this directory. */
  noticed(path: RawPath, below: boolean): void {
    if (path !== ROOT) {
      const dir = parent(path)
      // What is delivered from now on is not in the record: should it go while nobody watches, its directory is listed.
      if (!this.#stale.has(dir)) this.context.journal.touch(dir, false)
      const one = this.#staleAt(dir)
      if (one.names !== null && this.#noticedCount < NOTICED_MAX && !one.names.has(path)) {
        one.names.add(path)
        this.#noticedCount++
      }
    }
    if (!below) return
    this.context.journal.touch(path, true)
    this.#stale.set(path, { names: null, below: true })
  }

  /** Begins to keep the snapshot: of everything, unless a comparison found most of it true. */
  begin(): void {
    if (this.#timer !== undefined || this.#closed) return
    if (!this.#compared) this.#staleAt(ROOT).below = true
    this.#timer = setInterval(() => this.#consider(), LOOK_MS).unref()
    this.#consider()
  }

  /** Resolves when everything has been recorded once since the start; never when that does not come to be. */
  get complete(): Promise<void> {
    return this.#compared ? Promise.resolve() : this.#firstPass
  }

  /** Records what is still to be recorded, as far as that takes no longer than a moment. */
  async finish(): Promise<void> {
    if (this.#timer === undefined) return
    clearInterval(this.#timer)
    await Promise.race([this.#pass?.then(() => this.#record(0)) ?? this.#record(0), sleep(FINISH_MS)])
    this.#closed = true
  }

  /** Compares the source with the snapshot. Null when there is none. Throws SystemError when the source is not there. */
  async compare(): Promise<Comparison | null> {
    const { source, filter, journal } = this.context
    const notices: Notice[] = []
    const sample: RawPath[] = []
    let names = 0
    let unchanged = 0
    const open: RawPath[] = [ROOT]
    const fail = ({ path }: FileError) => void notices.push({ path: path as RawPath })
    while (open.length > 0) {
      const chunk = open.splice(-CHUNK)
      const records = await journal.records(chunk)
      if (chunk[0] === ROOT && records[0] === undefined) return null
      source.enter()
      try {
        for (const [i, dir] of chunk.entries()) {
          let stats: Map<RawPath, Stat> | null
          try {
            stats = source.stats(dir, this.#keep, fail)
          } catch (error) {
            if (!(error instanceof FileError)) throw error
            notices.push({ path: dir, scope: 'tree', quick: true }) // until it can be listed
            continue
          }
          if (stats === null) continue
          names += stats.size
          this.#follow(stats)
          for (const [path, { mode }] of stats) if (isDirectory(mode)) open.push(path)
          const old = records[i]
          if (old?.equals(encodeRecord(stats))) {
            for (const [path, { mode }] of stats) {
              if (isDirectory(mode) || filter.hides(path, false)) continue
              // Each file is as likely to be in the sample as any other.
              const at = unchanged++ < SAMPLE ? sample.length : Math.floor(Math.random() * unchanged)
              if (at < SAMPLE) sample[at] = path
            }
          } else {
            this.#stale.set(dir, { names: null, below: false })
            if (old === undefined) notices.push({ path: dir, scope: 'level', quick: true })
            else notices.push(...differences(dir, decodeRecord(old), stats))
          }
        }
      } finally {
        source.leave()
      }
      await nextTurn()
    }
    for (const [dir, below] of await journal.touched()) {
      notices.push({ path: dir, scope: below ? 'tree' : 'level', quick: true })
      this.#stale.set(dir, { names: null, below })
    }
    if (names >= MUCH_WORK) releaseSoon()
    this.#compared = true
    return { notices, names, sample }
  }

  readonly #keep = (path: RawPath, directory: boolean) => !this.context.filter.excludes(path, directory)

  #follow(stats: ReadonlyMap<RawPath, Stat>): void {
    for (const [path, stat] of stats)
      if (stat.nlink > 1 && !isDirectory(stat.mode))
        this.context.links.note({ path, linkGroup: linkGroupOf(stat), nlink: stat.nlink })
  }

  #staleAt(dir: RawPath): Noticed {
    let noticed = this.#stale.get(dir)
    if (noticed === undefined) {
      noticed = { names: new Set(), below: false }
      this.#stale.set(dir, noticed)
    }
    return noticed
  }

  #consider(): void {
    const nowMs = Date.now()
    if (this.#pass !== undefined || this.#stale.size === 0 || nowMs < this.#notBeforeMs) return
    if (!this.context.calm() && nowMs - this.#lastPassMs < PASS_MS) return
    this.#lastPassMs = nowMs
    this.#pass = this.#record(REST_MS)
      .catch((error) => {
        // A source that is not there is others' business; what is not recorded is compared at the next start.
        if (!(error instanceof SystemError) && !(error instanceof HaltError)) throw error
      })
      .finally(() => {
        this.#pass = undefined
        this.#notBeforeMs = Date.now() + Math.min(10 * PASS_MS, (Date.now() - nowMs) * PASS_SHARE)
      })
  }

  /** Looks at the directories in which something has happened, and records what they are when no event is on its way. */
  async #record(restMs: number): Promise<void> {
    const open = [...this.#stale.keys()]
    let recorded = 0
    while (open.length > 0 && !this.#closed) {
      const chunk = open.splice(-CHUNK)
      recorded += chunk.length
      await this.#recordChunk(chunk, open)
      if (restMs > 0) await sleep(restMs)
    }
    if (recorded >= CHUNK) releaseSoon()
    if (!this.#closed) this.#passed()
  }

  async #recordChunk(chunk: readonly RawPath[], open: RawPath[]): Promise<void> {
    const { journal } = this.context
    const records = await journal.records(chunk)
    const looked: { dir: RawPath; noticed: Noticed; stats: Map<RawPath, Stat> | null }[] = []
    let sliceStart = performance.now()
    for (const dir of chunk) {
      const noticed = this.#stale.get(dir)
      if (noticed === undefined) continue
      this.#stale.delete(dir)
      this.#noticedCount -= noticed.names?.size ?? 0
      looked.push({ dir, noticed, stats: this.#look(dir) })
      if (performance.now() - sliceStart < SLICE_MS) continue
      await nextTurn()
      sliceStart = performance.now()
    }
    if (!(await this.#drained())) return
    for (const { dir, noticed, stats } of looked) {
      // Something happened since: what was seen may not be what the journal knows of.
      if (this.#stale.has(dir)) this.#merge(dir, noticed)
      else if (stats === null) journal.record(dir, undefined)
      else {
        const old = records[chunk.indexOf(dir)]
        const known = old === undefined ? undefined : decodeRecord(old)
        this.#markUnnoticed(known, noticed, stats)
        journal.record(dir, encodeRecord(stats))
        for (const [path, stat] of stats) {
          if (!isDirectory(stat.mode)) continue
          if (!noticed.below && known?.get(nameOf(path))?.startsWith(inodeOf(stat))) continue
          const child = this.#staleAt(path)
          child.below = true
          if (noticed.names === null) child.names = null
          open.push(path)
        }
        for (const name of known?.keys() ?? []) {
          const path = join(dir, name)
          const gone = !stats.has(path) && known!.get(name)!.endsWith(DIRECTORY)
          if (gone) await journal.forgetBelow(path)
        }
      }
    }
    await journal.flush().catch(() => undefined) // the journal tells of its own trouble
  }

  #look(dir: RawPath): Map<RawPath, Stat> | null {
    const { source, guard } = this.context
    guard.enter()
    try {
      let whole = true
      const stats = source.stats(dir, this.#keep, () => {
        whole = false
      })
      return whole ? stats : null
    } catch (error) {
      if (error instanceof FileError) return null
      throw error
    } finally {
      source.leave()
    }
  }

  #merge(dir: RawPath, earlier: Noticed): void {
    const now = this.#stale.get(dir)!
    now.below ||= earlier.below
    if (earlier.names === null) now.names = null
    else
      for (const name of earlier.names) {
        now.names?.add(name)
        this.#noticedCount++
      }
  }

  /** Not everything makes an event: a file that is written through a mapping of its pages, for one. */
  #markUnnoticed(
    known: ReadonlyMap<RawPath, string> | undefined,
    { names }: Noticed,
    stats: ReadonlyMap<RawPath, Stat>,
  ): void {
    if (names === null) return
    for (const [path, stat] of stats) {
      if (isDirectory(stat.mode) || names.has(path)) continue
      const before = known?.get(nameOf(path))
      const changed =
        known === undefined ? stat.ctime * 1000 + stat.ctimeNsec / 1e6 > this.#watchedMs : before !== stampOf(stat)
      if (changed) this.context.mark({ path })
    }
  }

  /** Waits until all that had happened by now has been handed over; false when it ended before. */
  async #drained(): Promise<boolean> {
    const sinceMs = Date.now()
    while (!this.#closed) {
      await sleep(DRAIN_MS)
      if (!this.#closed && this.context.drainedAtMs() > sinceMs) return true
    }
    return false
  }
}

function differences(dir: RawPath, known: Map<RawPath, string>, stats: ReadonlyMap<RawPath, Stat>): Notice[] {
  const notices: Notice[] = []
  for (const [path, stat] of stats) {
    const before = known.get(nameOf(path))
    known.delete(nameOf(path))
    if (before === stampOf(stat)) continue
    if (!isDirectory(stat.mode)) notices.push({ path })
    // Its content has a record of its own, or is new.
    else if (before?.startsWith(inodeOf(stat))) notices.push({ path, content: false })
    else notices.push({ path, scope: 'tree', quick: true })
  }
  for (const name of known.keys()) notices.push({ path: join(dir, name) })
  return notices
}

// --- records: [u16 length, name, stamp] for each name, in order

const STAMP_BYTES = 21
const DIRECTORY = '\x01'
const stamp = Buffer.alloc(STAMP_BYTES)

/** What says that a name is still the same, unchanged: inode, time of the last change, and whether it is a directory. */
function stampOf({ mode, inoHigh, inoLow, ctime, ctimeNsec }: Stat): string {
  stamp.writeUInt32LE(inoHigh, 0)
  stamp.writeUInt32LE(inoLow, 4)
  stamp.writeDoubleLE(ctime, 8)
  stamp.writeUInt32LE(ctimeNsec, 16)
  stamp[20] = isDirectory(mode) ? 1 : 0
  return stamp.toString('latin1')
}

const inodeOf = (stat: Stat) => stampOf(stat).slice(0, 8)
const nameOf = (path: RawPath) => path.slice(path.lastIndexOf('/') + 1) as RawPath

function encodeRecord(stats: ReadonlyMap<RawPath, Stat>): Buffer {
  const names = [...stats.keys()].sort()
  const parts: string[] = []
  for (const path of names) {
    const name = nameOf(path)
    parts.push(String.fromCharCode(name.length & 0xff, name.length >> 8), name, stampOf(stats.get(path)!))
  }
  return Buffer.from(parts.join(''), 'latin1')
}

/** By name; what is torn is left out, and so differs from whatever is there. */
function decodeRecord(record: Buffer): Map<RawPath, string> {
  const known = new Map<RawPath, string>()
  for (let at = 0; at + 2 <= record.length; ) {
    const end = at + 2 + record.readUInt16LE(at)
    if (end + STAMP_BYTES > record.length) break
    known.set(record.toString('latin1', at + 2, end) as RawPath, record.toString('latin1', end, end + STAMP_BYTES))
    at = end + STAMP_BYTES
  }
  return known
}
