import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Stage } from '../support/stage.js'
import type { Case, Direction, Place, Transport } from './case.js'
import type { Daemons, Side } from './sides.js'
import { type State, stateOf } from './state.js'
import { Tree } from './tree.js'

/** Who talks to whom, and how. */
export interface Pair {
  transport: Transport
  client: Side
  server: Side
  direction: Direction
  protocol: number
}

export interface Outcome {
  /** The exit code, or the signal, or that time was up. */
  exit: string
  /** What was printed, sorted: which of two processes prints first is left to chance. */
  printed: readonly string[]
  /** All that was printed, to explain another exit code. */
  text: string
  /** Both ends' trees, and what is beside them. */
  state: State
  /** To repeat it by hand. */
  command: string
}

/** Far more than any case takes; it bounds how long two programs may wait for each other. */
const PATIENCE_MS = 20_000
const FINISHED_MAX = 100
const PRINTED_MAX = 1_000_000
const SECOND = 1_000_000_000n
export const NOBODY = 65534

/** Runs cases, each in a directory of its own below the stage. */
export class Bench {
  readonly #stage: Stage
  readonly #daemons: Daemons
  readonly #shell: string
  readonly #finished: string[] = []
  #count = 0

  constructor(stage: Stage, daemons: Daemons) {
    this.#stage = stage
    this.#daemons = daemons
    chmodSync(stage.root, 0o755)
    this.#shell = stage.path('shell')
    // As ssh: the host is dropped, and what is left goes to a shell as one line.
    writeFileSync(this.#shell, '#!/bin/sh\nshift\nexec sh -c "$*"\n', { mode: 0o755 })
  }

  async run(one: Case, pair: Pair): Promise<Outcome> {
    const name = `cell-${String(this.#count++).padStart(6, '0')}`
    const home = this.#stage.dir('cells', name)
    const tree = new Tree(home)
    try {
      fill(one, tree, home)
      const [program, ...parameters] = await this.#command(one, pair, name)
      const began = BigInt(Date.now()) * 1_000_000n - SECOND
      if (one.twice) await this.#spawn(one, pair, home, program, parameters)
      const { exit, text } = await this.#spawn(one, pair, home, program, parameters)
      const ended = BigInt(Date.now()) * 1_000_000n + SECOND
      const printed = one.output ? lines(text, home) : []
      const state = stateOf(home, { began, ended })
      return { exit, printed, text, state, command: readable([program, ...parameters]) }
    } finally {
      tree.close()
      this.#discard(home)
    }
  }

  /** Starting rm takes longer than its work, so it gets many directories at once. */
  #discard(home: string): void {
    this.#finished.push(home)
    if (this.#finished.length < FINISHED_MAX || process.env.SYNCLINE_KEEP !== undefined) return
    spawn('rm', ['-rf', '--', ...this.#finished.splice(0)], { stdio: 'ignore' })
  }

  async #command(one: Case, pair: Pair, name: string): Promise<string[]> {
    const { client, direction, protocol, transport } = pair
    const pulled = direction === 'pull'
    const { sources = ['src/'], destination = 'dst/' } = one
    const far = (path: string, i = 0) => (transport === 'local' ? path : this.#operand(one, pair, `${name}/${path}`, i))
    const from = sources.map((path, i) => (pulled ? far(path, i) : path))
    const to = destination === null ? [] : [pulled ? destination : far(destination)]
    const options = typeof one.options === 'function' ? one.options(this.#place(pair, name)) : one.options
    return [
      ...client.command,
      `--protocol=${protocol}`,
      ...(await this.#connection(one, pair)),
      ...options,
      ...from,
      ...to,
    ]
  }

  /** What is at the other end, as an operand; the first one names the host. */
  #operand(one: Case, { transport, direction }: Pair, path: string, i: number): string {
    const host = i === 0 ? '127.0.0.1' : ''
    if (transport === 'daemon') return `${host}::${moduleOf(one, direction)}/${path}`
    return `${host}:${this.#stage.path('cells')}/${path}`
  }

  #place({ transport, direction }: Pair, name: string): Place {
    const local = (path: string) => this.#stage.path('cells', name, path)
    const remote = (path: string) => (transport === 'daemon' ? `/${name}/${path}` : local(path))
    return { remote, receiver: direction === 'push' ? remote : local }
  }

  async #connection(one: Case, { transport, server, direction }: Pair): Promise<string[]> {
    if (transport === 'local') return []
    if (transport === 'daemon') return [`--port=${await this.#daemons.port(server)}`]
    const unprivileged = one.nobody === (direction === 'push' ? 'receiver' : 'sender')
    const prefix = unprivileged ? `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups ` : ''
    return ['-e', this.#shell, `--rsync-path=${prefix}${server.command.join(' ')}`]
  }

  async #spawn(one: Case, pair: Pair, cwd: string, program: string, parameters: string[]) {
    const { direction, transport } = pair
    const unprivileged = one.nobody === (direction === 'push' ? 'sender' : 'receiver')
    const identity = unprivileged || (one.nobody && transport === 'local') ? { uid: NOBODY, gid: NOBODY } : {}
    const child = spawn(program, parameters, {
      cwd,
      ...identity,
      env: { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC', HOME: cwd, ...one.environment },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    })
    child.stdin.on('error', () => {}) // it may end without reading
    child.stdin.end(Buffer.from(one.stdin ?? '', 'latin1'))
    const printed = [collect('', child.stdout), collect('stderr: ', child.stderr)]
    const exit = await ending(child)
    return { exit, text: printed.flatMap((text) => text()).join('\n') }
  }
}

function moduleOf(one: Case, direction: Direction): string {
  const unprivileged = one.nobody === (direction === 'push' ? 'receiver' : 'sender')
  if (one.module !== undefined) return one.module
  if (unprivileged) return 'nobody'
  // A stock daemon without chroot calls every file of a list that it was given (--files-from) vanished.
  return one.name.includes('--files-from') ? 'chroot' : 'plain'
}

function fill(one: Case, tree: Tree, home: string): void {
  one.prepare(tree)
  tree.settle()
  if (one.nobody === undefined) return
  // Who is not root writes into a directory of its own, where what is there before may be the case's subject.
  const destination = join(home, 'dst')
  mkdirSync(destination, { recursive: true })
  chownSync(destination, NOBODY, NOBODY)
  if (one.nobody === 'sender') spawnSync('chown', ['-Rh', `${NOBODY}:${NOBODY}`, destination])
}

async function ending(child: ChildProcess): Promise<string> {
  const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), PATIENCE_MS)
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  clearTimeout(timer)
  return code === null ? `${signal}` : `${code}`
}

function collect(prefix: string, stream: Readable): () => string[] {
  let text = ''
  stream.setEncoding('latin1')
  stream.on('data', (more: string) => {
    if (text.length < PRINTED_MAX) text += more
  })
  return () => text.split(/[\r\n]+/).map((line) => prefix + line)
}

/** What depends on the directory, the speed, the version or the way a list is sent is not compared. */
function lines(text: string, home: string): string[] {
  return text
    .replaceAll(home, '')
    .replaceAll(/ port \d+$/gm, '')
    .replaceAll(/\/?cell-\d{6}/g, '')
    .replaceAll(/ at [\w.]+\(\d+\) \[\w+=[\w.]+\]/g, '')
    .replaceAll(/(\/\.[^/"\n]*)\.\w{6}(?=")/g, '$1.XXXXXX') // a temporary file
    .split('\n')
    .filter((line) => !UNEQUAL.some((pattern) => pattern.test(line)))
    .sort()
}

const UNEQUAL = [
  /^(stderr: )?$/,
  /^(sending|receiving) (incremental )?file list$/,
  /^building file list \.\.\.( done)?$/,
  /^(sent [\d.,KMG]+ bytes|total size is|Total bytes|File list (size|generation|transfer))/,
  /^ +[\d,]+ +\d+% /,
  /^opening connection using: /,
  // A server may be gone before its client has read all that it said, or has said all itself.
  /read error: Connection reset by peer/,
  /\[(Receiver|sender|generator)\] write error: Broken pipe/,
]

function readable(command: string[]): string {
  return command.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')
}
