import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { show } from '../support/tree.js'
import { xattrs } from './kernel.js'

/** Every path of a tree, with all that must be equal about it as one line of text. */
export type State = Map<string, string>

interface Clock {
  /** Times in between are those of the run itself, which no two runs share; nanoseconds. */
  began: bigint
  ended: bigint
}

/** Types, content, modes, owners, times to the nanosecond, targets, holes, extended attributes, ACLs, hard links. */
export function stateOf(root: string, clock: Clock): State {
  const state: State = new Map()
  const firstNames = new Map<string, string>()
  const visit = (path: string): void => {
    const full = path === '' ? root : `${root}/${path}`
    const stats = fs.lstatSync(Buffer.from(full, 'latin1'), { bigint: true })
    const links =
      stats.isDirectory() || stats.nlink < 2n
        ? ''
        : ` linked:${firstName(firstNames, `${stats.dev}:${stats.ino}`, path)}`
    state.set(path, describe(full, stats, clock) + links)
    if (!stats.isDirectory()) return
    for (const name of fs.readdirSync(Buffer.from(full, 'latin1'), { encoding: 'latin1' }).sort()) {
      visit(path === '' ? name : `${path}/${name}`)
    }
  }
  visit('')
  return state
}

/** The first way in which `ours` is not what the stock programs left behind, or null. */
export function firstDifference(stock: State, ours: State): string | null {
  for (const path of new Set([...stock.keys(), ...ours.keys()])) {
    const [expected, found] = [stock.get(path), ours.get(path)]
    if (expected === found) continue
    if (found === undefined) return `${show(path)}: missing, stock: ${expected}`
    if (expected === undefined) return `${show(path)}: not there with stock: ${found}`
    return `${show(path)}: ${found}, stock: ${expected}`
  }
  return null
}

function describe(path: string, stats: fs.BigIntStats, clock: Clock): string {
  const time = stats.mtimeNs >= clock.began && stats.mtimeNs <= clock.ended ? 'now' : `${stats.mtimeNs}`
  const mode = (stats.mode & 0o7777n).toString(8)
  return `${kind(path, stats)} ${mode} ${stats.uid}:${stats.gid} ${time}${attributes(path)}`
}

function kind(path: string, stats: fs.BigIntStats): string {
  const at = Buffer.from(path, 'latin1')
  if (stats.isDirectory()) return 'directory'
  if (stats.isFIFO()) return 'FIFO'
  if (stats.isSocket()) return 'socket'
  if (stats.isSymbolicLink()) return `symlink to ${show(fs.readlinkSync(at, 'latin1'))}`
  if (stats.isCharacterDevice()) return `character device ${stats.rdev}`
  if (stats.isBlockDevice()) return `block device ${stats.rdev}`
  const digest = createHash('md5').update(fs.readFileSync(at)).digest('hex')
  return `file ${stats.size} ${digest.slice(0, 8)}${hasHoles(stats) ? ' holes' : ''}`
}

/** Blocks are allocated by the page and by what the filesystem finds handy: only a good half missing is a hole. */
const hasHoles = (stats: fs.BigIntStats) => stats.size > 65536n && stats.blocks * 512n * 2n < stats.size

function attributes(path: string): string {
  const found = xattrs(path)
  return found.length === 0 ? '' : ` {${found.map(([name, value]) => `${name}=${readable(value)}`).join(' ')}}`
}

function readable(value: Buffer): string {
  const text = value.toString('latin1')
  return /^[\x20-\x7e]*$/.test(text) && text.length < 200 ? text : `0x${value.subarray(0, 100).toString('hex')}`
}

function firstName(firstNames: Map<string, string>, inode: string, path: string): string {
  const first = firstNames.get(inode) ?? path
  firstNames.set(inode, first)
  return show(first)
}
