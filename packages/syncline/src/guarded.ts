import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { TreeWatcher } from '@syncline/inotify'
import { printable, type RawPath, toBytes } from '@syncline/rsync'
import type { Logger } from 'pino'
import { type Action, ActionQueue } from './actions.js'
import { ConfigError } from './errors.js'
import { readSmallFile } from './options.js'

/** Whoever writes a file in several steps is to be done with it. */
const SETTLE_MS = 50
const FILES_MAX = 10_000
const FILE_MAX = 64 << 20
const TOTAL_MAX = 1 << 30
const INDEX_MAX = 64 << 20
/** Somebody who puts a file back as often as we do is a matter for people. */
const RESTORES_MAX = 5
const RESTORES_MS = 60_000
/** In place of the content of what cannot be read, with what says that it has changed. */
const UNREAD = 'unread:'

/** A file, or a tree, that is not to change without being noticed. */
export interface GuardOptions {
  path: RawPath
  /** Put the kept good copy back. */
  restore: boolean
  actions: readonly Action[]
}

/** What one name is, as far as it is guarded. */
interface State {
  type: 'file' | 'directory' | 'symlink' | 'other'
  mode: number
  uid: number
  gid: number
  /** SHA-256 of a file's content, or a symlink's target; latin1. */
  content: string
}

interface Difference {
  relative: RawPath
  kind: 'changed' | 'deleted' | 'created'
}

