import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

/**
 * One end of a connection that never leaves the process: a local copy is a sender and a receiver joined by one. What is
 * written is the reader's from then on: nothing is copied.
 */
export class MemorySocket extends Duplex {
  bytesRead = 0
  bytesWritten = 0
  other: MemorySocket | undefined
  #release: (() => void) | undefined

  constructor() {
    super({ allowHalfOpen: true, readableHighWaterMark: 1 << 20, writableHighWaterMark: 1 << 20 })
  }

  setNoDelay(): this {
    return this
  }

  override _read(): void {
    const release = this.#release
    this.#release = undefined
    release?.()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const { other } = this
    this.bytesWritten += chunk.length
    if (other === undefined || other.destroyed) return done()
    other.bytesRead += chunk.length
    const room = other.push(chunk)
    if (room) done()
    else other.#release = done
  }

  override _final(done: () => void): void {
    if (this.other?.destroyed === false) this.other.push(null)
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this
    this.#release?.()
    if (other !== undefined && !other.destroyed) {
      // Whoever waits at the other end learns that nothing will come.
      other.push(null)
    }
    done(error)
  }
}

/** Two sockets that are connected to each other. */
export function memoryPair(): [Socket, Socket] {
  const [a, b] = [new MemorySocket(), new MemorySocket()]
  a.other = b
  b.other = a
  return [a as unknown as Socket, b as unknown as Socket]
}
