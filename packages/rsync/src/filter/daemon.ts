import type { RawPath } from '../raw-path.js'
import { OPTIONS, type Reading, RuleReader } from './reader.js'
import { PLAIN, type Rule, type Syntax } from './rule.js'
import { FilterScope, resolve } from './scope.js'

/** What rsyncd.conf says of a module. */
export interface ModuleFilter {
  filter?: string
  include?: string
  includeFrom?: string
  exclude?: string
  excludeFrom?: string
}

/**
 * The filter of a module (clientserver.c rsync_module()). `conf.read` takes names as the configuration has them,
 * `inside.read` those of per-directory files, absolute from the module's root.
 */
export function daemonFilter(parameters: ModuleFilter, conf: Reading, inside: Reading): DaemonFilter {
  const { filter = '', include = '', includeFrom = '', exclude = '', excludeFrom = '' } = parameters
  const reader = new RuleReader(conf, { ...OPTIONS, anchor: '', module: true })
  const words = (text: string, included: boolean, syntax: Syntax) =>
    reader.text(text, { ...PLAIN, include: included, wordSplit: true }, syntax)
  const file = (name: string, included: boolean) => {
    if (name !== '') reader.mustHave(name, { ...PLAIN, include: included }, 'old', reader.place)
  }
  words(filter, false, 'new')
  file(includeFrom, true)
  words(include, true, 'old')
  file(excludeFrom, false)
  words(exclude, false, 'old')
  return new DaemonFilter(reader.rules, inside)
}

/** What no client of a module can see, write or delete, whatever rules of his own he sends. */
export class DaemonFilter {
  readonly #scope: FilterScope

  constructor(rules: readonly Rule[], inside: Reading) {
    // A side that is named here has no meaning: rsync asks this list in either role.
    this.isEmpty = rules.length === 0
    const both = rules.map((rule) => ({ ...rule, sender: false, receiver: false }))
    this.#scope = FilterScope.begin(both, '' as RawPath, inside)
  }

  /** Whether `path`, which is below the module, or any directory above it is hidden. */
  hides(path: RawPath, directory: boolean): boolean {
    const names = resolve('' as RawPath, path)
    let scope = this.#scope.enter('' as RawPath)
    for (let slash = names.indexOf('/'); slash >= 0; slash = names.indexOf('/', slash + 1)) {
      const dir = names.slice(0, slash) as RawPath
      if (excludes(scope, dir, true)) return true
      scope = scope.enter(dir)
    }
    return excludes(scope, names, directory)
  }

  /** Nothing is hidden, whatever it is called. */
  readonly isEmpty: boolean

  hidesXattr(name: string): boolean {
    return this.#scope.hidesXattr(name)
  }
}

const excludes = (scope: FilterScope, path: RawPath, directory: boolean) =>
  scope.hides(path, directory) || scope.protects(path, directory)
