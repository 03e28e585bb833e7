import { closeSync, openSync, readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import * as kernel from './kernel.js'
import type { RawPath } from './raw-path.js'

const MOUNTINFO = '/proc/self/mountinfo'

/** proc_pid_mountinfo(5), as far as it matters here. */
export interface Mount {
  id: string
  /** Absolute. */
  point: RawPath
  /** 'tmpfs', 'fuse.sshfs'. */
  type: string
}

/** What is mounted at or below an absolute path, by mount point: where several lie over each other, the one that shows. */
export function mountsWithin(directory: RawPath): Map<RawPath, Mount> {
  const below = directory === '/' ? '/' : `${directory}/`
  const found = new Map<RawPath, Mount>()
  for (const line of readFileSync(MOUNTINFO, 'latin1').split('\n')) {
    const [id, , , , escaped] = line.split(' ', 5)
    if (id === undefined || escaped === undefined) continue
    const point = escaped.replace(/\\([0-7]{3})/g, (_, octal) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    ) as RawPath
    const type = line.slice(line.indexOf(' - ') + 3).split(' ', 1)[0] ?? ''
    if (point === directory || point.startsWith(below)) found.set(point, { id, point, type })
  }
  return found
}

/**
 * Tells when something was mounted or unmounted anywhere. The kernel says so by an exceptional condition on mountinfo,
 * for which Node cannot wait; but an epoll instance that can is readable then, and on Node's event loop it is
 * a socket that fails to be read.
 */
export class MountWatch {
  #socket: Socket | undefined
  #mountinfo = -1
  #seen = ''
  #closed = false

  constructor(readonly onChange: () => void) {
    this.#seen = readFileSync(MOUNTINFO, 'latin1')
    this.#arm()
  }

  close(): void {
    this.#closed = true
    this.#disarm()
  }

  /** Without descriptors left it is deaf until the next change; a mount is no reason to end. */
  #arm(): void {
    this.#mountinfo = openSync(MOUNTINFO, 'r')
    const ends = kernel.pipe()
    if (typeof ends === 'number') return
    const [fd, otherEnd] = ends
    const epoll = kernel.pollExceptional(this.#mountinfo)
    const socket = new Socket({ fd, writable: false, readable: true })
    if (epoll >= 0) {
      kernel.replaceDescriptor(epoll, fd)
      kernel.close(epoll)
    }
    kernel.close(otherEnd)
    socket.on('error', () => {
      if (this.#socket !== socket) return
      this.#disarm()
      this.#arm()
      this.#look()
    })
    socket.resume().unref()
    this.#socket = socket
    // The condition is told once, to whoever asks first: that is Node when it begins to wait, and it asks again then.
    setImmediate(() => setImmediate(() => this.#look()))
  }

  #disarm(): void {
    this.#socket?.destroy()
    this.#socket = undefined
    if (this.#mountinfo >= 0) closeSync(this.#mountinfo)
    this.#mountinfo = -1
  }

  #look(): void {
    if (this.#closed) return
    const now = readFileSync(MOUNTINFO, 'latin1')
    if (now === this.#seen) return
    this.#seen = now
    this.onChange()
  }
}
