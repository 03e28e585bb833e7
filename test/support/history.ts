import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { anyName } from './names.js'
import { Random } from './random.js'
import { show } from './tree.js'

type Kind = 'directory' | 'file' | 'symlink' | 'special'

/** What the history believes is on the disk; it is the only writer, so this is what is there. */
interface Node {
  name: string // latin1
  kind: Kind
  parent: Node | undefined
  children: Map<string, Node>
  /** Where it stands in its list of all nodes of that kind, for an even choice. */
  index: number
}

export interface HistoryOptions {
  seed: number
  /** The tree that is worked on. */
  source: string
  /** A directory beside it, on the same filesystem: where things are moved in from and out to. */
  outside: string
  /** About how many entries the tree grows to. */
  entriesMax?: number
}

const DEPTH_MAX = 7
const OWNERS = [0, 1, 1000, 65534, 123456]
const FILE_MODES = [0o644, 0o600, 0o755, 0o000, 0o444, 0o4755, 0o2755, 0o666]
const DIRECTORY_MODES = [0o755, 0o700, 0o1777, 0o2775, 0o555]

/**
 * A random history of file operations over hostile names, the same for the same seed, carried out at full speed with
 * synchronous calls. To study a failure, run the same seed with fewer operations and read `log`.
 */
export class History {
  readonly log: string[] = []
  readonly #random: Random
  readonly #root: Buffer
  readonly #outside: Buffer
  readonly #entriesMax: number
  readonly #top: Node = { name: '', kind: 'directory', parent: undefined, children: new Map(), index: 0 }
  readonly #nodes: Record<Kind, Node[]> = { directory: [this.#top], file: [], symlink: [], special: [] }
  #serial = 0

  constructor(options: HistoryOptions) {
    this.#random = new Random(options.seed)
    this.#root = Buffer.from(options.source)
    this.#outside = Buffer.from(options.outside)
    this.#entriesMax = options.entriesMax ?? 600
    fs.mkdirSync(options.source, { recursive: true })
    fs.mkdirSync(options.outside, { recursive: true })
  }

  /** Carries out `count` more operations. */
  run(count: number): void {
    for (let i = 0; i < count; i++) this.step()
  }

  step(): void {
    const crowded = this.#size() > this.#entriesMax
    const operation = crowded ? this.#random.pick(REMOVALS) : this.#random.pick(OPERATIONS)
    this.#operations[operation]()
  }

