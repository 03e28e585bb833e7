import type { Tree } from './tree.js'

/** By a remote shell, to a daemon, or both ends in one process family. */
export type Transport = 'rsh' | 'daemon' | 'local'
export type Direction = 'push' | 'pull'

/** One call of rsync, and what is there before it. All paths are relative to the cell's directory. */
export interface Case {
  /** The options, and what is special about the rest; unique within its group. */
  name: string
  options: readonly string[] | ((place: Place) => string[])
  prepare(tree: Tree): void
  /** Operands; `src/` and `dst/` if they are not given, and no destination where it is null. */
  sources?: readonly string[]
  destination?: string | null
  /** What is printed must be equal, too. */
  output?: boolean
  /** The command runs twice; the second run is what counts, and usually has nothing to do. */
  twice?: boolean
  /** Belongs to the few that run with every peer and every protocol. */
  essential?: boolean
  /** The end that is not root. */
  nobody?: 'sender' | 'receiver'
  /** Older stock programs do not know this. */
  since?: string
  transports?: readonly Transport[]
  directions?: readonly Direction[]
  /** A module of the daemon that is not the plain one. */
  module?: string
  environment?: Record<string, string>
  stdin?: string
}

/** Where a file of the cell is, as an option must name it. */
export interface Place {
  /** At the end that is not called directly. */
  remote(path: string): string
  /** At the end that writes. */
  receiver(path: string): string
}

export interface Group {
  name: string
  cases: readonly Case[]
}

/** Most cases: an option line, what is there, and what is special about it. */
export function called(options: string, prepare: (tree: Tree) => void, rest: Partial<Case> & { note?: string } = {}) {
  const { note, ...others } = rest
  const words = options === '' ? [] : options.split(' ')
  return { name: note === undefined ? options : `${options} (${note})`, options: words, prepare, ...others }
}
