import { copyXattrs } from '../attributes/xattr.js'
import type { Destination } from '../disk/destination.js'
import { type FileEntry, isDevice, isRegular, isSymlink, linkGroupOf } from '../flist/entry.js'
import { close, type Stat } from '../kernel.js'
import type { RawPath } from '../raw-path.js'
import { FNAMECMP, S_IFMT } from '../wire/constants.js'
import { copyContent } from './backup.js'
import type { Basis } from './generator.js'
import type { Receiving } from './receiving.js'
import { temporaryName } from './temporary.js'

/** How well a file of another directory stands for an entry: 1 its kind, 2 its content, 3 its attributes, too. */
export interface Alternate {
  tree: Destination
  index: number
  stat: Stat
  level: 1 | 2 | 3
}

/** generator.c try_dests_reg(), try_dests_non(): the best match in --compare-dest, --copy-dest or --link-dest. */
export function findAlternate(r: Receiving, entry: FileEntry, path: RawPath): Alternate | null {
  let best: Alternate | null = null
  for (const [index, tree] of r.alternates.entries()) {
    const stat = r.attributes.stat(tree, path)
    if (stat === null) continue
    const level = levelOf(r, tree, entry, path, stat)
    if (level === 0 || (best !== null && level <= best.level)) continue
    best = { tree, index, stat, level }
    if (level === 3) break
  }
  return best
}

function levelOf(r: Receiving, tree: Destination, entry: FileEntry, path: RawPath, stat: Stat): 0 | 1 | 2 | 3 {
  if ((stat.mode & S_IFMT) !== (entry.mode & S_IFMT)) return 0
  if (!sameContent(r, tree, entry, path, stat)) return 1
  return r.attributes.sameAttributes(tree, path, entry, stat) ? 3 : 2
}

function sameContent(r: Receiving, tree: Destination, entry: FileEntry, path: RawPath, stat: Stat): boolean {
  if (isRegular(entry.mode)) return r.attributes.unchanged(tree, path, entry, stat, false)
  if (isSymlink(entry.mode)) return tree.readLink(path) === entry.target
  if (isDevice(entry.mode)) return stat.rdevMajor === entry.rdevMajor && stat.rdevMinor === entry.rdevMinor
  return true
}

/** Whether a file of an alternate directory did all that was to be done, or serves as basis. */
export type StandIn = { done: true; stat: Stat; changed: boolean } | { done: false; basis: Basis } | null

/** For a regular file that is not here; one that is here only gives way to its like in every respect. */
export function standIn(r: Receiving, entry: FileEntry, path: RawPath, here: Stat | null): StandIn {
  const found = findAlternate(r, entry, path)
  if (found === null || (here !== null && found.level < 3)) return null
  if (here !== null) {
    if (linkGroupOf(here) === linkGroupOf(found.stat)) return null
    if (!r.transfer.settings.dryRun) r.tree.unlink(path)
  }
  const { kind } = r.transfer.settings.alternates ?? { kind: 'compare' as const }
  const { tree, stat, level } = found
  const asBasis: StandIn = { done: false, basis: { tree, path, stat, type: FNAMECMP.BASIS_DIR_LOW + found.index } }
  if (level === 3 && kind === 'compare') return { done: true, stat, changed: false }
  if (level === 3 && kind === 'link' && linkFrom(r, tree, path)) return { done: true, stat, changed: false }
  if (level < 2) return asBasis
  if (!r.transfer.settings.dryRun && !copyFrom(r, tree, entry, path)) return asBasis
  return { done: true, stat, changed: true }
}

function linkFrom(r: Receiving, tree: Destination, path: RawPath): boolean {
  if (r.transfer.settings.dryRun) return true
  try {
    r.tree.link(tree, path, path)
    return true
  } catch {
    return false // another filesystem: it is copied instead
  }
}

/** generator.c copy_altdest_file() */
function copyFrom(r: Receiving, tree: Destination, entry: FileEntry, path: RawPath): boolean {
  const temporary = temporaryName(path)
  try {
    const source = tree.openForReading(path)
    try {
      const target = r.tree.create(temporary, 0o600)
      try {
        copyContent(source, target)
      } finally {
        close(target)
      }
    } finally {
      close(source)
    }
    if (r.transfer.settings.xattrs > 0) copyXattrs(tree.place(path), r.tree.place(temporary), r.attributes.xattrRules)
    r.attributes.set(r.tree, temporary, entry, null, { exact: true })
    r.tree.rename(temporary, path)
    return true
  } catch (error) {
    r.transfer.fileError('copy_file', path, error)
    try {
      r.tree.unlink(temporary)
    } catch {
      // It was not made.
    }
    return false
  }
}
