import { setImmediate as nextTurn } from 'node:timers/promises'
import { fromBytes, type RawPath } from '@syncline/rsync'
import { ClassicLevel } from 'classic-level'
import { ConfigError } from './errors.js'

/** How far to look again: at the name, or at all below it, to compare it or to send it whole. */
export type Extent = 'entry' | 'tree' | 'whole'

/** What is kept of a mark: enough to look again. */
export interface Kept {
  path: RawPath
  extent: Extent
}

interface Operation {
  key: Buffer
  /** What to keep; undefined forgets it. */
  value: Buffer | undefined
}

const VALUE: Record<Extent, Buffer> = { entry: Buffer.from('e'), tree: Buffer.from('t'), whole: Buffer.from('w') }
const extentOf = (value: Buffer): Extent =>
  value.equals(VALUE.tree) ? 'tree' : value.equals(VALUE.whole) ? 'whole' : 'entry'

/** What each target owes, on disk, so that a crash forgets nothing that had been noticed. */
export class Journal {
  #pending: Operation[] = []
  #writing: Promise<void> | undefined
  #failure: Error | undefined
  #sequence: number

  private constructor(
    readonly db: ClassicLevel<Buffer, Buffer>,
    /** It could not be read and was begun anew: what it held is only found by a full sync. */
    readonly lost: boolean,
    sequence: number,
  ) {
    this.#sequence = sequence
  }

  /** Opens or creates the journal below `directory`. One process at a time. Throws ConfigError when another has it. */
  static async open(directory: string): Promise<Journal> {
    const db = new ClassicLevel<Buffer, Buffer>(directory, {
      keyEncoding: 'buffer',
      valueEncoding: 'buffer',
      writeBufferSize: 1 << 20,
      cacheSize: 1 << 18,
    })
    try {
      await db.open()
      return new Journal(db, false, await lastSequence(db))
    } catch (error) {
      const { cause = error } = error as { cause?: unknown }
      const { code, message } = cause as Error & { code?: string }
      if (code === 'LEVEL_LOCKED') {
        throw new ConfigError(
          `a mirror of this SRC to the same DEST is already running (its journal ${directory} is in use)`,
        )
      }
      await db.close().catch(() => undefined)
      const damaged = code === 'LEVEL_CORRUPTION' || message.includes('No such file')
      if (!damaged) throw new ConfigError(`cannot open the journal ${directory}: ${message}`)
      // A journal that cannot be read is worth less than none: a full sync finds what it held.
      await ClassicLevel.destroy(directory)
      await db.open()
      return new Journal(db, true, 0)
    }
  }

  /** What `target` owed when the journal was last written. */
  async load(target: string): Promise<Kept[]> {
    const prefix = keyOf(target, '' as RawPath)
    const kept: Kept[] = []
    const end = Buffer.concat([prefix.subarray(0, -1), Buffer.from([1])])
    for await (const [key, value] of this.db.iterator({ gte: prefix, lt: end })) {
      kept.push({ path: fromBytes(key.subarray(prefix.length)), extent: extentOf(value) })
    }
    return kept
  }

  owed(target: string, path: RawPath, extent: Extent): void {
    this.#push({ key: keyOf(target, path), value: VALUE[extent] })
  }

  done(target: string, path: RawPath): void {
    this.#push({ key: keyOf(target, path), value: undefined })
  }

  /** Everything was compared: nothing is owed but what `owes` says. */
  async prune(target: string, owes: (path: RawPath) => boolean): Promise<void> {
    try {
      for (const { path } of await this.load(target)) if (!owes(path)) this.done(target, path)
    } catch (error) {
      this.#failure ??= error as Error // what is left is compared once more at the next start
    }
  }

  // --- the snapshot of the source, see there

  /** What was recorded of directories. */
  async records(directories: readonly RawPath[]): Promise<(Buffer | undefined)[]> {
    return this.db.getMany(directories.map(recordKey))
  }

  /** Records a directory, or forgets it; on the disk not before what was said until now. It is touched no more. */
  record(directory: RawPath, value: Buffer | undefined): void {
    this.#push({ key: recordKey(directory), value })
    this.#push({ key: touchedKey(directory), value: undefined })
  }

  /** Something happened in a directory since it was recorded, or anywhere below it. */
  touch(directory: RawPath, below: boolean): void {
    this.#push({ key: touchedKey(directory), value: VALUE[below ? 'tree' : 'entry'] })
  }

  /** What was touched, and whether below, too. */
  async touched(): Promise<Map<RawPath, boolean>> {
    const found = new Map<RawPath, boolean>()
    for await (const [key, value] of this.db.iterator({ gte: Buffer.from('\0t'), lt: Buffer.from('\0u') }))
      found.set(fromBytes(key.subarray(2)), value.equals(VALUE.tree))
    return found
  }

