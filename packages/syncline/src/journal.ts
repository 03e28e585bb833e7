import { setImmediate as nextTurn } from 'node:timers/promises'
import { fromBytes, type RawPath } from '@syncline/rsync'
import { ClassicLevel } from 'classic-level'
import { ConfigError } from './errors.js'

/** What is kept of a mark: enough to look again. */
export interface Kept {
  path: RawPath
  tree: boolean
}

interface Operation {
  target: string
  path: RawPath
  /** What to keep; undefined forgets it. */
  value: Buffer | undefined
}

const TREE = Buffer.from('t')
const ENTRY = Buffer.from('e')

/** What each target owes, on disk, so that a crash forgets nothing that had been noticed. */
export class Journal {
  #pending: Operation[] = []
  #writing: Promise<void> | undefined
  #failure: Error | undefined

  private constructor(
    readonly db: ClassicLevel<Buffer, Buffer>,
    /** It could not be read and was begun anew: what it held is only found by a full sync. */
    readonly lost: boolean,
  ) {}

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
    } catch (error) {
      if ((error as { cause?: { code?: string } }).cause?.code === 'LEVEL_LOCKED') {
        throw new ConfigError(
          `a mirror of this SRC to the same DEST is already running (its journal ${directory} is in use)`,
        )
      }
      await db.close().catch(() => undefined)
      const { cause } = error as { cause?: Error & { code?: string } }
      if (cause?.code !== 'LEVEL_CORRUPTION')
        throw new ConfigError(`cannot open the journal ${directory}: ${cause?.message ?? (error as Error).message}`)
      // A journal that cannot be read is worth less than none: a full sync finds what it held.
      await ClassicLevel.destroy(directory)
      await db.open()
      return new Journal(db, true)
    }
    return new Journal(db, false)
  }

  /** What `target` owed when the journal was last written. */
  async load(target: string): Promise<Kept[]> {
    const prefix = keyOf(target, '' as RawPath)
    const kept: Kept[] = []
    const end = Buffer.concat([prefix.subarray(0, -1), Buffer.from([1])])
    for await (const [key, value] of this.db.iterator({ gte: prefix, lt: end })) {
      kept.push({ path: fromBytes(key.subarray(prefix.length)), tree: value.equals(TREE) })
    }
    return kept
  }

  owed(target: string, path: RawPath, tree: boolean): void {
    this.#push({ target, path, value: tree ? TREE : ENTRY })
  }

  done(target: string, path: RawPath): void {
    this.#push({ target, path, value: undefined })
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
        await this.db.batch(this.#pending.map(encode))
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

function encode({ target, path, value }: Operation) {
  const key = keyOf(target, path)
  return value === undefined ? { type: 'del' as const, key } : { type: 'put' as const, key, value }
}

function keyOf(target: string, path: RawPath): Buffer {
  return Buffer.concat([Buffer.from(target), Buffer.from([0]), Buffer.from(path, 'latin1')])
}
