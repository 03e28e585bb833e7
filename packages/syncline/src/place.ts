import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, statSync } from 'node:fs'
import { ConnectError, printable, type RawPath, RERR, RemoteError, toBytes } from '@syncline/rsync'

/** What a local directory was when it was written to last: that outlives us. */
export interface PlaceMemory {
  load(): Promise<string | undefined>
  keep(text: string | undefined): void
}

interface Found {
  /** Where its filesystem is mounted, and which one that is: numbers of devices change, and so they are not part of it. */
  mount: string
  filesystem: string
  directory: string
}

const MOUNTS_MAX = 64 << 20

/**
 * A local directory as DEST. Its filesystem may be unmounted at any time, and what is at its path then belongs to another
 * one: nothing is written there. A directory that was there and is gone is not made again.
 */
export class Place {
  #known: Found | undefined
  #loaded = false
  /** What #known was found at: as long as these are the same, it is. */
  #seen = ''
  /** It waits for what was there, or for somebody who says that this is right. */
  #refuses = false

  /** `onReplaced` is called when another directory of the same filesystem is at the path, which has to be filled. */
  constructor(
    readonly path: RawPath,
    readonly memory: PlaceMemory,
    readonly onReplaced: () => void,
  ) {}

  /**
   * Throws ConnectError when it is not what it was, RemoteError when it cannot be had. Makes it when it never was there.
   * Resolves to whether it has been replaced.
   */
  async check(): Promise<boolean> {
    if (!this.#loaded) this.#known = parsed(await this.memory.load())
    this.#loaded = true
    const before = this.#known
    closeSync(this.open())
    return before !== undefined && this.#known !== before
  }

  /** A descriptor of the directory. Throws as `check` does. */
  open(): number {
    const fd = this.#openOrMake()
    try {
      this.#compare(fd)
      this.#refuses = false
      return fd
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Somebody has looked, and what is there now, or nothing, is right. False when that was never in doubt. */
  accept(): boolean {
    if (!this.#refuses) return false
    this.#refuses = false
    this.#known = undefined
    this.#seen = ''
    this.memory.keep(undefined)
    return true
  }

  #doubt(problem: string): ConnectError {
    this.#refuses = true
    return new ConnectError(problem)
  }

  #openOrMake(): number {
    try {
      return openSync(toBytes(this.path), constants.O_RDONLY | constants.O_DIRECTORY)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw refusal(this.path, error, RERR.FILESELECT)
    }
    if (this.#known !== undefined)
      throw this.#doubt(
        `the directory ${printable(this.path)} is gone: nothing is written. It goes on when it is there again; to have it made anew, run "syncline resume"`,
      )
    try {
      mkdirSync(toBytes(this.path))
      return openSync(toBytes(this.path), constants.O_RDONLY | constants.O_DIRECTORY)
    } catch (error) {
      throw refusal(this.path, error, RERR.FILEIO)
    }
  }

  #compare(fd: number): void {
    const stat = fstatSync(fd, { bigint: true })
    const mountId = /^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? ''
    const seen = `${mountId} ${stat.dev} ${identity(stat)}`
    if (seen === this.#seen) return
    const found = find(mountId, stat)
    const known = this.#known
    if (known !== undefined && (known.mount !== found.mount || known.filesystem !== found.filesystem))
      throw this.#doubt(
        `${printable(this.path)} is not on the filesystem that it was on, at ${printable(known.mount)} (unmounted, or another one is mounted): nothing is written. It goes on when that is back; if this one is right, run "syncline resume"`,
      )
    this.#seen = seen
    if (known?.directory === found.directory) return
    this.#known = found
    this.memory.keep(JSON.stringify(found))
    if (known !== undefined) this.onReplaced()
  }
}

interface Identity {
  ino: bigint
  birthtimeNs: bigint
}

function find(mountId: string, directory: Identity & { dev: bigint }): Found {
  const { mount, source } = mountOf(mountId)
  const root: Identity = mount === '' ? directory : statSync(toBytes(mount as RawPath), { bigint: true })
  // Where a filesystem does not say when its root was made, what was mounted has to do.
  const filesystem = root.birthtimeNs === 0n ? `${root.ino} ${source || directory.dev}` : identity(root)
  return { mount, filesystem: mount === '/' ? '' : filesystem, directory: identity(directory) }
}

const identity = ({ ino, birthtimeNs }: Identity) => `${ino} ${birthtimeNs}`

/** Where the mount with this number is, and what it is of (proc_pid_mountinfo(5)). */
function mountOf(id: string): { mount: string; source: string } {
  const lines = readFileSync('/proc/self/mountinfo', 'latin1').slice(0, MOUNTS_MAX)
  const line = lines.split('\n').find((one) => one.startsWith(`${id} `))
  if (line === undefined) return { mount: '', source: '' }
  const [own, behind = ''] = line.split(' - ')
  const [, , , root, mount] = own.split(' ')
  const [type, device] = behind.split(' ')
  const plain = (text: string) =>
    text.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  return { mount: plain(mount), source: `${type} ${device} ${root}` }
}

function parsed(text: string | undefined): Found | undefined {
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Found)
  } catch {
    return undefined
  }
}

const LASTING: Record<string, string> = {
  ENOENT: 'there is no directory to make it in; make that first',
  ENOTDIR: 'it, or something above it, is not a directory',
  EACCES: 'Permission denied (13)',
  EROFS: 'Read-only file system (30)',
}

/** What is the same tomorrow unless somebody mends it is refused; anything else passes. */
function refusal(path: RawPath, error: unknown, exitCode: number): Error {
  const { code = '', message } = error as NodeJS.ErrnoException
  const problem = LASTING[code]
  if (problem === undefined) return new ConnectError(`${printable(path)}: ${message}`)
  return new RemoteError('refused', `DEST "${printable(path)}": ${problem}`, exitCode)
}
