import { Readable } from 'node:stream'
import { asError, WatchError } from './errors.js'
import { decodeEvents, type InotifyEvent } from './events.js'
import { Directories, filesystemsWithin } from './fanotify/directories.js'
import { mendInit, mendMark } from './fanotify/problems.js'
import { decodeRecords, FAN, GROUP, type Place } from './fanotify/records.js'
import * as kernel from './kernel.js'
import { mend } from './limits.js'
import { KernelQueue, openInotify } from './queue.js'
import { fromBytes, printable, type RawPath } from './raw-path.js'

/** Events that nobody has taken yet; more are left in the kernel's queue. */
const TAKEN_MAX = 16_384

/** What a queue gives, for a reader who takes it when he likes; a loop that is left ends both. */
function readerOf(queue: () => KernelQueue): Readable {
  return new Readable({
    objectMode: true,
    highWaterMark: TAKEN_MAX,
    read: () => queue().resume(),
    destroy: (error, done) =>
      void queue()
        .close()
        .then(() => done(error)),
  })
}

function give(reader: Readable, queue: KernelQueue, events: readonly unknown[]): void {
  let wanted = true
  for (const event of events) wanted = reader.push(event)
  if (!wanted) queue.pause()
}

const pathOf = (path: Buffer | string): RawPath => fromBytes(typeof path === 'string' ? Buffer.from(path) : path)

/**
 * An inotify instance: watches are added and removed, and what the kernel tells comes in its order, whenever the reader asks
 * for it. While he does not, the kernel's queue fills (fs.inotify.max_queued_events), and ends in an event with
 * IN.Q_OVERFLOW. The machine's limits are left as they are.
 */
export class InotifyGroup implements AsyncIterable<InotifyEvent> {
  readonly #queue: KernelQueue
  readonly #reader = readerOf(() => this.#queue)

  private constructor() {
    this.#queue = openInotify(
      (bytes) => give(this.#reader, this.#queue, decodeEvents(bytes)),
      (error) => this.#reader.destroy(error),
    )
  }

  /** Throws WatchError INSTANCE_LIMIT or NO_INOTIFY, with the mend in its message. */
  static open(): InotifyGroup {
    return new InotifyGroup()
  }

