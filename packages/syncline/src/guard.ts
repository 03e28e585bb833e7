import { type Dir, opendirSync } from 'node:fs'
import { type Filter, isGone, printable, type RawPath, type SourceTree, type Stat, toBytes } from '@syncline/rsync'
import { HaltError } from './errors.js'

/** Watches over the source's root: a backup is never wiped because a mount was missing. */
export class RootGuard {
  #identity = ''

  /** Throws when the source is not a directory that can be opened. */
  constructor(
    readonly source: SourceTree,
    readonly filter: Filter,
  ) {
    this.accept()
  }

  /** Enters the source. Throws HaltError when its path does not lead to the directory that is watched. */
  enter(): void {
    const name = printable(this.source.path)
    let now: string
    try {
      now = this.#enter()
    } catch (error) {
      if (!isGone(error)) throw error // such as too many open files: that passes
      throw new HaltError(
        `the source ${name} is gone (${(error as Error).message}): the target keeps what it has. Put the source back, then run "syncline resume"`,
      )
    }
    if (now === this.#identity) return
    this.source.leave()
    throw new HaltError(
      `the source ${name} is not the directory it was (replaced, unmounted, or another filesystem is mounted there): the target keeps what it has. Make sure that it is right, then run "syncline resume"`,
    )
  }

  /** Somebody has looked at what is at the root's path now, and it is right. Throws when there is nothing. */
  accept(): void {
    this.#identity = this.#enter()
    this.source.leave()
  }

  /** Halts nothing, only tells: throws HaltError as `enter` does. */
  checkPresent(): void {
    this.enter()
    this.source.leave()
  }

  /** What was entered, when the path still leads there. */
  #enter(): string {
    this.source.enter()
    try {
      const entered = identity(this.source.rootStat())
      return identity(this.source.pathStat()) === entered ? entered : 'another'
    } catch (error) {
      this.source.leave()
      throw error
    }
  }

  /** Whether nothing is left of the source but what the filter hides. */
  isEmpty(): boolean {
    let dir: Dir
    try {
      dir = opendirSync(toBytes(this.source.path), { encoding: 'latin1' as BufferEncoding, bufferSize: 8 })
    } catch {
      return true
    }
    try {
      for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) {
        if (!this.filter.excludes(entry.name as RawPath, entry.isDirectory())) return false
      }
      return true
    } finally {
      dir.closeSync()
    }
  }
}

const identity = ({ dev, inoHigh, inoLow }: Stat) => `${dev}:${inoHigh}:${inoLow}`