  readonly #operations = {
    create: () => this.#write(this.#place(), this.#random.pick([0, 1, 100, 700, 4096, 8000])),
    createLarge: () => this.#write(this.#place(), 64 * 1024 + this.#random.below(300_000)),
    overwrite: () => this.#onFile((node) => this.#write(node, this.#random.below(6000))),
    append: () => this.#onFile((node) => this.#append(node)),
    patch: () => this.#onFile((node) => this.#patch(node)),
    truncate: () => this.#onFile((node) => this.#truncate(node)),
    chmod: () => this.#onAny((node) => this.#chmod(node)),
    chown: () => this.#onAny((node) => this.#chown(node)),
    utimes: () => this.#onAny((node) => this.#utimes(node)),
    mkdir: () => this.#mkdir(),
    mkdirDeep: () => this.#mkdirDeep(),
    symlink: () => this.#symlink(),
    link: () => this.#onFile((node) => this.#link(node)),
    special: () => this.#special(),
    rename: () => this.#onAny((node) => this.#rename(node)),
    renameOntoFile: () => this.#onFile((node) => this.#renameOnto(node)),
    renameDirectory: () => this.#onDirectory((node) => this.#rename(node)),
    replaceAtomically: () => this.#onFile((node) => this.#replace(node)),
    exchangeKind: () => this.#onAny((node) => this.#exchangeKind(node)),
    remove: () => this.#onAny((node) => this.#remove(node)),
    removeFile: () => this.#onFile((node) => this.#remove(node)),
    removeDirectory: () => this.#onDirectory((node) => this.#remove(node)),
    recreate: () => this.#onDirectory((node) => this.#recreate(node)),
    moveIn: () => this.#moveIn(),
    moveOut: () => this.#onAny((node) => this.#moveOut(node)),
    outAndIn: () => this.#onDirectory((node) => this.#outAndIn(node)),
  }

  #write(node: Node | undefined, length: number): void {
    if (node === undefined) return
    this.#note(`write ${length} bytes`, node)
    fs.writeFileSync(this.#path(node), this.#content(length))
  }

  #append(node: Node): void {
    this.#note('append', node)
    fs.appendFileSync(this.#path(node), this.#content(1 + this.#random.below(3000)))
  }

  #patch(node: Node): void {
    this.#note('patch in place', node)
    const file = fs.openSync(this.#path(node), 'r+')
    fs.writeSync(file, this.#content(10), 0, 10, this.#random.below(5000))
    fs.closeSync(file)
  }

  #truncate(node: Node): void {
    const length = this.#random.below(5000)
    this.#note(`truncate to ${length}`, node)
    fs.truncateSync(this.#path(node), length)
  }

  #chmod(node: Node): void {
    if (node.kind === 'symlink') return
    const mode = this.#random.pick(node.kind === 'directory' ? DIRECTORY_MODES : FILE_MODES)
    this.#note(`chmod ${mode.toString(8)}`, node)
    fs.chmodSync(this.#path(node), mode)
  }

  #chown(node: Node): void {
    const [uid, gid] = [this.#random.pick(OWNERS), this.#random.pick(OWNERS)]
    this.#note(`chown ${uid}:${gid}`, node)
    fs.lchownSync(this.#path(node), uid, gid)
  }

  #utimes(node: Node): void {
    const seconds = this.#random.below(1_900_000_000) + this.#random.next()
    this.#note(`utimes ${seconds}`, node)
    fs.lutimesSync(this.#path(node), seconds, seconds)
  }

  #mkdir(): void {
    const node = this.#vacant('directory')
    if (node === undefined) return
    this.#note('mkdir', node)
    fs.mkdirSync(this.#path(node))
  }

  /** The race that watchers lose: a tree is made and filled faster than watches can be set. */
  #mkdirDeep(): void {
    let node = this.#vacant('directory')
    for (let i = 0; i < 3 && node !== undefined; i++) {
      this.#note('mkdir, deep', node)
      fs.mkdirSync(this.#path(node))
      this.#write(this.#vacant('file', node), 10)
      node = this.#vacant('directory', node)
    }
    if (node !== undefined) this.#forget(node)
  }

  #symlink(): void {
    const node = this.#vacant('symlink')
    if (node === undefined) return
    this.#note('symlink', node)
    const target = this.#random.chance(0.5) ? anyName(this.#random) : `../${anyName(this.#random)}/x`
    fs.symlinkSync(Buffer.from(target, 'latin1'), this.#path(node))
  }

  #link(node: Node): void {
    const other = this.#vacant('file')
    if (other === undefined) return
    this.#note('link', node, other)
    fs.linkSync(this.#path(node), this.#path(other))
  }

  /** FIFOs and devices are made outside, a hundred at a time (each takes a process), and moved in. */
  #special(): void {
    const node = this.#vacant('special')
    if (node === undefined) return
    this.#note('a special file', node)
    fs.renameSync(this.#specials.pop() ?? this.#makeSpecials(), this.#path(node))
  }

  readonly #specials: Buffer[] = []

  #makeSpecials(): Buffer {
    const names = Array.from({ length: 100 }, () => `${this.#outside}/special-${this.#serial++}`)
    execFileSync('mkfifo', names)
    for (const name of names.slice(0, 3)) {
      fs.rmSync(name)
      execFileSync('mknod', [name, 'c', '1', String(this.#random.below(9))])
    }
    this.#specials.push(...names.map((name) => Buffer.from(name)))
    return this.#specials.pop()!
  }

  #rename(node: Node): void {
    if (this.#height(node) > 3) return
    const target = this.#vacant(node.kind, undefined, node)
    if (target === undefined) return
    this.#note('rename', node, target)
    fs.renameSync(this.#path(node), this.#path(target))
    this.#inherit(node, target)
  }

  #renameOnto(node: Node): void {
    const target = this.#random.pick(this.#nodes[this.#random.chance(0.8) ? 'file' : 'symlink'])
    if (target === undefined || target === node) return
    this.#note('rename onto', node, target)
    // Two names of one file: rename(2) does nothing at all, and both stay.
    const [a, b] = [fs.lstatSync(this.#path(node)), fs.lstatSync(this.#path(target))]
    fs.renameSync(this.#path(node), this.#path(target))
    if (a.ino === b.ino) return
    const { parent, name } = target
    this.#forget(target)
    this.#inherit(node, this.#adopt(parent!, name, node.kind))
  }

  /** As editors save: a new file beside, then renamed over. */
  #replace(node: Node): void {
    const beside = this.#vacant('file', node.parent)
    if (beside === undefined) return
    this.#note('replace atomically', node)
    fs.writeFileSync(this.#path(beside), this.#content(this.#random.below(5000)))
    fs.renameSync(this.#path(beside), this.#path(node))
    this.#forget(beside)
  }

  #exchangeKind(node: Node): void {
    if (this.#size(node) > 40) return
    const { parent, name } = node
    const kind = node.kind === 'directory' ? 'file' : 'directory'
    if (kind === 'directory' && depth(node) >= DEPTH_MAX) return
    this.#note(`replace by ${kind}`, node)
    this.#erase(node)
    const fresh = this.#adopt(parent!, name, kind)
    if (kind === 'directory') fs.mkdirSync(this.#path(fresh))
    this.#write(kind === 'directory' ? this.#vacant('file', fresh) : fresh, 500)
  }

  #remove(node: Node): void {
    if (this.#size(node) > 60 && !this.#random.chance(0.2)) return
    this.#note('remove', node)
    this.#erase(node)
  }

  #recreate(node: Node): void {
    if (this.#size(node) > 60) return
    const { parent, name } = node
    this.#note('remove and recreate', node)
    this.#erase(node)
    const fresh = this.#adopt(parent!, name, 'directory')
    fs.mkdirSync(this.#path(fresh))
    for (let i = 0; i < 2; i++) this.#write(this.#vacant('file', fresh), 50)
  }

  /** A directory with files, made outside, appears in one step. */
  #moveIn(): void {
    const node = this.#vacant('directory')
    if (node === undefined) return
    this.#note('move a directory in', node)
    const made = Buffer.from(`${this.#outside}/in-${this.#serial++}`)
    fs.mkdirSync(made)
    const names = new Set(Array.from({ length: 3 }, () => anyName(this.#random)))
    for (const name of names) {
      fs.writeFileSync(Buffer.concat([made, Buffer.from('/'), Buffer.from(name, 'latin1')]), this.#content(200))
    }
    fs.renameSync(made, this.#path(node))
    for (const name of names) this.#adopt(node, name, 'file')
  }

  #moveOut(node: Node): void {
    if (this.#size(node) > 60) return
    this.#note('move out', node)
    fs.renameSync(this.#path(node), Buffer.from(`${this.#outside}/out-${this.#serial++}`))
    this.#forget(node)
  }

  /** Leaves under one name, changes while it is away, and comes back under another. */
  #outAndIn(node: Node): void {
    if (this.#height(node) > 3) return
    const away = Buffer.from(`${this.#outside}/away-${this.#serial++}`)
    this.#note('move out and in again', node)
    fs.renameSync(this.#path(node), away)
    const name = `while away ${this.#serial}`
    fs.writeFileSync(Buffer.concat([away, Buffer.from(`/${name}`)]), this.#content(20))
    const target = this.#vacant('directory', undefined, node)
    if (target === undefined) {
      fs.renameSync(away, this.#path(node))
      this.#adopt(node, name, 'file')
      return
    }
    fs.renameSync(away, this.#path(target))
    this.#inherit(node, target)
    this.#adopt(target, name, 'file')
  }

  #onFile(act: (node: Node) => void): void {
    const { file } = this.#nodes
    if (file.length > 0) act(this.#random.pick(file))
  }

  #onDirectory(act: (node: Node) => void): void {
    const node = this.#random.pick(this.#nodes.directory)
    if (node !== this.#top) act(node)
  }

  #onAny(act: (node: Node) => void): void {
    const kinds: Kind[] = ['file', 'file', 'file', 'directory', 'symlink', 'special']
    const list = this.#nodes[this.#random.pick(kinds)]
    const node = list.length > 0 ? this.#random.pick(list) : this.#top
    if (node !== this.#top) act(node)
  }

  /** A file that exists, or a new one. */
  #place(): Node | undefined {
    return this.#vacant('file')
  }

  /** A name that nothing has yet, taken for a new node; not below `avoid`. */
  #vacant(kind: Kind, parent?: Node, avoid?: Node): Node | undefined {
    for (let attempt = 0; attempt < 10; attempt++) {
      const directory = parent ?? this.#random.pick(this.#nodes.directory)
      if (avoid !== undefined && isWithin(directory, avoid)) continue
      if (depth(directory) + (avoid === undefined ? 1 : this.#height(avoid) + 1) > DEPTH_MAX) continue
      const name = anyName(this.#random)
      if (!directory.children.has(name)) return this.#adopt(directory, name, kind)
    }
    return undefined
  }

  #adopt(parent: Node, name: string, kind: Kind): Node {
    const list = this.#nodes[kind]
    const node: Node = { name, kind, parent, children: new Map(), index: list.length }
    list.push(node)
    parent.children.set(name, node)
    return node
  }

  #forget(node: Node): void {
    for (const child of [...node.children.values()]) this.#forget(child)
    const list = this.#nodes[node.kind]
    const last = list.pop()!
    if (last !== node) {
      list[node.index] = last
      last.index = node.index
    }
    if (node.parent?.children.get(node.name) === node) node.parent.children.delete(node.name)
  }

  /** `from` was renamed to `to`: its children move over, and it is gone. */
  #inherit(from: Node, to: Node): void {
    for (const child of from.children.values()) {
      child.parent = to
      to.children.set(child.name, child)
    }
    from.children = new Map()
    this.#forget(from)
  }

  #erase(node: Node): void {
    eraseTree(this.#path(node))
    this.#forget(node)
  }

  #size(node?: Node): number {
    if (node === undefined) return Object.values(this.#nodes).reduce((sum, list) => sum + list.length, 0)
    return [...node.children.values()].reduce((sum, child) => sum + this.#size(child), 1)
  }

  #height(node: Node): number {
    return [...node.children.values()].reduce((height, child) => Math.max(height, this.#height(child) + 1), 0)
  }

  #content(length: number): Buffer {
    return this.#random.bytes(length)
  }

  #path(node: Node): Buffer {
    return Buffer.concat([this.#root, Buffer.from('/'), Buffer.from(relative(node), 'latin1')])
  }

  #note(what: string, node: Node, other?: Node): void {
    const target = other === undefined ? '' : ` -> ${show(relative(other))}`
    this.log.push(`${this.log.length} ${what}: ${show(relative(node))}${target}`)
  }
}

type Operation = keyof typeof WEIGHTS

/** How often each comes, against the others. */
const WEIGHTS = {
  create: 12,
  createLarge: 1,
  overwrite: 6,
  append: 6,
  patch: 3,
  truncate: 3,
  chmod: 5,
  chown: 4,
  utimes: 4,
  mkdir: 6,
  mkdirDeep: 3,
  symlink: 4,
  link: 4,
  special: 2,
  rename: 6,
  renameOntoFile: 4,
  renameDirectory: 4,
  replaceAtomically: 4,
  exchangeKind: 3,
  remove: 4,
  removeFile: 5,
  removeDirectory: 2,
  recreate: 2,
  moveIn: 2,
  moveOut: 1,
  outAndIn: 1,
}
const OPERATIONS = (Object.keys(WEIGHTS) as Operation[]).flatMap((name) => Array<Operation>(WEIGHTS[name]).fill(name))
const REMOVALS: readonly Operation[] = ['remove', 'removeFile', 'removeDirectory', 'moveOut', 'overwrite', 'rename']

function relative(node: Node): string {
  const above = node.parent === undefined ? '' : relative(node.parent)
  return above === '' ? node.name : `${above}/${node.name}`
}

function depth(node: Node): number {
  return node.parent === undefined ? 0 : depth(node.parent) + 1
}

function isWithin(node: Node, ancestor: Node): boolean {
  return node === ancestor || (node.parent !== undefined && isWithin(node.parent, ancestor))
}

/** rm -rf over raw names; fs.rmSync() reads names as UTF-8. */
function eraseTree(path: Buffer): void {
  if (!fs.lstatSync(path).isDirectory()) {
    fs.unlinkSync(path)
    return
  }
  for (const name of fs.readdirSync(path, { encoding: 'buffer' })) {
    eraseTree(Buffer.concat([path, Buffer.from('/'), name]))
  }
  fs.rmdirSync(path)
}
