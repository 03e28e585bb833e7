import { opendirSync, type Dir } from 'node:fs'
import { type Filter, printable, type RawPath, type SourceTree, toBytes } from '@syncline/rsync'
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

  /** Throws HaltError when the root's path does not lead to the directory that is watched. */
  checkPresent(): void {
    const name = printable(this.source.path)
    let now: string
    try {
      now = this.#look()
    } catch (error) {
      throw new HaltError(`the source ${name} is gone (${(error as Error).message}): the target keeps what it has. Put the source back, then run "syncline resume"`)
    }
    if (now === this.#identity) return
    throw new HaltError(`the source ${name} is not the directory it was (replaced, unmounted, or another filesystem is mounted there): the target keeps what it has. Make sure that it is right, then run "syncline resume"`)
  }

  /** Somebody has looked at what is at the root's path now, and it is right. Throws when there is nothing. */
  accept(): void {
    this.#identity = this.#look()
  }

  #look(): string {
    this.source.enter()
    try {
      const { dev, ino } = this.source.rootStat()
      return `${dev}:${ino}`
    } finally {
      this.source.leave()
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
