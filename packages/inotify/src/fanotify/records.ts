import { WatchError } from '../errors.js'
import type { RawPath } from '../raw-path.js'

/** uapi/linux/fanotify.h, without the FAN_ prefix. */
export const FAN = {
  ACCESS: 0x1,
  MODIFY: 0x2,
  ATTRIB: 0x4,
  CLOSE_WRITE: 0x8,
  CLOSE_NOWRITE: 0x10,
  OPEN: 0x20,
  CREATE: 0x100,
  DELETE: 0x200,
  Q_OVERFLOW: 0x4000,
  EVENT_ON_CHILD: 0x08000000,
  RENAME: 0x10000000,
  ONDIR: 0x40000000,
  // fanotify_init(2)
  CLOEXEC: 0x1,
  NONBLOCK: 0x2,
  UNLIMITED_QUEUE: 0x10,
  UNLIMITED_MARKS: 0x20,
  REPORT_FID: 0x200,
  REPORT_DFID_NAME: 0xc00,
  REPORT_TARGET_FID: 0x1000,
  // fanotify_mark(2)
  MARK_ADD: 0x1,
  MARK_IGNORED_SURV_MODIFY: 0x40,
  MARK_FLUSH: 0x80,
  MARK_FILESYSTEM: 0x100,
  MARK_EVICTABLE: 0x200,
  MARK_IGNORE: 0x400,
} as const

/** fanotify_init(2): no limits, and records that name what they tell of. */
export const GROUP =
  FAN.CLOEXEC |
  FAN.NONBLOCK |
  FAN.UNLIMITED_QUEUE |
  FAN.UNLIMITED_MARKS |
  FAN.REPORT_FID |
  FAN.REPORT_DFID_NAME |
  FAN.REPORT_TARGET_FID

/** f_fsid (8 bytes) and struct file_handle of an inode, one character per byte: which one it is, as long as it lives. */
export type Handle = string & { readonly __handle: 'fsid + file_handle' }

export const FSID_BYTES = 8

/** A name in a directory. The name '.' is the directory itself. */
export interface Place {
  directory: Handle
  name: RawPath
}

export interface FanotifyRecord {
  /** FAN_*. Events on one name come as one record, and the order in which they happened is lost. */
  mask: number
  /** Where it happened; with RENAME where it is now. Undefined when the record tells of no name. */
  place: Place | undefined
  /** With RENAME: where it was. */
  from: Place | undefined
  /** What it happened to. */
  target: Handle | undefined
}

const METADATA_BYTES = 24
const VERSION = 3
const INFO = { FID: 1, DFID_NAME: 2, DFID: 3, OLD_DFID_NAME: 10, NEW_DFID_NAME: 12 } as const
/** info header (4), fsid (8), handle_bytes (4), handle_type (4) */
const HANDLE_AT = 4
const HANDLE_BYTES_AT = HANDLE_AT + FSID_BYTES
const NAME_AT = HANDLE_BYTES_AT + 8

/**
 * Decodes struct fanotify_event_metadata records with their infos (fanotify(7)), of a group that reports names. Throws WatchError
 * QUEUE_BROKEN on what cannot be one.
 */
export function decodeRecords(bytes: Buffer): FanotifyRecord[] {
  const records: FanotifyRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    if (at + METADATA_BYTES > bytes.length) throw broken('is truncated', at, bytes)
    const end = at + bytes.readUInt32LE(at)
    if (end < at + METADATA_BYTES || end > bytes.length) throw broken('is truncated', at, bytes)
    if (bytes[at + 4] !== VERSION) throw broken(`is of version ${bytes[at + 4]}`, at, bytes)
    const record: FanotifyRecord = {
      mask: bytes.readUInt32LE(at + 8),
      place: undefined,
      from: undefined,
      target: undefined,
    }
    let info = at + bytes.readUInt16LE(at + 6)
    while (info < end) {
      const length = info + HANDLE_AT > end ? 0 : bytes.readUInt16LE(info + 2)
      if (length < HANDLE_AT || info + length > end) throw broken('has a truncated info', at, bytes)
      decodeInfo(bytes, info, length, record)
      info += length
    }
    records.push(record)
    at = end
  }
  return records
}

function decodeInfo(bytes: Buffer, at: number, length: number, record: FanotifyRecord): void {
  const type = bytes[at]
  if (type !== INFO.FID && !isPlace(type)) return
  if (length < NAME_AT) throw broken('has a truncated handle', at, bytes)
  const nameAt = at + NAME_AT + bytes.readUInt32LE(at + HANDLE_BYTES_AT)
  if (nameAt > at + length) throw broken('has a truncated handle', at, bytes)
  const handle = bytes.toString('latin1', at + HANDLE_AT, nameAt) as Handle
  if (type === INFO.FID) {
    record.target = handle
    return
  }
  let nameEnd = nameAt
  while (nameEnd < at + length && bytes[nameEnd] !== 0) nameEnd++
  const place = { directory: handle, name: bytes.toString('latin1', nameAt, nameEnd) as RawPath }
  if (type === INFO.OLD_DFID_NAME) record.from = place
  else record.place = place
}

const isPlace = (type: number | undefined): boolean =>
  type === INFO.DFID_NAME || type === INFO.OLD_DFID_NAME || type === INFO.NEW_DFID_NAME

const broken = (problem: string, at: number, bytes: Buffer): WatchError =>
  new WatchError('QUEUE_BROKEN', `fanotify queue: the record at byte ${at} of ${bytes.length} ${problem}`)
