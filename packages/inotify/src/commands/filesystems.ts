import { WatchError } from '../errors.js'
import { IN } from '../events.js'
import { FAN } from '../fanotify/records.js'
import { FanotifyGroup, type FilesystemEvent } from '../groups.js'
import * as kernel from '../kernel.js'
import { mountsWithin } from '../mounts.js'
import { isWithin, type RawPath, ROOT, toBytes } from '../raw-path.js'
import { UsageError } from './getopt.js'
import type { PathEvent } from './watch-list.js'

/**
 * Watches the whole filesystem that a path is on (-S), and tells of each event with its absolute path. Throws UsageError when
 * it cannot be watched, with the reason.
 */
export function watchFilesystem(
  path: RawPath,
  mask: number,
  hides: (path: string) => boolean,
  onEvents: (events: PathEvent[]) => void,
  onError: (error: Error) => void,
): void {
  const real = kernel.withDirectory(path, kernel.pathOf)
  if (typeof real === 'number') throw new UsageError(`Couldn't watch ${path}: ${kernel.strerror(real)}`)
  const points = [...mountsWithin('/' as RawPath).keys()].filter((point) => isWithin(real, point))
  const mount = points.reduce((longest, point) => (point.length > longest.length ? point : longest), '/' as RawPath)
  let group: FanotifyGroup
  try {
    group = FanotifyGroup.open(toBytes(mount), (mask & IN.ALL_EVENTS) | FAN.ONDIR, { alone: true })
  } catch (error) {
    if (!(error instanceof WatchError)) throw error
    throw new UsageError(`Couldn't watch ${path}: ${error.message}`)
  }
  void read(group, hides, onEvents).catch(onError)
}

async function read(
  group: FanotifyGroup,
  hides: (path: string) => boolean,
  onEvents: (events: PathEvent[]) => void,
): Promise<void> {
  for await (const event of group) {
    const told = pathEvent(event)
    if (told !== undefined && !hides(`${told.watched}${told.name}`)) onEvents([told])
  }
}

/** Undefined when nobody knows any more where it was. */
function pathEvent({ mask, path, itself }: FilesystemEvent): PathEvent | undefined {
  if (mask & FAN.Q_OVERFLOW) return { watched: '', name: ROOT, mask: IN.Q_OVERFLOW, cookie: 0 }
  if (path === undefined) return undefined
  if (itself) return { watched: path === '/' ? path : `${path}/`, name: ROOT, mask, cookie: 0 }
  const slash = path.lastIndexOf('/') + 1
  return { watched: path.slice(0, slash), name: path.slice(slash) as RawPath, mask, cookie: 0 }
}
