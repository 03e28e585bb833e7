import { parent, type RawPath } from '../raw-path.js'
import type { FilterScope } from './scope.js'

const KEPT_MAX = 64

/** The scopes of the directories that a walk is in: each is entered from that of its parent. */
export class FilterScopes {
  readonly #kept = new Map<RawPath, FilterScope>()

  /** `entersTop`: the top directory is part of the transfer, and so are the rules in it. */
  constructor(
    readonly top: FilterScope,
    readonly entersTop: boolean,
  ) {}

  /** The rules inside `dir`. */
  in(dir: RawPath): FilterScope {
    const kept = this.#kept.get(dir)
    if (kept !== undefined) return kept
    if (dir === '' && !this.entersTop) return this.top
    const scope = (dir === '' ? this.top : this.in(parent(dir))).enter(dir)
    if (this.#kept.size >= KEPT_MAX) this.#kept.delete(this.#kept.keys().next().value as RawPath)
    this.#kept.set(dir, scope)
    return scope
  }

  /** Whether the sender leaves out `path`; directories above it are not looked at. */
  hides(path: RawPath, directory: boolean): boolean {
    return path !== '' && this.in(parent(path)).hides(path, directory)
  }

  /** Whether the receiver leaves `path` alone. */
  protects(path: RawPath, directory: boolean, doomed = false): boolean {
    return this.in(parent(path)).protects(path, directory, doomed)
  }
}
