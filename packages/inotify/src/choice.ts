import type { BackendName, TreeEvents, WatchedTree } from './backend.js'
import { WatchError } from './errors.js'
import { isExported } from './exports.js'
import { FanotifyTree } from './fanotify/fanotify-tree.js'
import { InotifyTree } from './inotify-tree.js'
import * as kernel from './kernel.js'
import { PollTree } from './poll-tree.js'
import { join, type RawPath, ROOT } from './raw-path.js'
import { remoteName } from './root.js'

/** How a tree is watched. */
export interface Choice {
  backend: BackendName
  /** For the log. */
  reason: string
}

/** Up to so many directories each gets a watch: less to hear of what happens elsewhere on the filesystem. */
const SMALL_MAX = 4096
/** How long they may take to be counted. */
const COUNT_MS = 50

/** Opens the tree as wanted; 'auto' takes what suits it. Throws WatchError. */
export function openTree(
  root: RawPath,
  wanted: 'auto' | BackendName = 'auto',
  events: TreeEvents,
): { tree: WatchedTree; choice: Choice } {
  const by = (backend: BackendName, reason: string) => {
    const tree =
      backend === 'poll'
        ? new PollTree(root, events)
        : backend === 'inotify'
          ? new InotifyTree(root, events)
          : new FanotifyTree(root, events, wanted === 'auto')
    return { tree, choice: { backend, reason } }
  }
  if (wanted !== 'auto') return by(wanted, 'asked for')
  const remote = remoteName(kernel.withDirectory(root, kernel.filesystemType))
  if (remote !== undefined)
    return by('poll', `it is on ${remote}, where others make changes of which this kernel is not told`)
  const real = kernel.withDirectory(root, kernel.pathOf)
  const exported = typeof real === 'string' && isExported(real)
  if (!exported && isSmall(root, events)) return by('inotify', `there are at most ${SMALL_MAX} directories`)
  const why = exported
    ? 'it is exported by NFS, and inotify is not told of all that clients change'
    : `there may be more than ${SMALL_MAX} directories`
  try {
    return by('fanotify', why)
  } catch (error) {
    if (!(error instanceof WatchError) || error.code !== 'NO_FANOTIFY') throw error
    return by('inotify', exported ? `${error.message}; but ${why}` : error.message)
  }
}

/** Whether it surely has few directories. */
function isSmall(root: RawPath, { exclude }: TreeEvents): boolean {
  const untilMs = performance.now() + COUNT_MS
  const open: { absolute: string; path: RawPath }[] = [{ absolute: root, path: ROOT }]
  let count = 0
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (++count + open.length > SMALL_MAX || performance.now() > untilMs) return false
    const fd = kernel.openDirectory(undefined, next.absolute, next.path === ROOT)
    if (fd < 0) continue // gone, or not to be read: whoever watches it will say so
    const names: RawPath[] = []
    if (!kernel.hasNoSubdirectories(fd)) while (kernel.readSubdirectories(fd, names) > 0);
    kernel.close(fd)
    for (const name of names) {
      const path = join(next.path, name)
      if (!exclude?.(path, true)) open.push({ absolute: `${next.absolute}/${name}`, path })
    }
  }
  return true
}
