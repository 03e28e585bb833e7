import {
  type FileEntry,
  ITEM,
  isDirectory,
  isRegular,
  type RawPath,
  type Session,
  type TransferOptions,
  type TransferReport,
} from '@syncline/rsync'

/** A directory with fewer files is sent before a second session could be of help. */
const FILES_MIN = 500

/** Sends a list in one session; `defer` is asked for every file, and `spare` gives another session while there is one. */
export interface SplitOptions extends Omit<TransferOptions, 'onItem'> {
  defer: (entry: FileEntry) => boolean
  spare: () => Session | undefined
  /** Takes back such a session when it has done its part. */
  giveBack: (session: Session) => void
}

/**
 * Session.transfer(), with help: what takes the time of many small files is the receiver, one file after the other. When
 * it says that it had to make a large directory, a second session fills half of it meanwhile. That is safe there and
 * nowhere else: in a directory that was just made nothing is deleted, and nothing stands in a file's way.
 */
export async function transferSplit(session: Session, options: SplitOptions): Promise<TransferReport> {
  const halves = secondHalves(options.entries)
  if (halves.size === 0) return session.transfer(options)
  const givenAway = new Set<RawPath>()
  const helpers: Promise<TransferReport>[] = []
  let busy = false
  const help = (dir: RawPath, files: readonly FileEntry[]) => {
    const spare = busy ? undefined : options.spare()
    if (spare === undefined) return
    busy = true
    for (const { path } of files) givenAway.add(path)
    const entries = [...directoriesDownTo(dir, options.entries), ...files]
    const helper = spare.transfer({ ...options, entries, ioError: true }).finally(() => {
      busy = false
      options.giveBack(spare)
    })
    helper.catch(() => undefined) // heard below, when the list itself is done
    helpers.push(helper)
  }
  try {
    const report = await session.transfer({
      ...options,
      defer: (entry) => givenAway.has(entry.path) || options.defer(entry),
      onItem: (entry, iflags) => {
        const files = iflags & ITEM.IS_NEW ? halves.get(entry.path) : undefined
        if (files !== undefined) help(entry.path, files)
      },
    })
    const deferred = report.deferred.filter((path) => !givenAway.has(path))
    return (await Promise.all(helpers)).reduce(sum, { ...report, deferred })
  } finally {
    // Whoever called may touch these paths again only when nobody else does.
    await Promise.allSettled(helpers)
  }
}

/** By directory, the later half of the files that lie directly in it: in a list they follow their directory. */
function secondHalves(entries: readonly FileEntry[]): Map<RawPath, FileEntry[]> {
  const halves = new Map<RawPath, FileEntry[]>()
  for (let at = 0; at < entries.length; ) {
    const dir = entries[at++]
    const from = at
    while (at < entries.length && !isDirectory(entries[at].mode)) at++
    if (at - from < FILES_MIN || !isDirectory(dir.mode)) continue
    const half = entries.slice(from + ((at - from) >> 1), at)
    halves.set(
      dir.path,
      half.filter((entry) => isRegular(entry.mode) && entry.linkGroup === ''),
    )
  }
  return halves
}

/** `dir` and what is above it, as directories whose other content is not of interest. */
function directoriesDownTo(dir: RawPath, entries: readonly FileEntry[]): FileEntry[] {
  const above = (entry: FileEntry) => entry.path === '' || entry.path === dir || dir.startsWith(`${entry.path}/`)
  return entries
    .filter((entry) => isDirectory(entry.mode) && above(entry))
    .map((entry) => ({ ...entry, hasContent: false }))
}

function sum(a: TransferReport, b: TransferReport): TransferReport {
  return {
    failed: [...a.failed, ...b.failed],
    changed: [...a.changed, ...b.changed],
    deferred: [...a.deferred, ...b.deferred],
    errors: [...a.errors, ...b.errors],
    refused: new Map([...a.refused, ...b.refused]),
    notices: [...a.notices, ...b.notices],
    sent: a.sent + b.sent,
    deleted: a.deleted + b.deleted,
    literalBytes: a.literalBytes + b.literalBytes,
    matchedBytes: a.matchedBytes + b.matchedBytes,
    bytesWritten: a.bytesWritten + b.bytesWritten,
    bytesRead: a.bytesRead + b.bytesRead,
  }
}