  /** Why a target is halted: that outlives us. */
  async halted(target: string): Promise<string | undefined> {
    return (await this.db.get(haltedKey(target)))?.toString()
  }

  setHalted(target: string, reason: string | undefined): void {
    this.#push({ key: haltedKey(target), value: reason === undefined ? undefined : Buffer.from(reason) })
  }

  /** Forgets what was recorded of a directory and all below it. */
  async forgetBelow(directory: RawPath): Promise<void> {
    this.record(directory, undefined)
    const range = { gt: recordKey(`${directory}/` as RawPath), lt: recordKey(`${directory}0` as RawPath) } // 0 follows /
    for await (const key of this.db.keys(range)) this.#push({ key, value: undefined })
  }

  /** What `target` was when a full sync of it ended: the same now means that it owes nothing but what is owed here. */
  async synced(target: string): Promise<string | undefined> {
    return (await this.db.get(syncedKey(target)))?.toString()
  }

  setSynced(target: string, what: string | undefined): void {
    this.#push({ key: syncedKey(target), value: what === undefined ? undefined : Buffer.from(what) })
  }

  /** What the directory of a local target was when it was written to last. */
  async place(target: string): Promise<string | undefined> {
    return (await this.db.get(placeKey(target)))?.toString('latin1')
  }

  setPlace(target: string, what: string | undefined): void {
    this.#push({ key: placeKey(target), value: what === undefined ? undefined : Buffer.from(what, 'latin1') })
  }

  /** Resolves when all that was said so far is written. Throws when the disk refuses. */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
    if (this.#failure !== undefined) throw this.#failure
  }

  async close(): Promise<void> {
    await this.flush().finally(() => this.db.close())
  }

  /**
   * Operations gather until the end of this turn of the event loop, and while a write is under way: sending goes
   * first, and what was noticed in the same turn goes in one write.
   */
  #push(operation: Operation): void {
    this.#pending.push(operation)
    this.#writing ??= this.#write()
  }

  async #write(): Promise<void> {
    try {
      await nextTurn()
      while (this.#pending.length > 0) {
        const { length } = this.#pending
        await this.db.batch([
          { type: 'del', key: sequenceKey(this.#sequence) },
          { type: 'put', key: sequenceKey(this.#sequence + 1), value: VALUE.entry },
          ...this.#pending.map(encode),
        ])
        this.#sequence++
        this.#pending.splice(0, length)
      }
      this.#failure = undefined
    } catch (error) {
      this.#failure = error as Error
    } finally {
      this.#writing = undefined
    }
  }

  /** Why the journal could not be written the last time, or null. */
  get problem(): string | null {
    return this.#failure?.message ?? null
  }
}

function encode({ key, value }: Operation) {
  return value === undefined ? { type: 'del' as const, key } : { type: 'put' as const, key, value }
}

function keyOf(target: string, path: RawPath): Buffer {
  return Buffer.concat([Buffer.from(target), Buffer.from([0]), Buffer.from(path, 'latin1')])
}

// No target has an empty name.
const recordKey = (directory: RawPath) => Buffer.concat([Buffer.from('\0d'), Buffer.from(directory, 'latin1')])
const touchedKey = (directory: RawPath) => Buffer.concat([Buffer.from('\0t'), Buffer.from(directory, 'latin1')])
const haltedKey = (target: string) => Buffer.from(`\0h${target}`)
const placeKey = (target: string) => Buffer.from(`\0p${target}`)
const syncedKey = (target: string) => Buffer.from(`\0s${target}`)

/**
 * Each write takes away the number of the one before and leaves its own. A torn last write takes nothing with it that was
 * before; but where a write in the middle is lost, which LevelDB passes over in silence, two numbers are left.
 */
const SEQUENCE = Buffer.from('\0n')
const sequenceKey = (sequence: number) => Buffer.concat([SEQUENCE, Buffer.from(`${sequence}`)])

/** Reads everything once. Throws an error with the code LEVEL_CORRUPTION when something is missing or unreadable. */
async function lastSequence(db: ClassicLevel<Buffer, Buffer>): Promise<number> {
  const numbers: number[] = []
  for await (const [key] of db.iterator({ fillCache: false })) {
    if (key.subarray(0, SEQUENCE.length).equals(SEQUENCE)) numbers.push(Number(key.subarray(SEQUENCE.length)))
  }
  if (numbers.length > 1) throw Object.assign(new Error('a write is missing'), { code: 'LEVEL_CORRUPTION' })
  return numbers[0] ?? 0
}
