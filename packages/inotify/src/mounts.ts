import { closeSync, openSync, readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import * as kernel from './kernel.js'
import { isWithin, type RawPath } from './raw-path.js'

const MOUNTINFO = '/proc/self/mountinfo'
const RETRY_MS = 1000

/** proc_pid_mountinfo(5), as far as it matters here. */
export interface Mount {
  id: string
  /** Of the filesystem: 'major:minor'. */
  device: string
  /** Absolute. */
  point: RawPath
}

/** What is mounted at or below an absolute path, by mount point: where several lie over each other, the one that shows. */
export function mountsWithin(directory: RawPath): Map<RawPath, Mount> {
  const found = new Map<RawPath, Mount>()
  for (const line of readFileSync(MOUNTINFO, 'latin1').split('\n')) {
    const [id, , device, , escaped] = line.split(' ', 5)
    if (id === undefined || device === undefined || escaped === undefined) continue
    const point = unescaped(escaped)
    if (isWithin(point, directory)) found.set(point, { id, device, point })
  }
  return found
}

/** A path as the kernel and mount tools write it, with spaces and the like in octal. */
export const unescaped = (path: string): RawPath =>
  path.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))) as RawPath

/** Whether the filesystem shows anywhere. */
export const isMounted = (device: string): boolean =>
  [...mountsWithin('/' as RawPath).values()].some((mount) => mount.device === device)

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

  /** Without descriptors left it tries again. */
  #arm(): void {
    if (this.#closed) return
    try {
      this.#listen()
    } catch {
      this.#disarm()
      setTimeout(() => this.#armAndLook(), RETRY_MS).unref()
    }
  }

  #armAndLook(): void {
    this.#arm() // first, so that what is mounted from now on is told, too
    this.look()
  }

  /** Throws what the kernel says. */
  #listen(): void {
    this.#mountinfo = openSync(MOUNTINFO, 'r')
    const epoll = kernel.pollExceptional(this.#mountinfo)
    if (epoll < 0) throw new Error(kernel.errnoName(epoll))
    const ends = kernel.pipe()
    if (typeof ends === 'number') {
      kernel.close(epoll)
      throw new Error(kernel.errnoName(ends))
    }
    const [fd, otherEnd] = ends
    const socket = new Socket({ fd, writable: false, readable: true })
    kernel.replaceDescriptor(epoll, fd)
    kernel.close(epoll)
    kernel.close(otherEnd)
    socket.on('error', () => {
      if (this.#socket !== socket) return
      this.#disarm()
      this.#armAndLook()
    })
    socket.resume().unref()
    this.#socket = socket
    // The condition is told once, to whoever asks first: that is Node when it begins to wait, and it asks again then.
    setImmediate(() => setImmediate(() => this.look()))
  }

  #disarm(): void {
    this.#socket?.destroy()
    this.#socket = undefined
    if (this.#mountinfo >= 0) closeSync(this.#mountinfo)
    this.#mountinfo = -1
  }

  /** Tells of what has changed by now: paths of mounts change with a directory that they are in, and nobody is told. */
  look(): void {
    if (this.#closed) return
    let now: string
    try {
      now = readFileSync(MOUNTINFO, 'latin1')
    } catch {
      setTimeout(() => this.look(), RETRY_MS).unref()
      return
    }
    if (now === this.#seen) return
    this.#seen = now
    this.onChange()
  }
}
