import { constants } from 'node:fs'
import {
  close,
  makeDirectory,
  openBeneath,
  openDirectory,
  type Stat,
  SystemError,
  statAt,
  statPath,
} from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import { isMissing } from './destination.js'
import { sanitizePath } from './sanitize.js'

const O_PATH = 0o10000000

/**
 * Where the paths of a command line lead: on the client's side anywhere, at a daemon below the module. Paths here may
 * lead over symlinks, for it is the operator, or the module, that says where they lead; below what they lead to no
 * symlink is followed any more.
 */
export interface Root {
  /** A path as it was given, seen from the directory `from`, as `stat` and `open` take it. */
  resolve(from: RawPath, path: RawPath): RawPath
  /** The path of --backup-dir or --temp-dir, as `resolve` takes it. */
  option(path: RawPath): RawPath
  stat(path: RawPath): Stat | null
  /** A descriptor of the directory. Throws SystemError. */
  open(path: RawPath): number
  makeDirectory(path: RawPath, mode: number): void
}

/** The machine as the process sees it. */
export const machine: Root = {
  resolve(from, path) {
    if (path.startsWith('/') || from === '') return path
    return (path === '' || path === '.' ? from : `${from === '/' ? '' : from.replace(/\/+$/, '')}/${path}`) as RawPath
  },
  option: (path) => path,
  stat(path) {
    try {
      return statPath(path === '' ? '.' : path)
    } catch (error) {
      if (isMissing(error)) return null
      throw error
    }
  },
  open: (path) => openDirectory(path === '' ? '.' : path),
  makeDirectory(path, mode) {
    const fd = openDirectory(parentOf(path))
    try {
      makeDirectory(fd, baseOf(path), mode)
    } finally {
      close(fd)
    }
  },
}

const NOT_HERE = new Set(['EXDEV', 'ENAMETOOLONG'])

/** A module: `/` is its root, and nothing leads out of it. */
export class ModuleRoot implements Root {
  /**
   * `fd` is the module's directory; it is not closed here. `sanitizes`: without a chroot rsync takes each `..` away that
   * the path of some options starts with.
   */
  constructor(
    readonly fd: number,
    readonly sanitizes = false,
  ) {}

  /** util1.c sanitize_path(): `..` stops at the root. */
  resolve(from: RawPath, path: RawPath): RawPath {
    const names: string[] = []
    for (const name of `${path.startsWith('/') ? '' : from}/${path}`.split('/')) {
      if (name === '..') names.pop()
      else if (name !== '' && name !== '.') names.push(name)
    }
    return names.join('/') as RawPath
  }

  option(path: RawPath): RawPath {
    if (!this.sanitizes) return path
    return `${path.startsWith('/') ? '/' : ''}${sanitizePath(path, 0)}` as RawPath
  }

  stat(path: RawPath): Stat | null {
    let fd: number
    try {
      fd = openBeneath(this.fd, path, O_PATH, true)
    } catch (error) {
      // What leads out of the module is not there for those who are in it.
      if (isMissing(error) || (error instanceof SystemError && NOT_HERE.has(error.code))) return null
      throw error
    }
    try {
      return statAt(fd, '')
    } finally {
      close(fd)
    }
  }

  open(path: RawPath): number {
    return openBeneath(this.fd, path, constants.O_RDONLY | constants.O_DIRECTORY, true)
  }

  makeDirectory(path: RawPath, mode: number): void {
    const slash = path.lastIndexOf('/')
    const parent = openBeneath(this.fd, slash < 0 ? '' : path.slice(0, slash), O_PATH | constants.O_DIRECTORY, true)
    try {
      makeDirectory(parent, path.slice(slash + 1), mode)
    } finally {
      close(parent)
    }
  }
}

const stripped = (path: string) => (/^\/+$/.test(path) ? '/' : path.replace(/\/+$/, ''))

export function parentOf(path: string): RawPath {
  const trimmed = stripped(path)
  const slash = trimmed.lastIndexOf('/')
  return (slash < 0 ? '.' : slash === 0 ? '/' : trimmed.slice(0, slash)) as RawPath
}

export function baseOf(path: string): RawPath {
  const trimmed = stripped(path)
  return trimmed.slice(trimmed.lastIndexOf('/') + 1) as RawPath
}
