import { join, type RawPath } from '../raw-path.js'
import { baseName, cleanName, type Place, type Reading, RULES_MAX, RuleReader } from './reader.js'
import { FilterError, type Rule } from './rule.js'

type Side = 'sender' | 'receiver'

/** What all scopes of one walk have in common. */
interface Walk {
  rules: readonly Rule[]
  how: Reading
  /** Per-directory rules whose parent directories were looked at: rsync does that for the first directory alone. */
  scanned: WeakSet<Rule>
}

/**
 * The rules in force inside one directory of a transfer. Paths are relative to the transfer's root. An answer is about
 * the entry alone: a walk asks about each directory before it goes into it.
 */
export class FilterScope {
  readonly #walk: Walk
  /** Where the transfer's root is: below the file system's root, or the module's. '' is that root itself. */
  readonly #base: RawPath
  /** What the per-directory files hold that apply here, nearest first, in the order in which they became active. */
  readonly #merged: ReadonlyMap<Rule, readonly Rule[]>

  private constructor(walk: Walk, base: RawPath, merged: ReadonlyMap<Rule, readonly Rule[]>) {
    this.#walk = walk
    this.#base = base
    this.#merged = merged
  }

  /** Where a transfer begins; no per-directory file is read yet. */
  static begin(rules: readonly Rule[], base: RawPath, how: Reading): FilterScope {
    const merged = new Map(rules.filter(({ kind }) => kind === 'dir-merge').map((rule) => [rule, []]))
    return new FilterScope({ rules, how, scanned: new WeakSet() }, resolve('' as RawPath, base), merged)
  }

  /** The sender's side: this entry is not part of the transfer. */
  hides(path: RawPath, directory: boolean): boolean {
    return this.#excludes('sender', path, { directory })
  }

  /** The receiver's side: this entry is not deleted. `doomed`: it is in a directory that is itself being deleted. */
  protects(path: RawPath, directory: boolean, doomed = false): boolean {
    return this.#excludes('receiver', path, { directory, doomed })
  }

  /** The sender's side, and the receiver's, of an extended attribute's name. */
  hidesXattr(name: string): boolean {
    return this.#excludes('sender', name, { xattr: true })
  }

  protectsXattr(name: string): boolean {
    return this.#excludes('receiver', name, { xattr: true })
  }

  /** There are rules for extended attributes: without any, rsync has its own idea of which to leave out. */
  get filtersXattrs(): boolean {
    return [this.#walk.rules, ...this.#merged.values()].some(hasXattrRules)
  }

  /** Inside `dir`, once its per-directory files are read (exclude.c push_local_filters()). */
  enter(dir: RawPath): FilterScope {
    if (this.#merged.size === 0) return this
    const here = dir === '' ? this.#base : resolve(this.#base, dir)
    const merged = new Map(this.#merged)
    // A file that is found may name more of them, and those are visited too.
    for (const [rule, inherited] of merged) {
      const above = this.#parents(rule, here, merged) ?? (rule.noInherit ? [] : inherited)
      merged.set(rule, this.#read(rule, here, above, merged, false))
    }
    return new FilterScope(this.#walk, this.#base, merged)
  }

  /** The same rules for the next of several sources, whose root is elsewhere. */
  at(base: RawPath): FilterScope {
    return new FilterScope(this.#walk, resolve('' as RawPath, base), this.#merged)
  }

  /** exclude.c setup_merge_file(): a name with a path is looked for in all directories from there down to here. */
  #parents(rule: Rule, here: RawPath, merged: Map<Rule, readonly Rule[]>): readonly Rule[] | null {
    if (!rule.pattern.includes('/') || this.#walk.scanned.has(rule)) return null
    this.#walk.scanned.add(rule)
    const file = resolve(here, rule.pattern)
    const top = file.slice(0, Math.max(0, file.lastIndexOf('/')))
    if (top !== '' && here !== top && !here.startsWith(`${top}/`)) return null
    let rules: readonly Rule[] = []
    for (const dir of directoriesAbove(top, here)) {
      const found = this.#read(rule, dir, rules, merged, true)
      rules = rule.noInherit ? [] : found
    }
    return rules
  }

  #read(rule: Rule, dir: RawPath, above: readonly Rule[], merged: Map<Rule, readonly Rule[]>, scanning: boolean) {
    const reader = new RuleReader(this.#walk.how, this.#place(dir, merged, scanning))
    reader.mayHave(`/${join(dir, baseName(rule.pattern) as RawPath)}`, rule, reader.place)
    for (const found of reader.rules) if (found.kind === 'dir-merge') merged.set(found, [])
    if (reader.cleared) return reader.rules
    if (reader.rules.length + above.length > RULES_MAX) throw new FilterError(`more than ${RULES_MAX} filter rules`)
    return reader.rules.length === 0 ? above : [...reader.rules, ...above]
  }

  #place(dir: RawPath, merged: ReadonlyMap<Rule, readonly Rule[]>, scanning: boolean): Place {
    // A bare name is in rsync's working directory, which is the transfer's root.
    const from = (name: string) => (scanning || name.includes('/') ? dir : this.#base)
    return {
      file: (name) => `/${resolve(from(name), name)}`,
      perDirectory: (name) => (scanning ? `/${resolve(dir, name)}` : name),
      anchor: dir,
      module: false,
      anySide: false,
      active: () => merged.keys(),
    }
  }

  #excludes(side: Side, path: string, what: { directory?: boolean; doomed?: boolean; xattr?: boolean }): boolean {
    if (path === '' || this.#walk.rules.length === 0) return false
    const { directory = false, doomed = false, xattr = false } = what
    /** exclude.c check_filter(): the first rule that matches decides. */
    const decide = (rules: readonly Rule[]): Rule | undefined => {
      for (const rule of rules) {
        if ((doomed && rule.perishable) || !isFor(rule, side)) continue
        if (rule.kind === 'pattern') {
          if (rule.xattr === xattr && rule.matches(path, directory, this.#base)) return rule
        } else {
          const decisive = decide(rule.kind === 'cvs' ? rule.rules : (this.#merged.get(rule) ?? []))
          if (decisive !== undefined) return decisive
        }
      }
      return undefined
    }
    return decide(this.#walk.rules)?.include === false
  }
}

const isFor = (rule: Rule, side: Side) => rule[side] || (!rule.sender && !rule.receiver)

export const hasXattrRules = (rules: readonly Rule[]): boolean =>
  rules.some((rule) => rule.xattr || hasXattrRules(rule.rules))

/** From `top` to just above `here`. */
function directoriesAbove(top: string, here: string): RawPath[] {
  const found: RawPath[] = []
  for (let dir = top; dir !== here; ) {
    found.push(dir as RawPath)
    const slash = here.indexOf('/', dir === '' ? 0 : dir.length + 1)
    dir = slash < 0 ? here : here.slice(0, slash)
  }
  return found
}

/** Where `name` is, seen from `dir`: without a slash in front, and never above the root. */
export const resolve = (dir: RawPath, name: string): RawPath =>
  cleanName(name.startsWith('/') ? name : `/${dir}/${name}`).slice(1) as RawPath
