import { TransferError } from '../errors.js'
import type { FilterScopes } from '../filter.js'
import type { SourceTree } from '../flist/source.js'
import { parent, type RawPath } from '../raw-path.js'
import { IOERR, type Transfer } from '../transfer.js'
import { RERR } from '../wire/constants.js'
import type { Argument } from './outgoing-lists.js'

/** Where the sources of a transfer are looked for: anywhere on the machine, or in a module. */
export interface Places {
  /** The directory `path`, seen from `base`. */
  enter(base: RawPath, path: RawPath): RawPath
  /** The tree of a directory; its path as it is told to people. */
  tree(directory: RawPath, follows: boolean, named: RawPath): SourceTree
  /** Absolute, from the machine's root or the module's. */
  absolute(directory: RawPath): RawPath
}

/** flist.c send_file_list(): what each name on the command line, or in a file of names, stands for. */
export async function* argumentsOf(
  transfer: Transfer,
  names: Iterable<RawPath> | AsyncIterable<RawPath>,
  base: RawPath,
  places: Places,
  scopes: (base: RawPath, entersTop: boolean) => FilterScopes,
  fromFile: boolean,
): AsyncGenerator<Argument> {
  const { settings } = transfer
  const follows = settings.copyLinks || settings.copyUnsafeLinks || settings.copyDirlinks
  const trees = new Map<string, { tree: SourceTree; filters: FilterScopes }>()
  const treeOf = (directory: RawPath, whole: boolean, named: RawPath) => {
    const key = `${whole} ${directory}\0${named}`
    const known = trees.get(key)
    if (known !== undefined) return known
    // Per-directory rules of a directory count only where it is sent itself.
    const made = { tree: places.tree(directory, follows, named), filters: scopes(places.absolute(directory), whole) }
    trees.set(key, made)
    return made
  }
  for await (const name of names) {
    // In a file of names all are below the one directory that was named.
    const given = (fromFile ? name.replace(/^\/+/, '') : name) as RawPath
    const { directory, path, asDirectory, dotted } = settings.relative ? relativeName(given) : plainName(given)
    const place = places.enter(base, directory)
    const whole = path === '' || settings.relative
    let { tree, filters } = treeOf(place, whole, '' as RawPath)
    try {
      tree.enter()
      tree.leave()
      // Where one of the directories that were named is a symlink, it is followed; nothing below them is.
      const above = settings.relative ? parent(path) : ''
      if (above !== '' && !tree.leadsTo(above)) ({ tree, filters } = treeOf(place, whole, above as RawPath))
    } catch (error) {
      transfer.ioError |= IOERR.GENERAL
      // The name is looked for below a directory that is not there.
      transfer.fileError(
        settings.relative || path === '' ? 'change_dir' : 'link_stat',
        (settings.relative ? directory : given).replace(/(?<=.)\/+$/, ''),
        error,
      )
      continue
    }
    yield {
      tree,
      filters,
      path,
      asDirectory,
      dotted,
      named: settings.relative || directory === '.' ? '' : directory,
      given: (given.startsWith('/') ? given : places.enter(base, given)) as RawPath,
    }
  }
}

interface Name {
  /** Where it is: '.' is where one stands. */
  directory: RawPath
  path: RawPath
  asDirectory: boolean
  dotted: boolean
}

/** `dir/name` is sent as `name`; `dir/` and `dir/.` as what is in it. */
function plainName(given: RawPath): Name {
  const inside = given === '' || given.endsWith('/') || /(?:^|\/)\.\.?$/.test(given)
  if (inside)
    return { directory: (given === '' ? '.' : given) as RawPath, path: '' as RawPath, asDirectory: true, dotted: false }
  const slash = given.lastIndexOf('/')
  const directory = (slash < 0 ? '.' : slash === 0 ? '/' : given.slice(0, slash)) as RawPath
  return { directory, path: given.slice(slash + 1) as RawPath, asDirectory: false, dotted: false }
}

/** -R: the whole path is sent, or what is behind `/./` of it. */
function relativeName(given: RawPath): Name {
  const marker = given.indexOf('/./')
  const directory = (marker < 0 ? (given.startsWith('/') ? '/' : '.') : given.slice(0, marker) || '/') as RawPath
  const active = marker < 0 ? given : given.slice(marker + 3)
  const names = active.split('/').filter((name) => name !== '' && name !== '.')
  if (names.includes('..')) throw new TransferError(`found ".." dir in relative path: ${active}`, RERR.SYNTAX)
  const asDirectory = names.length === 0 || active.endsWith('/') || active.endsWith('/.')
  return { directory, path: names.join('/') as RawPath, asDirectory, dotted: active.startsWith('./') }
}
