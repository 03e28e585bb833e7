import { join, type RawPath, ROOT } from './raw-path.js'

/** A watched directory. */
export interface WatchNode {
  readonly wd: number
  /** null for the root, and for a detached node: moved away or displaced, and nobody has seen it elsewhere yet. */
  parent: WatchNode | null
  name: RawPath
  children: Map<RawPath, WatchNode> | undefined
  /** The full scan that saw it last. */
  seen: number
}

/** What is watched, by wd and as a tree. Paths are built by climbing: a renamed directory costs one link. */
export class WatchTable {
  readonly #byWd = new Map<number, WatchNode>()
  readonly root: WatchNode
  /** Number of the current full scan; every node that is seen gets it. */
  scanNumber = 0
  // Events come in runs on one directory. Any change of the tree may make this path wrong.
  #lastNode: WatchNode | null = null
  #lastPath: RawPath | undefined

  constructor(rootWd: number) {
    this.root = this.#create(rootWd)
  }

  get size(): number {
    return this.#byWd.size
  }

  get(wd: number): WatchNode | undefined {
    return this.#byWd.get(wd)
  }

  has(node: WatchNode): boolean {
    return this.#byWd.get(node.wd) === node
  }

  all(): Iterable<WatchNode> {
    return this.#byWd.values()
  }

  child(parent: WatchNode, name: RawPath): WatchNode | undefined {
    return parent.children?.get(name)
  }

  /** The watched directory that has this path. */
  at(path: RawPath): WatchNode | undefined {
    if (path === ROOT) return this.root
    let node: WatchNode | undefined = this.root
    for (const name of path.split('/')) node = node?.children?.get(name as RawPath)
    return node
  }

  /** Root-relative path, or undefined below a detached node. */
  pathOf(node: WatchNode): RawPath | undefined {
    if (node === this.#lastNode) return this.#lastPath
    const names: RawPath[] = []
    let at = node
    for (; at.parent !== null; at = at.parent) names.push(at.name)
    this.#lastNode = node
    this.#lastPath = at === this.root ? (names.reverse().join('/') as RawPath) : undefined
    return this.#lastPath
  }

  pathOfChild(parent: WatchNode, name: RawPath): RawPath | undefined {
    const directory = this.pathOf(parent)
    return directory === undefined ? undefined : join(directory, name)
  }

  /**
   * The directory `wd` was just seen as `name` in `parent`. A known wd is a known directory with a new parent. A node that
   * had this place is returned as `displaced`: it is detached. Undefined when the directory contains `parent`: renames cannot
   * do that, a bind mount into itself can, and so can a view of the tree that is older than a queued rename.
   */
  attach(wd: number, parent: WatchNode, name: RawPath): { node: WatchNode; displaced?: WatchNode } | undefined {
    const node = this.#byWd.get(wd) ?? this.#create(wd)
    node.seen = this.scanNumber
    const before = this.child(parent, name)
    if (before === node) return { node }
    if (this.#contains(node, parent)) return undefined
    if (before !== undefined) this.detach(before)
    this.detach(node)
    node.parent = parent
    node.name = name
    parent.children ??= new Map()
    parent.children.set(name, node)
    return before === undefined ? { node } : { node, displaced: before }
  }

  detach(node: WatchNode): void {
    this.#lastNode = null
    if (node.parent === null) return
    node.parent.children?.delete(node.name)
    if (node.parent.children?.size === 0) node.parent.children = undefined
    node.parent = null
  }

  /** Forgets the node and returns its children, detached. */
  remove(node: WatchNode): WatchNode[] {
    this.detach(node)
    this.#byWd.delete(node.wd)
    const orphans = [...(node.children?.values() ?? [])]
    for (const orphan of orphans) orphan.parent = null
    node.children = undefined
    return orphans
  }

  #create(wd: number): WatchNode {
    const node: WatchNode = { wd, parent: null, name: ROOT, children: undefined, seen: this.scanNumber }
    this.#byWd.set(wd, node)
    return node
  }

  #contains(node: WatchNode, descendant: WatchNode): boolean {
    if (node.children === undefined && node !== descendant) return false
    for (let at: WatchNode | null = descendant; at !== null; at = at.parent) if (at === node) return true
    return false
  }
}
