import type { RawPath } from '../raw-path.js'

/** Which names the receiver must leave alone: the filter rules of its side, and those of the module. */
export interface Protection {
  /** `inDeletion`: its directory is to go as a whole, so that perishable rules do not count. */
  protects(path: RawPath, directory: boolean, inDeletion?: boolean): boolean
}
