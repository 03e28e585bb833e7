import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { FileEntry } from '../src/index.js'
import { ITEM, MSG, NDX_DEL_STATS } from '../src/wire/constants.js'
import type { Cursor } from '../src/wire/cursor.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { Feed } from './feed.js'
import { clientFrames, demultiplex, type Request } from './recorded.js'
import { listAll, openTree, temporaryDirectory } from './stage.js'
import { RSYNCS, StockDaemon, tap } from './stock.js'

/** What stock rsync prints, and what its ends say to one another meanwhile: the truth that output/ is held against. */

export interface Printed {
  out: string
  err: string
  code: number
  /** Of standard output, without newlines. */
  lines: string[]
}

/** The stock client with LC_ALL=C and TZ=UTC, started by `through`; its output as latin1. */
export async function run(
  args: string[],
  cwd = '/',
  env: NodeJS.ProcessEnv = {},
  through: string[] = [],
): Promise<Printed> {
  const [program, ...all] = [...through, RSYNCS.stock, ...args]
  const child = spawn(program, all, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd,
    env: { ...process.env, LC_ALL: 'C', TZ: 'UTC', ...env },
  })
  const texts = [child.stdout, child.stderr].map((stream) => stream.setEncoding('latin1').toArray())
  const [code] = await once(child, 'close')
  const [out, err] = (await Promise.all(texts)).map((pieces) => pieces.join(''))
  return { out, err, code, lines: out.split('\n').slice(0, -1) }
}

export const shell = (script: string, cwd: string) =>
  execFileSync('bash', ['--norc', '-euc', script], { cwd, stdio: 'pipe' })

/** An empty directory with `s` and `d` in it, and whatever `script` puts there. */
export function stage(t: TestContext, script = ''): string {
  const home = temporaryDirectory(t)
  for (const name of ['s', 'd']) mkdirSync(join(home, name))
  shell(script, home)
  return home
}

export interface Spied extends Printed {
  /** What the generator asked for, in order. */
  requests: Request[]
  /** What the server's messages said. */
  messages: { tag: number; text: string }[]
  /** The entries by ndx. */
  entries: FileEntry[]
}

/** A transfer between a stock client and a stock daemon, in whole files and md5, so that what they say is easily read. */
export class Spy {
  private constructor(
    readonly t: TestContext,
    readonly daemon: StockDaemon,
    readonly port: number,
    readonly conversations: { fromClient: Buffer; fromServer: Buffer }[],
  ) {}

  static async start(t: TestContext, parameters: Record<string, string> = {}): Promise<Spy> {
    const daemon = await StockDaemon.start(t, 'stock', { 'max verbosity': 4, ...parameters })
    const { port, conversations } = await tap(t, daemon.port)
    return new Spy(t, daemon, port, conversations)
  }

  /** The module's directory is emptied, then `script` fills it (`d`) and the client's directory (`s`). */
  stage(script: string): string {
    const home = temporaryDirectory(this.t)
    mkdirSync(join(home, 's'))
    for (const name of readdirSync(this.daemon.module)) shell(`rm -rf ./${name}`, this.daemon.module)
    shell(`ln -s ${this.daemon.module} d; ${script}`, home)
    return home
  }

  /** From `s` to the module. */
  async push(home: string, options: string[]): Promise<Spied> {
    const entries = listAll(openTree(this.t, join(home, 's')))
    const printed = await run([...OPTIONS, ...options, `${home}/s/`, this.url])
    return { ...printed, ...this.#overheard('fromServer'), entries }
  }

  /** From the module to `s`. */
  async pull(home: string, options: string[]): Promise<Spied> {
    const entries = listAll(openTree(this.t, this.daemon.module))
    const printed = await run([...OPTIONS, ...options, this.url, `${home}/s/`])
    return { ...printed, ...this.#overheard('fromClient'), entries }
  }

  get url() {
    return `rsync://127.0.0.1:${this.port}/m/`
  }

  #overheard(generator: 'fromServer' | 'fromClient'): Pick<Spied, 'requests' | 'messages'> {
    const { fromServer, fromClient } = this.conversations.at(-1)!
    const server = demultiplex([serverFrames(fromServer)])
    const messages = server.messages.map(({ tag, payload }) => ({
      tag,
      text: Buffer.from(payload, 'hex').toString('latin1'),
    }))
    if (generator === 'fromServer') return { requests: readRequests(server.data), messages }
    const client = demultiplex([clientFrames(fromClient)])
    return { requests: readRequests(client.data.subarray(4)), messages } // behind the empty filter list
  }
}

const OPTIONS = ['-W', '--checksum-choice=md5', '--no-inc-recursive']

/** Behind the server's lines, its compat flags and its seed. */
function serverFrames(fromServer: Buffer): Buffer {
  const feed = new Feed([fromServer.subarray(fromServer.indexOf('@RSYNCD: OK\n') + 12)])
  feed.receive((c) => c.varint())
  feed.receive((c) => c.i32())
  return feed.receive((c) => c.bytes(c.remaining))
}

/** What a generator says from its first item to its goodbye; second names may come after the end of a phase. */
function readRequests(data: Buffer): Request[] {
  const feed = new Feed([data])
  const codec = new NdxCodec()
  const requests: Request[] = []
  while (data.length > 0 && !feed.exhausted) {
    const ndx = feed.receive((c) => codec.decode(c))
    if (ndx === NDX_DEL_STATS) for (let i = 0; i < 5; i++) feed.receive((c) => c.varint())
    if (ndx < 0) continue
    const item = feed.receive(readItem)
    requests.push({ ndx, ...item })
    if (item.iflags & ITEM.TRANSFER) skipSumHead(feed)
  }
  return requests
}

function readItem(c: Cursor): Omit<Request, 'ndx'> {
  const iflags = c.u16()
  const basisType = iflags & ITEM.BASIS_TYPE_FOLLOWS ? c.u8() : 0
  const xname = iflags & ITEM.XNAME_FOLLOWS ? c.vstring(4096).toString('latin1') : ''
  return { iflags, basisType, xname }
}

/** Whole files have one of 16 zero bytes; in a dry run there is none. */
function skipSumHead(feed: Feed): void {
  const { cursor } = feed
  const start = cursor.pos
  if (cursor.remaining >= 16 && cursor.bytes(16).every((byte) => byte === 0)) return
  cursor.pos = start
}

export const deletions = ({ messages }: Spied) =>
  messages.filter(({ tag }) => tag === MSG.DELETED).map(({ text }) => text)
