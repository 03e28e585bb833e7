import { isDeepStrictEqual } from 'node:util'
import { changeMode } from '../chmod.js'
import type { Destination } from '../disk/destination.js'
import { type FileEntry, isDirectory, isRegular } from '../flist/entry.js'
import { close, type Stat, SystemError, writeAt } from '../kernel.js'
import { blankSettings } from '../options.js'
import type { Put } from '../rounds.js'
import type { Settings } from '../settings.js'
import type { Transfer } from '../transfer.js'
import { ITEM } from '../wire/constants.js'
import { Attributes } from './attributes.js'
import type { ReceiveOptions } from './receive.js'
import { temporaryName } from './temporary.js'

/** What may be as it likes: a put has nothing to do with it. */
const IRRELEVANT: ReadonlySet<string> = new Set<keyof Settings>([
  'recursive',
  'dirs',
  'impliedDirs', // without -R they are none
  'links',
  'hardLinks',
  'owner',
  'group',
  'devices',
  'specials',
  'deleteMissingArgs',
  'deleteWhen',
  'force',
  'ignoreErrors',
  'maxDelete',
  'filter',
  'filterArguments',
  'modifyWindow',
  'wholeFile',
  'checksumSeed',
  'timeoutMs',
  'bwlimit',
  'incRecursive',
  'itemize',
  'outFormat',
  'logFile',
  'logFileFormat',
  'verbose',
  'info',
  'infoAsked',
  'quiet',
  'motd',
  'said',
])

/** What a put does, and so must have been asked for. */
const NEEDED: ReadonlySet<string> = new Set<keyof Settings>(['perms', 'times', 'numericIds', 'ignoreTimes'])

/** Whether a file may be put (rounds.ts): a mirror has asked for nothing that a list alone can give, nor has a module. */
export function takesPuts(settings: Settings): boolean {
  return Object.entries(blankSettings()).every(([name, value]) => {
    const asked = settings[name as keyof Settings]
    return NEEDED.has(name) ? asked === true : IRRELEVANT.has(name) || isDeepStrictEqual(asked, value)
  })
}

/**
 * Puts one file in its place, and gives the directories above it their attributes. False when that cannot be done so, for
 * whatever reason: then what it is about is as it was, or as good, and a list tells what the matter is.
 */
export function put(
  transfer: Transfer,
  tree: Destination,
  { entries, content, sum }: Put,
  { incomingChmod }: Pick<ReceiveOptions, 'incomingChmod'>,
): boolean {
  const file = entries.find((entry) => isRegular(entry.mode))
  const directories = entries.filter((entry) => isDirectory(entry.mode) && !entry.hasContent)
  if (file === undefined || directories.length !== entries.length - 1) return false
  const { here } = transfer
  const attributes = new Attributes(transfer, incomingChmod)
  try {
    for (const { path, mode } of directories) {
      if (!isDirectory(tree.stat(path)?.mode ?? 0)) return false
      // Who is not root may not get back into what he closes: a generator knows how to go about that.
      if (!here.root && (changeMode(incomingChmod, mode, here.umask) & 0o300) !== 0o300) return false
    }
    const there = tree.stat(file.path)
    if (there !== null && !isRegular(there.mode)) return false
    replace(transfer, tree, attributes, file, there, content, sum)
    for (const directory of directories.reverse())
      attributes.set(tree, directory.path, directory, tree.stat(directory.path))
  } catch (error) {
    if (!(error instanceof SystemError)) throw error
    return false
  }
  return !transfer.failed
}

function replace(
  { log, stats }: Transfer,
  tree: Destination,
  attributes: Attributes,
  file: FileEntry,
  there: Stat | null,
  content: Buffer,
  sum: Buffer,
): void {
  const iflags = attributes.differences(tree, file.path, file, there, ITEM.TRANSFER, null)
  const temporary = temporaryName(file.path)
  const fd = tree.create(temporary, 0o600)
  try {
    try {
      writeAt(fd, content, 0)
    } finally {
      close(fd)
    }
    attributes.set(tree, temporary, file, null, { exact: true })
    tree.rename(temporary, file.path)
  } catch (error) {
    try {
      tree.unlink(temporary)
    } catch {
      // the reason why is that of the first error
    }
    throw error
  }
  if (there === null) stats.createdFiles++
  stats.transferred++
  stats.transferredSize += content.length
  stats.literalBytes += content.length
  log.item(file, iflags, '', { literal: content.length, matched: 0, sum })
}
