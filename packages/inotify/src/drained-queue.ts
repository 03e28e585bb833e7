import { Worker } from 'node:worker_threads'
import { asError } from './errors.js'
import { encodeEvents, IN } from './events.js'
import * as kernel from './kernel.js'
import { mend, type Notice, queueIsLong } from './limits.js'
import { cannotInit, type EventQueue, type KernelQueue, openInotify } from './queue.js'
import { ROOT } from './raw-path.js'

/** What the thread that empties the queue is given. */
export interface DrainOrders {
  /** Of inotify. */
  queue: number
  /** Readable when it shall end. */
  stop: number
  state: SharedArrayBuffer
}

/** Places in the shared state. Bytes are counted modulo 2^32. */
export const BUSY = 0
export const READ = 1
export const TAKEN = 2
const STATE_BYTES = 12

/** What a message of so many bytes counts: V8 holds something for each, however small. */
export const weightOf = (length: number): number => length + 512

/** Ends of the pipes by which threads are told to stop: at the end of the process, too, which would wait for them. */
const stops = new Set<number>()
function stopAll(): void {
  for (const end of stops) kernel.close(end)
}

/** Takes over an inotify instance, of which as little as possible is lost while this thread is busy. Throws WatchError. */
export function openSafely(
  inotify: number,
  onBytes: (bytes: Buffer) => void,
  onError: (error: Error) => void,
  notice: Notice,
): EventQueue {
  if (queueIsLong()) return openInotify(onBytes, onError, inotify)
  return new DrainedQueue(inotify, onBytes, onError, notice)
}

/**
 * An inotify queue that a thread of its own empties, so that what happens while this one is busy waits here, where there is room,
 * and not in the kernel, where there may be none. It makes an event a tenth of a millisecond later (0.20 ms instead of 0.10),
 * so it is only for queues that are short. Should the thread fail, this one reads.
 */
class DrainedQueue implements EventQueue {
  readonly #state = new Int32Array(new SharedArrayBuffer(STATE_BYTES))
  /** Resolves when there is no thread, any more. */
  #ended: Promise<void> = Promise.resolve()
  /** A pipe, whose end of input is the order to stop. */
  readonly #stop: [number, number]
  /** Once the thread has failed. */
  #direct: KernelQueue | undefined
  #isOurs = true
  #closing: Promise<void> | undefined

  /** Throws WatchError INSTANCE_LIMIT. */
  constructor(
    readonly inotify: number,
    readonly onBytes: (bytes: Buffer) => void,
    readonly onError: (error: Error) => void,
    readonly notice: Notice,
  ) {
    const ends = kernel.pipe()
    if (typeof ends === 'number') {
      kernel.close(inotify)
      throw cannotInit(ends)
    }
    this.#stop = ends
    if (stops.size === 0) process.once('exit', stopAll)
    stops.add(ends[1])
    try {
      this.#ended = this.#startThread()
    } catch (thrown) {
      this.#startWithout(asError(thrown))
    }
  }

  #startWithout(reason: Error): void {
    try {
      this.#readDirectly(reason.message)
    } catch (thrown) {
      kernel.close(this.#stop[0])
      throw thrown
    }
  }

  get fd(): number {
    return this.#direct?.fd ?? this.inotify
  }

  get isEmpty(): boolean {
    if (this.#direct !== undefined) return this.#direct.isEmpty
    // In this order: what the thread has taken from the kernel it says before it is not busy any more.
    if (kernel.queuedBytes(this.inotify) !== 0) return false
    if (Atomics.load(this.#state, BUSY) !== 0) return false
    return Atomics.load(this.#state, READ) === Atomics.load(this.#state, TAKEN)
  }

  close(): Promise<void> {
    this.#closing ??= this.#end()
    return this.#closing
  }

  async #end(): Promise<void> {
    this.#endThread()
    await this.#ended
    kernel.close(this.#stop[0])
    if (this.#isOurs) kernel.close(this.inotify)
    await this.#direct?.close()
  }

  #endThread(): void {
    const [, writing] = this.#stop
    if (!stops.delete(writing)) return
    kernel.close(writing)
    if (stops.size === 0) process.off('exit', stopAll)
  }

  /** Throws when there are no threads to be had. */
  #startThread(): Promise<void> {
    const orders: DrainOrders = { queue: this.inotify, stop: this.#stop[0], state: this.#state.buffer }
    // Without what the program was started with: preloads, or a kind of input that is no file.
    const thread = new Worker(new URL('./drain.js', import.meta.url), { workerData: orders, execArgv: [], env: {} })
    let reason = 'it has ended'
    thread.on('error', (error) => {
      reason = error.message
    })
    thread.on('message', (bytes: Uint8Array) => this.#take(bytes))
    return new Promise((resolve) =>
      thread.once('exit', () => {
        resolve()
        if (this.#closing !== undefined) return
        try {
          this.#readDirectly(reason)
        } catch (thrown) {
          this.onError(asError(thrown))
        }
      }),
    )
  }

  #take(bytes: Uint8Array): void {
    Atomics.add(this.#state, TAKEN, weightOf(bytes.length))
    Atomics.notify(this.#state, TAKEN)
    this.#handOver(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  }

  #handOver(bytes: Buffer): void {
    if (this.#closing !== undefined) return
    try {
      this.onBytes(bytes)
    } catch (thrown) {
      this.onError(asError(thrown))
    }
  }

  /** The thread may have taken from the kernel what it did not say. Throws WatchError. */
  #readDirectly(reason: string): void {
    this.#endThread()
    this.notice(
      `no thread can empty the inotify queue (${reason}): it may overflow. To mend it: ${mend('max_queued_events')}`,
    )
    this.#isOurs = false
    this.#direct = openInotify(this.onBytes, this.onError, this.inotify)
    if (Atomics.load(this.#state, READ) === 0 && Atomics.load(this.#state, BUSY) === 0) return
    setImmediate(() => this.#handOver(encodeEvents([{ wd: -1, mask: IN.Q_OVERFLOW, cookie: 0, name: ROOT }])))
  }
}
