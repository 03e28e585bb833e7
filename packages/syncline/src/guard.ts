import { opendirSync, type Dir } from 'node:fs'
import { type Filter, printable, type RawPath, type SourceTree, type Stat, statPath, toBytes } from '@syncline/rsync'
import { HaltError } from './errors.js'

/** Watches over the source's root: a backup is never wiped because a mount was missing. */
export class RootGuard {
  #identity: string

  constructor(
    readonly root: RawPath,
    readonly source: SourceTree,
    readonly filter: Filter,
  ) {
    this.#identity = identity(source.rootStat())
  }

  /** Throws HaltError when the root's path no longer leads to the directory that is watched. */
  checkPresent(): void {
    let stat: Stat
    try {
      stat = statPath(this.root)
    } catch (error) {
      throw new HaltError(`the source ${printable(this.root)} is gone (${(error as Error).message}): put it back, then run "syncline resume"`)
    }
    if (identity(stat) === this.#identity) return
    throw new HaltError(`the source ${printable(this.root)} is not the directory it was (replaced, or another filesystem is mounted there): make sure that it is right, then run "syncline resume"`)
  }

  /** Somebody has looked at what is at the root's path now, and it is right. Throws when there is nothing. */
  accept(): void {
    this.source.reopen(this.root)
    this.#identity = identity(this.source.rootStat())
  }

  /** Whether nothing is left of the source but what the filter hides. */
  isEmpty(): boolean {
    let dir: Dir
    try {
      dir = opendirSync(toBytes(this.root), { encoding: 'latin1' as BufferEncoding, bufferSize: 8 })
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

const identity = (stat: Stat) => `${stat.dev}:${stat.ino}`
