import { WatchError } from './errors.js'
import type { RawPath } from './raw-path.js'

/** uapi/linux/inotify.h, without the IN_ prefix. */
export const IN = {
  ACCESS: 0x1,
  MODIFY: 0x2,
  ATTRIB: 0x4,
  CLOSE_WRITE: 0x8,
  CLOSE_NOWRITE: 0x10,
  OPEN: 0x20,
  MOVED_FROM: 0x40,
  MOVED_TO: 0x80,
  CREATE: 0x100,
  DELETE: 0x200,
  DELETE_SELF: 0x400,
  MOVE_SELF: 0x800,
  ALL_EVENTS: 0xfff,
  UNMOUNT: 0x2000, // these three come unasked
  Q_OVERFLOW: 0x4000,
  IGNORED: 0x8000,
  ONLYDIR: 0x1000000,
  DONT_FOLLOW: 0x2000000,
  EXCL_UNLINK: 0x4000000,
  MASK_CREATE: 0x10000000,
  MASK_ADD: 0x20000000,
  ISDIR: 0x40000000,
  ONESHOT: 0x80000000,
} as const

export interface InotifyEvent {
  /** The watch it happened on; -1 for Q_OVERFLOW. */
  wd: number
  mask: number
  /** Equal on the two sides of a move pair, otherwise 0. */
  cookie: number
  /** The name inside the watched directory; '' when the event is about the directory itself. */
  name: RawPath
}

const HEADER_BYTES = 16

/**
 * Decodes struct inotify_event records (inotify(7)). The kernel never splits one across reads.
 * Throws WatchError QUEUE_BROKEN on a truncated record.
 */
export function decodeEvents(bytes: Buffer): InotifyEvent[] {
  const events: InotifyEvent[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + HEADER_BYTES > bytes.length) throw truncated(at, bytes.length)
    const nameStart = at + HEADER_BYTES
    const end = nameStart + bytes.readUInt32LE(at + 12)
    if (end > bytes.length) throw truncated(at, bytes.length)
    events.push({
      wd: bytes.readInt32LE(at),
      mask: bytes.readUInt32LE(at + 4),
      cookie: bytes.readUInt32LE(at + 8),
      name: paddedName(bytes, nameStart, end),
    })
    at = end
  }
  return events
}

/** The inverse of decodeEvents, padded as the kernel pads: to the next multiple of 16, with at least one NUL. */
export function encodeEvents(events: InotifyEvent[]): Buffer {
  return Buffer.concat(
    events.map(({ wd, mask, cookie, name }) => {
      const nameBytes = name === '' ? 0 : (Math.floor(name.length / HEADER_BYTES) + 1) * HEADER_BYTES
      const record = Buffer.alloc(HEADER_BYTES + nameBytes)
      record.writeInt32LE(wd, 0)
      record.writeUInt32LE(mask, 4)
      record.writeUInt32LE(cookie, 8)
      record.writeUInt32LE(nameBytes, 12)
      record.write(name, HEADER_BYTES, 'latin1')
      return record
    }),
  )
}

function paddedName(bytes: Buffer, start: number, end: number): RawPath {
  let stop = start
  while (stop < end && bytes[stop] !== 0) stop++
  return bytes.toString('latin1', start, stop) as RawPath
}

const truncated = (at: number, length: number): WatchError =>
  new WatchError('QUEUE_BROKEN', `inotify queue: the record at byte ${at} of ${length} is truncated`)
