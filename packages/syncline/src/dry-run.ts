import { type FileEntry, Filter, ITEM, isDirectory, printable, RERR, Session, SourceTree } from '@syncline/rsync'
import { buildBatch } from './batch.js'
import type { Mark } from './dirty.js'
import { LinkIndex } from './links.js'
import type { MirrorOptions } from './mirror.js'

/**
 * Prints what a full sync would do to each target, as `rsync -ni` does, and changes nothing. Resolves with the exit
 * code: 0, or 23 when something could not be looked at.
 */
export async function dryRun(options: MirrorOptions): Promise<number> {
  let complete = true
  const source = new SourceTree(options.source)
  source.enter()
  const filter = new Filter(options.rules)
  const everything: Mark = {
    path: '' as Mark['path'],
    scope: 'tree',
    quick: true,
    content: true,
    plain: false,
    large: false,
    waited: false,
    moved: false,
    scheduled: false,
    sinceMs: 0,
    dueMs: 0,
    attempts: 0,
    reason: null,
  }
  for (const { destination, credentials, delete: deletes, compress, update, timeoutMs } of options.targets) {
    const session = await Session.open({
      remote: destination.remote,
      credentials,
      ignoreTimes: false,
      delete: deletes,
      rules: filter.rules,
      numericIds: true,
      compress,
      update,
      dryRun: true,
      timeoutMs,
    })
    const batch = await buildBatch([everything], {
      source,
      filter,
      links: new LinkIndex(source, filter),
      deletion: deletes ? 'by-name' : 'none',
      largeBytes: Number.POSITIVE_INFINITY,
    })
    if (options.targets.length > 1) console.log(`${destination.name}:`)
    const report = await session.transfer({
      source,
      entries: batch.entries,
      ioError: batch.failed.length > 0,
      onItem: (entry, iflags) =>
        console.log(`${itemize(entry, iflags)} ${printable(entry.path) || '.'}${isDirectory(entry.mode) ? '/' : ''}`),
      onDeleted: (path, directory) => console.log(`*deleting   ${printable(path)}${directory ? '/' : ''}`),
    })
    for (const error of [...batch.failed.map((failed) => failed.message), ...report.errors]) {
      complete = false
      console.error(`syncline: ${error}`)
    }
  }
  source.leave()
  return complete ? 0 : RERR.PARTIAL
}

const REPORTS: [flag: number, letter: string][] = [
  [ITEM.REPORT_CHANGE, 'c'],
  [ITEM.REPORT_SIZE, 's'],
  [ITEM.REPORT_TIME, 't'],
  [ITEM.REPORT_PERMS, 'p'],
  [ITEM.REPORT_OWNER, 'o'],
  [ITEM.REPORT_GROUP, 'g'],
  [ITEM.REPORT_ATIME, 'u'],
  [ITEM.REPORT_ACL, 'a'],
  [ITEM.REPORT_XATTR, 'x'],
]
const TYPE: Record<number, string> = { 4: 'd', 8: 'f', 10: 'L', 2: 'D', 6: 'D', 1: 'S', 12: 'S' }

/** The eleven letters of rsync's %i, such as `<f.st......`. */
function itemize(entry: FileEntry, iflags: number): string {
  const action =
    iflags & ITEM.LOCAL_CHANGE ? (iflags & ITEM.XNAME_FOLLOWS ? 'h' : 'c') : iflags & ITEM.TRANSFER ? '<' : '.'
  const what =
    iflags & ITEM.IS_NEW ? '+++++++++' : REPORTS.map(([flag, letter]) => (iflags & flag ? letter : '.')).join('')
  return `${action}${TYPE[(entry.mode >> 12) & 0o17] ?? '?'}${what}`
}
