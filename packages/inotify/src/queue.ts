import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net'
import { asError, WatchError } from './errors.js'
import * as kernel from './kernel.js'
import { mend, type Notice, raiseInstances, raiseQueuedEvents } from './limits.js'

/** 5,000 to 16,000 events of inotify. */
export const READ_BYTES = 256 * 1024

/** Where events come from. */
export interface EventQueue {
  readonly fd: number
  /** Nothing waits, neither in the kernel nor here. */
  readonly isEmpty: boolean
  close(): Promise<void>
}

/**
 * A queue of the kernel's, of inotify or of fanotify, on Node's event loop.
 *
 * Node watches no arbitrary descriptor, but it does watch a pipe; so we give it one, and then dup3() the queue's descriptor
 * over it. Compared with a blocking fs.read this holds no thread (four such reads starve the whole pool), wakes up in
 * a fifth of the time, and closes like any socket.
 */
export class KernelQueue implements EventQueue {
  readonly #socket: Socket
  readonly #closed: Promise<void>
  #resting: NodeJS.Timeout | undefined
  #paused = false

  private constructor(
    readonly fd: number,
    readonly name: string,
    onBytes: (bytes: Buffer) => void,
    onError: (error: Error) => void,
  ) {
    const callback = (length: number, buffer: Uint8Array): boolean => {
      try {
        onBytes(Buffer.from(buffer.buffer, buffer.byteOffset, length))
      } catch (thrown) {
        onError(asError(thrown))
      }
      return this.#resting === undefined && !this.#paused
    }
    const options: SocketConstructorOpts & ConnectOpts = {
      fd,
      writable: false,
      onread: { buffer: Buffer.alloc(READ_BYTES), callback },
    }
    this.#socket = new Socket(options)
    this.#closed = new Promise((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.on('error', (cause) =>
      onError(new WatchError('QUEUE_BROKEN', `${name} queue: ${cause.message}`, { cause })),
    )
  }

  /**
   * Takes `descriptor` over. `onBytes` gets whole records; the buffer is reused after it returns. Returns the negative errno
   * when there are no descriptors left.
   */
  static of(
    descriptor: number,
    name: string,
    onBytes: (bytes: Buffer) => void,
    onError: (error: Error) => void,
  ): KernelQueue | number {
    const ends = kernel.pipe()
    if (typeof ends === 'number') {
      kernel.close(descriptor)
      return ends
    }
    const [fd, otherEnd] = ends
    const queue = new KernelQueue(fd, name, onBytes, onError) // Node looks at the descriptor's type only here
    kernel.replaceDescriptor(descriptor, fd)
    kernel.close(descriptor)
    kernel.close(otherEnd)
    return queue
  }

  get isEmpty(): boolean {
    return kernel.queuedBytes(this.fd) === 0
  }

  /** Reads nothing for so long: what comes meanwhile is one read, and not many. */
  rest(ms: number): void {
    this.#resting ??= setTimeout(() => {
      this.#resting = undefined
      this.#socket.resume()
    }, ms)
    this.#socket.pause()
  }

  /** Leaves what comes in the kernel's queue. */
  pause(): void {
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    this.#paused = false
    this.#socket.resume()
  }

  close(): Promise<void> {
    clearTimeout(this.#resting)
    this.#socket.destroy()
    return this.#closed
  }
}

/** An inotify instance. Throws WatchError INSTANCE_LIMIT or NO_INOTIFY. */
export function openInotify(
  onBytes: (bytes: Buffer) => void,
  onError: (error: Error) => void,
  inotify = kernel.inotifyInit(),
): KernelQueue {
  if (inotify < 0) throw cannotInit(inotify)
  const queue = KernelQueue.of(inotify, 'inotify', onBytes, onError)
  if (typeof queue === 'number') throw cannotInit(queue)
  return queue
}

/** The descriptor of an instance, for which limits are raised where they may be. Throws WatchError INSTANCE_LIMIT or NO_INOTIFY. */
export function initInotify(notice: Notice): number {
  raiseQueuedEvents(notice)
  let inotify = kernel.inotifyInit()
  while (inotify === -kernel.ERRNO.EMFILE && raiseInstances(notice)) inotify = kernel.inotifyInit()
  if (inotify < 0) throw cannotInit(inotify)
  return inotify
}

export function cannotInit(errno: number): WatchError {
  const name = kernel.errnoName(errno)
  if (errno === -kernel.ERRNO.EMFILE || errno === -kernel.ERRNO.ENFILE) {
    const text = `cannot make an inotify instance: ${name}. Either this user has too many: ${mend('max_user_instances')}; or this process has too many open files: ulimit -n`
    return new WatchError('INSTANCE_LIMIT', text)
  }
  return new WatchError('NO_INOTIFY', `cannot make an inotify instance: ${name}`)
}