/** Keeps what a guarded path was, says when it is no longer, and puts it back if that is asked for. */
export class GuardedPath {
  readonly #queues: ActionQueue[]
  #watcher: TreeWatcher | undefined
  #good = new Map<RawPath, State>()
  /** What was read of files, while their inode says that nothing has changed. */
  readonly #read = new Map<RawPath, { stamp: string; content: string }>()
  readonly #restored = new Map<RawPath, number[]>()
  /** Reported, and left as it is. */
  readonly #left = new Map<RawPath, string>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    readonly options: GuardOptions,
    /** Where the good copy is kept; only we may read it. */
    readonly directory: string,
    readonly log: Logger,
    readonly onFatal: (error: Error) => void,
  ) {
    this.#queues = options.actions.map((action) => new ActionQueue(action, options.path, log))
  }

  get name(): string {
    return printable(this.options.path)
  }

  /** Takes what is there as good when nothing was kept; otherwise says what has changed since. Throws ConfigError. */
  async start(): Promise<void> {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 })
    const { path } = this.options
    const tree = lstatSync(toBytes(path), { throwIfNoEntry: false })?.isDirectory() === true
    const root = tree ? path : (dirname(path) as RawPath)
    const own = path.slice(root === '/' ? 1 : root.length + 1)
    try {
      this.#watcher = await TreeWatcher.open(toBytes(root), {
        // Of a file only its own name matters in the directory that it is in.
        exclude: (name) => !tree && name !== own,
        onHints: () => this.#lookSoon(),
        onError: (error) => this.onFatal(error),
        onNotice: (line) => this.log.warn(line),
      })
    } catch (error) {
      throw new ConfigError(`guard ${this.name}: ${(error as Error).message}`)
    }
    const kept = this.#load()
    if (kept === undefined) this.accept()
    else {
      this.#good = kept
      this.#look()
    }
  }

  /** Somebody has looked: what is there now is the good copy. Throws ConfigError when it is too much to keep. */
  accept(): void {
    this.#left.clear()
    this.#restored.clear()
    this.#good = this.#scan()
    this.#save()
    this.log.info(`guarding ${this.name}: ${this.#good.size} names`)
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#watcher?.close()
    await Promise.all(this.#queues.map((queue) => queue.close()))
  }

  #lookSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      this.#look()
    }, SETTLE_MS)
  }

  #look(): void {
    try {
      const now = this.#scan()
      for (const one of differences(this.#good, now)) this.#report(one, now.get(one.relative))
      if (!this.options.restore) this.#save()
    } catch (error) {
      this.log.error(`guard ${this.name}: ${(error as Error).message}`)
    }
  }

  #report({ relative, kind }: Difference, now: State | undefined): void {
    // What was reported and could not be put back is not reported again while it stays so.
    if (this.#left.get(relative) === textOf(now)) return
    const path = this.#absolute(relative)
    this.log.warn(`guarded: ${printable(path)} was ${kind}`)
    const directory = (now ?? this.#good.get(relative))?.type === 'directory'
    for (const queue of this.#queues)
      queue.add({ path, relative, kind: kind === 'deleted' ? 'deleted' : 'changed', directory })
    const good = this.#good.get(relative)
    if (this.options.restore && good !== undefined && this.#mayRestore(relative)) {
      try {
        this.#restore(path, good)
        this.log.warn(`guarded: ${printable(path)} was put back`)
        return
      } catch (error) {
        this.log.error(`guarded: ${printable(path)} could not be put back: ${(error as Error).message}`)
      }
    }
    if (this.options.restore) this.#left.set(relative, textOf(now))
    else if (now === undefined) this.#good.delete(relative)
    else this.#good.set(relative, now)
  }

  #mayRestore(relative: RawPath): boolean {
    const nowMs = Date.now()
    const recent = (this.#restored.get(relative) ?? []).filter((atMs) => atMs > nowMs - RESTORES_MS)
    if (recent.length >= RESTORES_MAX) {
      this.log.error(
        `guarded: ${printable(this.#absolute(relative))} was put back ${RESTORES_MAX} times within a minute and is left alone now; find who changes it, then run "syncline accept"`,
      )
      return false
    }
    this.#restored.set(relative, [...recent, nowMs])
    return true
  }

  /** Beside it and then renamed, so that nobody sees half of it. */
  #restore(path: RawPath, { type, mode, uid, gid, content }: State): void {
    checkSafe(dirname(path))
    const beside = toBytes(`${path}.${randomBytes(6).toString('hex')}~` as RawPath)
    const at = toBytes(path)
    const there = lstatSync(at, { throwIfNoEntry: false })
    if (type === 'directory') {
      if (there !== undefined && !there.isDirectory()) rmSync(at)
      if (!there?.isDirectory()) mkdirSync(at)
    } else if (type === 'symlink') symlinkSync(Buffer.from(content, 'latin1'), beside)
    else if (type === 'file') {
      const bytes = readFileSync(join(this.directory, content))
      writeFileSync(beside, bytes, { flag: 'wx', mode: 0o600 })
    } else throw new Error('it was neither a file, nor a directory or symlink')
    const made = type === 'directory' ? at : beside
    lchownSync(made, uid, gid)
    if (type !== 'symlink') chmodSync(made, mode)
    if (type === 'directory') return
    if (there?.isDirectory()) rmSync(at, { recursive: true })
    renameSync(beside, at)
  }

  #absolute(relative: RawPath): RawPath {
    return (relative === '' ? this.options.path : join(this.options.path, relative)) as RawPath
  }

  /** Everything there is. Throws ConfigError when it is too much. */
  #scan(): Map<RawPath, State> {
    const found = new Map<RawPath, State>()
    let total = 0
    const open: RawPath[] = ['' as RawPath]
    for (let relative = open.pop(); relative !== undefined; relative = open.pop()) {
      const path = toBytes(this.#absolute(relative))
      const stat = lstatSync(path, { throwIfNoEntry: false, bigint: true })
      if (stat === undefined) continue
      const type = stat.isFile()
        ? 'file'
        : stat.isDirectory()
          ? 'directory'
          : stat.isSymbolicLink()
            ? 'symlink'
            : 'other'
      let content = ''
      if (type === 'symlink') content = readlinkSync(path, { encoding: 'latin1' as BufferEncoding })
      if (type === 'file') {
        total += Number(stat.size)
        const stamp = `${stat.dev}:${stat.ino}:${stat.ctimeNs}:${stat.size}`
        content = this.#contentOf(relative, path, stamp)
      }
      const owner = { uid: Number(stat.uid), gid: Number(stat.gid) }
      found.set(relative, { type, mode: Number(stat.mode) & 0o7777, ...owner, content })
      if (type === 'directory')
        for (const name of readdirSync(path, { encoding: 'latin1' as BufferEncoding }))
          open.push((relative === '' ? name : `${relative}/${name}`) as RawPath)
      if (found.size > FILES_MAX || total > TOTAL_MAX)
        throw new ConfigError(`guard ${this.name}: more than ${FILES_MAX} names or 1 GiB; name what matters in it`)
    }
    for (const relative of this.#read.keys()) if (!found.has(relative)) this.#read.delete(relative)
    return found
  }

  #contentOf(relative: RawPath, path: Buffer, stamp: string): string {
    const known = this.#read.get(relative)
    if (known?.stamp === stamp) return known.content
    let fd: number
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    } catch {
      return `${UNREAD}${stamp}` // it is guarded all the same: any change of it changes this
    }
    try {
      const stat = fstatSync(fd)
      if (!stat.isFile() || stat.size > FILE_MAX) return `${UNREAD}${stamp}`
      const bytes = readFileSync(fd)
      const content = createHash('sha256').update(bytes).digest('hex')
      this.#read.set(relative, { stamp, content })
      return content
    } finally {
      closeSync(fd)
    }
  }

  #load(): Map<RawPath, State> | undefined {
    try {
      const text = readSmallFile(join(this.directory, 'index'), INDEX_MAX).toString('latin1')
      return new Map(JSON.parse(text) as [RawPath, State][])
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new ConfigError(
        `guard ${this.name}: what was kept cannot be read (${(error as Error).message}); look at ${this.name}, then remove ${this.directory}`,
      )
    }
  }

  #save(): void {
    const wanted = new Set(['index'])
    if (this.options.restore) {
      for (const [relative, { type, content }] of this.#good) {
        if (type !== 'file' || wanted.has(content) || content.startsWith(UNREAD)) continue
        wanted.add(content)
        const copy = join(this.directory, content)
        if (lstatSync(copy, { throwIfNoEntry: false }) !== undefined) continue
        const bytes = readSmallFile(toBytes(this.#absolute(relative)), FILE_MAX)
        if (createHash('sha256').update(bytes).digest('hex') !== content)
          throw new ConfigError(
            `guard ${printable(this.#absolute(relative))}: it changed while it was copied; see who changes it`,
          )
        writeFileSync(`${copy}~`, bytes, { mode: 0o600 })
        renameSync(`${copy}~`, copy)
      }
    }
    const index = join(this.directory, 'index')
    writeFileSync(`${index}~`, Buffer.from(JSON.stringify([...this.#good]), 'latin1'), { mode: 0o600 })
    renameSync(`${index}~`, index)
    for (const name of readdirSync(this.directory)) if (!wanted.has(name)) rmSync(join(this.directory, name))
  }
}

/**
 * Throws when somebody other than root or ourselves can change a name on the way to this directory: then what we do
 * below it might be led elsewhere.
 */
function checkSafe(directory: string): void {
  const own = [0, process.getuid?.() ?? 0]
  let path = ''
  let sticky = false
  for (const name of ['', ...directory.split('/').filter((part) => part !== '')]) {
    path = name === '' ? '/' : `${path === '/' ? '' : path}/${name}`
    const stat = lstatSync(Buffer.from(path, 'latin1'))
    const open = (stat.mode & 0o022) !== 0
    // In a directory like /tmp others cannot rename what is ours.
    if (!stat.isDirectory() || !own.includes(stat.uid) || (open && (stat.mode & 0o1000) === 0))
      throw new Error(
        `${printable(path)} is no directory, or others than root may change names in it${sticky ? ' or above' : ''}`,
      )
    sticky = open
  }
  if (sticky) throw new Error(`everybody may make names in ${printable(directory)}`)
}

const textOf = (state: State | undefined) => JSON.stringify(state ?? null)

function differences(good: ReadonlyMap<RawPath, State>, now: ReadonlyMap<RawPath, State>): Difference[] {
  const found: Difference[] = []
  // What is above comes first: it has to be there before what is below it can be put back.
  for (const [relative, state] of good) {
    const other = now.get(relative)
    if (other === undefined) found.push({ relative, kind: 'deleted' })
    else if (textOf(other) !== textOf(state)) found.push({ relative, kind: 'changed' })
  }
  for (const relative of now.keys()) if (!good.has(relative)) found.push({ relative, kind: 'created' })
  return found
}
