import * as kernel from '../kernel.js'
import { type Mount, mountsWithin } from '../mounts.js'
import { isExcluded, isWithin, join, type RawPath, ROOT } from '../raw-path.js'
import { FAN, type FanotifyRecord, FSID_BYTES, type Handle, type Place } from './records.js'

/** Directories whose paths are remembered; then all are forgotten, and asked for again as they are needed. */
const KNOWN_MAX = 65_536

/** A filesystem that shows at or below the root. */
export interface Filesystem {
  mount: Mount
  /** '' when it cannot be opened. */
  fsid: string
}

/**
 * What the handles in records mean: paths of directories below the root, as they are now. A record may be older than that,
 * which is no harm: it only says where to look.
 */
export class Directories {
  /** undefined: not below the root, or excluded. Right until a directory is renamed. */
  readonly #known = new Map<Handle, RawPath | undefined>()
  readonly #filesystems = new Map<RawPath, Filesystem>()
  /** Descriptors on the mounts: a handle can only be opened by one, and while one is open nobody can unmount it. */
  readonly #descriptors = new Map<RawPath, number>()
  /** Where what was deleted in the records that are being read was. */
  #departed: Map<Handle, Place> | undefined
  /** What was found out about those that are gone, while the same records are read. */
  readonly #pathsOfGone = new Map<Handle, RawPath | undefined>()
  #lost = false
  #records: readonly FanotifyRecord[] = []

  /** `root` is absolute and has no symbolic link in it. */
  constructor(
    readonly root: RawPath,
    readonly exclude: ((path: RawPath, isDir: boolean) => boolean) | undefined,
  ) {}

  get filesystems(): ReadonlyMap<RawPath, Filesystem> {
    return this.#filesystems
  }

  add(filesystem: Filesystem): void {
    this.#filesystems.set(filesystem.mount.point, filesystem)
    // Of several places the one that is nearest to the root is asked first.
    const inOrder = [...this.#filesystems].sort(([a], [b]) => a.length - b.length)
    this.#filesystems.clear()
    for (const [point, one] of inOrder) this.#filesystems.set(point, one)
    this.forget()
  }

  remove(point: RawPath): void {
    this.#filesystems.delete(point)
    this.forget()
  }

  /**
   * Whether there was a directory that could not be found, though it may well be there: for lack of descriptors, or because
   * a mount is not at its path for now. Once.
   */
  takeLost(): boolean {
    const lost = this.#lost
    this.#lost = false
    return lost
  }

  /** Between `begin` and `end` mounts are held. */
  begin(records: readonly FanotifyRecord[]): void {
    this.#records = records
    this.#departed = undefined
    this.#pathsOfGone.clear()
  }

  end(): void {
    for (const fd of this.#descriptors.values()) kernel.close(fd)
    this.#descriptors.clear()
    this.#records = []
    this.#departed = undefined
    this.#pathsOfGone.clear()
  }

  /** A directory was renamed, or something was mounted: any path may be another one now. */
  forget(): void {
    this.#known.clear()
  }

  /** The directory is no more. */
  delete(handle: Handle): void {
    this.#known.delete(handle)
  }

  /** Root-relative; undefined when it is not below the root, excluded, or gone without a trace. */
  pathOf(handle: Handle): RawPath | undefined {
    const path = this.#pathOfLiving(handle)
    return path === 'gone' ? this.#pathOfGone(handle) : path
  }

  #pathOfLiving(handle: Handle): RawPath | 'gone' | undefined {
    const known = this.#known.get(handle)
    if (known !== undefined || this.#known.has(handle)) return known
    if (this.#pathsOfGone.has(handle)) return 'gone'
    const path = this.#resolve(handle)
    if (path === 'gone') return path
    if (this.#known.size >= KNOWN_MAX) this.#known.clear()
    this.#known.set(handle, path)
    return path
  }

  pathAt({ directory, name }: Place): RawPath | undefined {
    const path = this.pathOf(directory)
    if (path === undefined) return undefined
    return name === '.' ? path : join(path, name)
  }

  /** A descriptor of the directory, or the negative errno. */
  open(handle: Handle): number {
    let result = -kernel.ERRNO.ESTALE
    for (const filesystem of this.#of(handle)) {
      const mount = this.#descriptor(filesystem)
      result = mount < 0 ? mount : kernel.openDirectoryByHandle(mount, handle.slice(FSID_BYTES))
      if (result >= 0) break
    }
    return result
  }

  /**
   * Where a file is that is no directory, root-relative. Which one it is, when the kernel does not know its path. Undefined
   * when it is gone, or not below the root.
   */
  fileOf(handle: Handle): RawPath | kernel.Identity | undefined {
    for (const filesystem of this.#of(handle)) {
      const mount = this.#descriptor(filesystem)
      const fd = mount < 0 ? mount : kernel.openByHandle(mount, handle.slice(FSID_BYTES))
      if (mount < 0 || kernel.isShortage(fd)) this.#lost = true
      if (fd < 0) continue
      const found = this.#fileAt(fd, filesystem)
      kernel.close(fd)
      if (found !== undefined) return found
    }
    return undefined
  }

  #fileAt(fd: number, { mount }: Filesystem): RawPath | kernel.Identity | undefined {
    if (kernel.isDeleted(fd)) return undefined
    const absolute = kernel.pathOf(fd)
    if (absolute === '/' || typeof absolute === 'number') {
      const identity = kernel.identityOf(fd)
      return typeof identity === 'number' ? undefined : identity
    }
    const isHere = isWithin(absolute, mount.point) && isWithin(absolute, this.root)
    return isHere ? this.relative(absolute) : undefined
  }

  #of(handle: Handle): Filesystem[] {
    const fsid = handle.slice(0, FSID_BYTES)
    return [...this.#filesystems.values()].filter((filesystem) => filesystem.fsid === fsid)
  }

  #descriptor({ mount }: Filesystem): number {
    let fd = this.#descriptors.get(mount.point)
    if (fd === undefined) {
      fd = kernel.openDirectory(undefined, mount.point, true)
      if (fd >= 0) this.#descriptors.set(mount.point, fd)
    }
    return fd
  }

  #resolve(handle: Handle): RawPath | 'gone' | undefined {
    let gone = true
    // One filesystem may show at several places, and a directory then at one of them, at several, or at none.
    for (const filesystem of this.#of(handle)) {
      const mount = this.#descriptor(filesystem)
      const fd = mount < 0 ? mount : kernel.openByHandle(mount, handle.slice(FSID_BYTES))
      if (mount < 0 || kernel.isShortage(fd)) this.#lost = true
      if (fd < 0) continue
      const absolute = kernel.isDeleted(fd) ? undefined : pathOfDescriptor(fd)
      kernel.close(fd)
      if (absolute === undefined) continue
      gone = false
      // What does not show in this mount seems to be at its top.
      if (filesystem.mount.id !== '' && !isWithin(absolute, filesystem.mount.point)) continue
      const path = this.#below(absolute)
      if (path !== undefined) return path
    }
    return gone ? 'gone' : undefined
  }

  /** Root-relative, unless it is not below the root, or excluded. */
  #below(absolute: RawPath): RawPath | undefined {
    if (!isWithin(absolute, this.root)) return undefined
    const path = this.relative(absolute)
    return this.excludes(path) ? undefined : path
  }

