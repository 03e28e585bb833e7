import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { type Annex, FlistDecoder, type FlistFormat, type IdNames } from '../src/flist/codec.js'
import type { FileEntry } from '../src/index.js'
import { close, openDirectory, type Place } from '../src/kernel.js'
import { CF } from '../src/wire/constants.js'
import { Cursor } from '../src/wire/cursor.js'
import { Writer } from '../src/wire/writer.js'
import { clientFrames, demultiplex, serverPreamble } from './recorded.js'
import { RSYNCS, StockDaemon, tap, type Version } from './stock.js'

/** What the tests of xattrs, ACLs and --fake-super share: trees made and described by Debian's tools. */

const text = (program: string, args: string[], cwd: string) =>
  execFileSync(program, args, { cwd, encoding: 'latin1', stdio: ['ignore', 'pipe', 'pipe'], env: { LC_ALL: 'C' } })

export function setfattr(root: string, path: string, name: string, value: string): void {
  execFileSync('setfattr', ['-h', '-n', name, '-v', value, '--', path], { cwd: root })
}

export function setfacl(root: string, path: string, ...args: string[]): void {
  execFileSync('setfacl', [...args, '--', path], { cwd: root })
}

/** Every attribute of every name below `root`, system ones too (those are the ACLs, in the kernel's form). */
export function describeXattrs(root: string, only: RegExp = /./): Record<string, string[]> {
  const found: Record<string, string[]> = {}
  let path = ''
  for (const line of text('getfattr', ['-h', '-d', '-e', 'hex', '-m', '-', '-R', '-P', '.'], root).split('\n')) {
    if (line.startsWith('# file: ')) path = line.slice(8)
    else if (line !== '' && only.test(line)) found[path] = [...(found[path] ?? []), line].sort()
  }
  return found
}

export function placeIn(t: TestContext, root: string): (name: string) => Place {
  const dir = openDirectory(root)
  t.after(() => close(dir))
  return (name) => ({ dir, name })
}

export interface Push {
  /** What the stock client sent, and what the stock daemon sent, behind their handshakes. */
  client: Buffer
  server: Buffer
  compatFlags: number
  protocol: number
  destination: string
}

/** Pushes `source` from a stock client to a stock daemon and hands out what both said. */
export async function push(
  t: TestContext,
  version: Version,
  source: string,
  args: string[],
  parameters: Record<string, string> = {},
): Promise<Push> {
  const daemon = await StockDaemon.start(t, 'stock', parameters)
  const proxy = await tap(t, daemon.port)
  const protocol = Number(args.find((arg) => arg.startsWith('--protocol='))?.slice(11) ?? 31)
  const always = ['--checksum-choice=md5', '--checksum-seed=1', `--protocol=${protocol}`]
  await promisify(execFile)(RSYNCS[version], [
    ...always,
    '--no-inc-recursive',
    ...args,
    `${source}/`,
    `rsync://127.0.0.1:${proxy.port}/m/`,
  ])
  const [{ fromClient, fromServer }] = proxy.conversations
  const { compatFlags, frames } = serverPreamble(fromServer)
  const client = demultiplex([clientFrames(fromClient)]).data
  return { client, server: demultiplex([frames]).data, compatFlags, protocol, destination: daemon.module }
}

export const formatOf = ({ protocol, compatFlags }: Push, annexes: Annex[], ids?: IdNames): FlistFormat => ({
  protocol,
  varintFlags: (compatFlags & CF.VARINT_FLIST_FLAGS) !== 0,
  safeFlist: true,
  annexes,
  ...(ids === undefined ? {} : { ids }),
})

/** Reads the list in `bytes`, and leaves the cursor behind it. */
export function readList(c: Cursor, format: FlistFormat): FileEntry[] {
  const decoder = new FlistDecoder(format)
  const entries: FileEntry[] = []
  for (;;) {
    const entry = decoder.decode(c)
    if ('end' in entry) return entries
    entries.push(entry)
  }
}

/** What `annex` reads, and the bytes that it took for each entry. */
export class Spy implements Annex {
  readonly taken = new Map<FileEntry, string>()
  constructor(
    readonly annex: Annex,
    readonly bytes: Buffer,
  ) {}
  encode(w: Writer, entry: FileEntry): void {
    this.annex.encode(w, entry)
  }
  decode(c: Cursor, entry: FileEntry): () => void {
    const start = c.pos
    const keep = this.annex.decode(c, entry)
    this.taken.set(entry, this.bytes.toString('hex', start, c.pos))
    return keep
  }
}

export function encoded(run: (w: Writer) => void): Buffer {
  const w = new Writer()
  run(w)
  return w.take()
}

/** Decodes all of `bytes`. */
export function decoded<T>(bytes: Buffer, decode: (c: Cursor) => T): T {
  const cursor = new Cursor(bytes)
  const value = decode(cursor)
  assert.equal(cursor.remaining, 0, 'bytes were left over')
  return value
}
