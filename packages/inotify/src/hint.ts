import type { RawPath } from './raw-path.js'

/** Where to look. What is there, the disk tells. */
export type Hint =
  /**
   * This name was created complete (a symbolic link, a further hard link, a device, a fifo, a socket), deleted, closed after
   * writing, moved here or away, or, with `attribOnly`, only its attributes changed. `movedFrom` on the MOVED_TO side of
   * a move pair inside the tree. `closed`: all that happened is that it was closed after writing. `gone`: it was
   * deleted or moved away, though by now there may be another of that name. For a directory: it left,
   * its attributes changed (with `excluded` no more than its time, because an excluded name came or went in it), or it was moved here from `movedFrom`; a 'tree' follows every arrival as soon as it is watched.
   */
  | {
      kind: 'entry'
      path: RawPath
      isDir: boolean
      movedFrom?: RawPath
      attribOnly?: true
      closed?: true
      excluded?: true
      gone?: true
    }
  /** A file was created or modified and not closed yet. Not every way to make a file ends in a close: see the README. */
  | { kind: 'writing'; path: RawPath }
  /**
   * Look at this directory and everywhere below it: it appeared or was moved here. Its watches are set by now. `overflow`: events were lost,
   * in the kernel's queue, or because the root was not at its path for a moment; path is '' then. Path '' without it: the root came back.
   */
  | { kind: 'tree'; path: RawPath; movedFrom?: RawPath; overflow?: true }
  /**
   * The root itself. 'gone', 'unmounted' and 'replaced' (its path leads to another directory) each end the watching of the old
   * directory; 'back' begins that of the new one, and a 'tree' of '' follows it when all is watched. When the directory that comes back
   * is not the one that was watched before, 'replaced' comes before 'back'.
   */
  | { kind: 'root'; state: 'gone' | 'unmounted' | 'replaced' | 'back' }
  /** A filesystem that was mounted below the root was unmounted: what is missing there now was not deleted. */
  | { kind: 'unmounted'; path: RawPath }

/** Hints in kernel order; identical neighbours are one. */
export class HintList {
  #hints: Hint[] = []

  push(hint: Hint): void {
    const last = this.#hints.at(-1)
    if (last === undefined || !isSame(last, hint)) this.#hints.push(hint)
  }

  take(): Hint[] {
    const taken = this.#hints
    this.#hints = []
    return taken
  }
}

function isSame(a: Hint, b: Hint): boolean {
  if (a.kind === 'root' || b.kind === 'root')
    return a.kind === b.kind && 'state' in a && 'state' in b && a.state === b.state
  if (a.kind !== b.kind || a.path !== b.path) return false
  if (a.kind === 'entry' && b.kind === 'entry') {
    return (
      a.isDir === b.isDir &&
      a.movedFrom === b.movedFrom &&
      a.attribOnly === b.attribOnly &&
      a.closed === b.closed &&
      a.excluded === b.excluded &&
      a.gone === b.gone
    )
  }
  if (a.kind === 'tree' && b.kind === 'tree') return a.movedFrom === b.movedFrom && a.overflow === b.overflow
  return true
}