  /**
   * Watches `path` for what is in `mask` (IN.*). Returns the watch descriptor that events about it carry: the same one for the
   * same inode, whose mask is replaced (or widened, with IN.MASK_ADD). Throws WatchError WATCH_LIMIT or CANNOT_WATCH.
   */
  add(path: Buffer | string, mask: number): number {
    const raw = pathOf(path)
    const wd = kernel.addWatchAt(this.#queue.fd, raw, mask)
    if (wd >= 0) return wd
    if (wd === -kernel.ERRNO.ENOSPC) {
      const problem = `cannot watch ${printable(raw)}: this user's limit of inotify watches is reached`
      throw new WatchError('WATCH_LIMIT', `${problem}. To mend it: ${mend('max_user_watches')}`)
    }
    throw new WatchError('CANNOT_WATCH', `cannot watch ${printable(raw)}: ${kernel.strerror(wd)}`)
  }

  /** False when there is no such watch. An event with IN.IGNORED ends what is told of it. */
  remove(wd: number): boolean {
    return kernel.removeWatch(this.#queue.fd, wd) >= 0
  }

  /** What has been read from the kernel is still given; then the iteration ends. */
  async close(): Promise<void> {
    this.#reader.push(null)
    await this.#queue.close()
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<InotifyEvent> {
    return this.#reader[Symbol.asyncIterator]()
  }
}

/** Something that happened to a name, somewhere on a filesystem. */
export interface FilesystemEvent {
  /**
   * FAN.*. Events on one name come as one, and the order in which they happened is lost: a file that was created, closed,
   * deleted and created again is one event with all these bits. What is there, the disk tells.
   */
  mask: number
  /**
   * Absolute; where it is now. Undefined when its directory is gone, or does not show below the group's root; and when the kernel
   * does not know it: a file was opened by its handle, as an NFS server does, and by name by nobody.
   */
  path: RawPath | undefined
  /** With FAN.RENAME: where it was. Undefined when that does not show below the group's root. */
  from: RawPath | undefined
  isDirectory: boolean
  /** It was told by a directory about itself, not by the one that it is in. */
  itself: boolean
}

/**
 * A fanotify group that watches whole filesystems: everything that shows below a directory, and everything elsewhere on the
 * same filesystems, of which no path is told. Nothing is lost however late it is read: the queue has no limit.
 */
export class FanotifyGroup implements AsyncIterable<FilesystemEvent> {
  readonly #queue: KernelQueue
  readonly #reader = readerOf(() => this.#queue)
  readonly #directories: Directories
  /** Whether it is told when directories are renamed: what they were called is remembered until then. */
  readonly #hearsRenames: boolean

  private constructor(root: RawPath, mask: number) {
    this.#directories = new Directories(root, undefined)
    this.#hearsRenames = (mask & FAN.RENAME) !== 0 && (mask & FAN.ONDIR) !== 0
    const group = kernel.fanotifyInit(GROUP)
    if (group < 0) throw new WatchError('NO_FANOTIFY', `fanotify_init: ${kernel.strerror(group)}${mendInit(group)}`)
    const queue = KernelQueue.of(
      group,
      'fanotify',
      (bytes) => give(this.#reader, this.#queue, this.#read(bytes)),
      (error) => this.#reader.destroy(error),
    )
    if (typeof queue === 'number') throw new WatchError('NO_FANOTIFY', `pipe: ${kernel.strerror(queue)}`)
    this.#queue = queue
  }

  /**
   * Watches the filesystems that show at and below `root`, a directory, for what is in `mask` (FAN.*); with `alone` only the
   * one that shows at `root`. What is mounted there later is not watched. Throws WatchError ROOT_UNREADABLE, or NO_FANOTIFY: it
   * takes CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH, a kernel from 5.17 on, and filesystems with file handles.
   */
  static open(root: Buffer | string, mask: number, { alone = false } = {}): FanotifyGroup {
    const found = kernel.withDirectory(pathOf(root), kernel.pathOf)
    if (typeof found === 'number')
      throw new WatchError('ROOT_UNREADABLE', `cannot open ${printable(pathOf(root))}: ${kernel.strerror(found)}`)
    const group = new FanotifyGroup(found, mask)
    try {
      const filesystems = filesystemsWithin(found).filter(
        ({ mount, fsid }) => mount.point === found || (!alone && fsid !== ''),
      )
      for (const filesystem of filesystems) group.#mark(filesystem.mount.point, mask, filesystem)
    } catch (error) {
      void group.close()
      throw asError(error)
    }
    return group
  }

  /** What has been read from the kernel is still given; then the iteration ends. */
  async close(): Promise<void> {
    this.#reader.push(null)
    await this.#queue.close()
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<FilesystemEvent> {
    return this.#reader[Symbol.asyncIterator]()
  }

  #mark(point: RawPath, mask: number, filesystem: Parameters<Directories['add']>[0]): void {
    const flags = FAN.MARK_ADD | FAN.MARK_FILESYSTEM
    const result = kernel.withDirectory(point, (fd) => kernel.fanotifyMark(this.#queue.fd, flags, mask, fd))
    if (result < 0) {
      const problem = `fanotify_mark ${printable(point)}: ${kernel.strerror(result)}${mendMark(result)}`
      throw new WatchError('NO_FANOTIFY', problem)
    }
    this.#directories.add(filesystem)
  }

  #read(bytes: Buffer): FilesystemEvent[] {
    const records = decodeRecords(bytes)
    this.#directories.begin(records)
    try {
      return records.flatMap(({ mask, place, from }) => {
        if (place === undefined && mask === FAN.ATTRIB) return [] // it has one name less, of which another record tells
        const isDirectory = (mask & FAN.ONDIR) !== 0
        if (isDirectory && mask & FAN.RENAME) this.#directories.forget()
        const itself = place?.name === '.'
        return [{ mask, path: this.#absolute(place), from: this.#absolute(from), isDirectory, itself }]
      })
    } finally {
      this.#directories.end()
      if (!this.#hearsRenames) this.#directories.forget()
    }
  }

  #absolute(place: Place | undefined): RawPath | undefined {
    const path = place === undefined ? undefined : this.#directories.pathAt(place)
    return path === undefined ? undefined : this.#directories.absolute(path)
  }
}