  /** Of an absolute path at or below the root. */
  relative(absolute: RawPath): RawPath {
    if (absolute === this.root) return ROOT
    return absolute.slice(this.root === '/' ? 1 : this.root.length + 1) as RawPath
  }

  absolute(path: RawPath): RawPath {
    return path === ROOT ? this.root : join(this.root === '/' ? ROOT : this.root, path)
  }

  /** Whether this directory is excluded, or one above it. */
  excludes(path: RawPath): boolean {
    return isExcluded(path, this.exclude)
  }

  /**
   * A directory that is gone was somewhere: its own end, among the same records, says where. So may all be that it was in,
   * thousands of levels up: no step is taken twice.
   */
  #pathOfGone(handle: Handle): RawPath | undefined {
    const chain: { handle: Handle; name: RawPath }[] = []
    let path: RawPath | 'gone' | undefined = 'gone'
    for (let at = handle; path === 'gone' && !this.#pathsOfGone.has(at); ) {
      this.#pathsOfGone.set(at, undefined) // should what a kernel says be a loop, it ends here
      const place = this.#placeOfDeparted(at)
      if (place === undefined) break
      chain.push({ handle: at, name: place.name })
      at = place.directory
      path = this.#pathOfLiving(at)
      if (path === 'gone') path = this.#pathsOfGone.get(at) ?? path
    }
    let known = path === 'gone' ? undefined : path
    for (const { handle: child, name } of chain.reverse()) {
      if (known !== undefined) known = join(known, name)
      if (known !== undefined && this.exclude?.(known, true)) known = undefined
      this.#pathsOfGone.set(child, known)
    }
    return this.#pathsOfGone.get(handle)
  }

  #placeOfDeparted(handle: Handle): Place | undefined {
    if (this.#departed === undefined) {
      this.#departed = new Map()
      for (const { mask, target, place } of this.#records) {
        const ends = (mask & FAN.ONDIR) !== 0 && (mask & FAN.DELETE) !== 0
        if (ends && target !== undefined && place !== undefined) this.#departed.set(target, place)
      }
    }
    return this.#departed.get(handle)
  }
}

/** What shows at the root and below it, of all that is mounted. What cannot be opened has '' as its fsid. */
export function filesystemsWithin(root: RawPath): Filesystem[] {
  const found: Filesystem[] = []
  const mounts = mountsWithin(root)
  // What the root itself is on may be mounted far above it.
  if (!mounts.has(root)) mounts.set(root, { id: '', device: '', point: root })
  for (const mount of mounts.values()) {
    const fsid = kernel.withDirectory(mount.point, kernel.filesystemId)
    found.push({ mount, fsid: typeof fsid === 'string' ? fsid : '' })
  }
  return found
}

/** Undefined when it has none. */
function pathOfDescriptor(fd: number): RawPath | undefined {
  const path = kernel.pathOf(fd)
  if (path === -kernel.ERRNO.ENAMETOOLONG) return climb(fd)
  return typeof path === 'number' ? undefined : path
}

/** The path is longer than the kernel tells at once: the names are found from below, until the rest is short enough. */
function climb(from: number): RawPath | undefined {
  const names: RawPath[] = []
  let at = from
  try {
    for (;;) {
      const identity = kernel.identityOf(at)
      const above = kernel.openParent(at)
      if (at !== from) kernel.close(at)
      at = above
      if (above < 0 || typeof identity === 'number') return undefined
      const name = kernel.nameOfInode(above, identity.ino)
      if (name === undefined) return undefined
      names.push(name)
      const rest = kernel.pathOf(above)
      if (typeof rest !== 'number') return join(rest, names.reverse().join('/') as RawPath)
      if (rest !== -kernel.ERRNO.ENAMETOOLONG) return undefined
    }
  } finally {
    if (at !== from && at >= 0) kernel.close(at)
  }
}
