// The thread of a DrainedQueue.
import { parentPort, workerData } from 'node:worker_threads'
import { BUSY, type DrainOrders, READ, TAKEN, weightOf } from './drained-queue.js'
import * as kernel from './kernel.js'
import { READ_BYTES } from './queue.js'

/** What waits for the main thread, a few times this in memory. Beyond it the kernel keeps the rest, or says that it could not. */
const WAITING_MAX_BYTES = 64 * 1024 * 1024
/** A thread that blocks in the kernel cannot be ended from outside, and whoever tries waits for so long at most. */
const BLOCK_MAX_MS = 1000

const { queue, stop, state: shared } = workerData as DrainOrders
const state = new Int32Array(shared)
const buffer = Buffer.alloc(READ_BYTES)

while (!isStopped()) {
  Atomics.store(state, BUSY, 1)
  const length = kernel.read(queue, buffer)
  if (length > 0) {
    Atomics.add(state, READ, weightOf(length))
    const bytes = new Uint8Array(buffer.subarray(0, length))
    parentPort!.postMessage(bytes, [bytes.buffer])
  }
  Atomics.store(state, BUSY, 0)
  if (length < 0 && length !== -kernel.ERRNO.EAGAIN) throw new Error(kernel.strerror(length))
  waitForRoom()
}

process.exit() // of this thread, whatever else may be alive in it

function isStopped(): boolean {
  return kernel.waitForAny([queue, stop], BLOCK_MAX_MS)[1]!
}

function waitForRoom(): void {
  for (;;) {
    const taken = Atomics.load(state, TAKEN)
    if (((Atomics.load(state, READ) - taken) | 0) <= WAITING_MAX_BYTES) return
    Atomics.wait(state, TAKEN, taken, BLOCK_MAX_MS)
  }
}
