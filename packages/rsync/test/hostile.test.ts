import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { daemonError, parseGreeting } from '../src/handshake.js'
import {
  ConnectError,
  type FileEntry,
  ProtocolError,
  RemoteError,
  Session,
  type SourceTree,
  TimeoutError,
  type TransferReport,
} from '../src/index.js'
import { ITEM, MSG } from '../src/wire/constants.js'
import { encodeFrame, frameHeader } from '../src/wire/mux.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { encodeSumHead, type SumHead } from '../src/wire/sum-head.js'
import { Writer } from '../src/wire/writer.js'
import { listAll, openTree, randomBytes, repeat, temporaryDirectory } from './stage.js'
import { fakeServer, StockDaemon, sessionOptions, tap } from './stock.js'

const GREETING = '@RSYNCD: 32.0 sha512 md5\n'
/** What a well-behaved server says up to the file list: compat flags, checksums, seed. */
const preamble = (): Buffer => {
  const w = new Writer()
  w.latin1(`${GREETING}@RSYNCD: OK\n`)
  w.varint(0x1fe)
  w.vstring('md5')
  w.i32(1)
  return w.take()
}
const asData = (write: (w: Writer) => void): Buffer => {
  const w = new Writer()
  write(w)
  return encodeFrame(MSG.DATA, w.take())
}
const item = (w: Writer, ndx: number, iflags: number) => {
  new NdxCodec().encode(w, ndx)
  w.u16(iflags)
}
const head = (w: Writer, more: Partial<SumHead>) =>
  encodeSumHead(w, { count: 0, blockLength: 0, s2Length: 0, remainder: 0, ...more })

interface Tree {
  source: SourceTree
  entries: FileEntry[]
}
/** Entries: 0 the root, 1 `file`, 2 the directory `dir`, 3 `dir/inner`. */
function plant(t: TestContext): Tree {
  const root = join(temporaryDirectory(t), 'src')
  mkdirSync(join(root, 'dir'), { recursive: true })
  writeFileSync(join(root, 'file'), randomBytes(5000, 1))
  writeFileSync(join(root, 'dir/inner'), repeat('inner ', 3000))
  const source = openTree(t, root)
  return { source, entries: listAll(source) }
}

const TYPED = [ProtocolError, RemoteError, ConnectError, TimeoutError]
const isTyped = (error: unknown) => TYPED.some((type) => error instanceof type)

/** Far more than it takes to see that something is wrong, also on a busy machine. */
const TIMEOUT_MS = 2000

/** A whole session with a server that sends `bytes`, and then closes or, when `silent`, says no more. */
async function meet(t: TestContext, tree: Tree, bytes: Buffer, silent = false): Promise<TransferReport> {
  const port = await fakeServer(t, (socket) => {
    socket.write(bytes)
    if (!silent) socket.end()
    socket.resume()
  })
  return converse(port, tree)
}

async function converse(port: number, { source, entries }: Tree): Promise<TransferReport> {
  const session = await Session.open(sessionOptions(port, '', { timeoutMs: TIMEOUT_MS, delete: true }))
  return session.transfer({ source, entries })
}

const NONSENSE: [what: string, bytes: Buffer, error: typeof ProtocolError | typeof RemoteError, why: RegExp][] = [
  ['an index behind the list', asData((w) => item(w, 4, ITEM.TRANSFER)), ProtocolError, /4 is not between 0 and 3/],
  ['an index of two billion', asData((w) => item(w, 2 ** 31 - 1, 0)), ProtocolError, /file index/],
  ['a negative index', asData((w) => item(w, -2, 0)), ProtocolError, /file index/],
  [
    'a request for the content of a directory',
    asData((w) => {
      item(w, 2, ITEM.TRANSFER)
      head(w, {})
    }),
    ProtocolError,
    /no regular file/,
  ],
  ['a message that nobody knows', encodeFrame(77, Buffer.from('x')), ProtocolError, /unknown message 77/],
  ['a frame below the lowest tag', Buffer.from('01000001', 'hex'), ProtocolError, /is this an rsync daemon/],
  ['a message of 16 MiB', frameHeader(MSG.INFO, 0xffffff), ProtocolError, /message 2 of 16777215 bytes/],
  ...(
    [
      [{ count: 2 ** 30, blockLength: 700, s2Length: 16 }, /block count/],
      [{ count: -1, blockLength: 700, s2Length: 16 }, /block count/],
      [{ count: 1, blockLength: 0, s2Length: 16 }, /block length/],
      [{ count: 1, blockLength: -700, s2Length: 16 }, /block length/],
      [{ count: 1, blockLength: (1 << 17) + 1, s2Length: 16 }, /block length/],
      [{ count: 1, blockLength: 700, s2Length: 17 }, /strong sum length/],
      [{ count: 1, blockLength: 700, s2Length: -1 }, /strong sum length/],
      [{ count: 1, blockLength: 700, s2Length: 16, remainder: 701 }, /remainder/],
      [{ count: 1, blockLength: 700, s2Length: 16, remainder: -1 }, /remainder/],
    ] as [Partial<SumHead>, RegExp][]
  ).map(([more, why]): (typeof NONSENSE)[number] => [
    `the sum head ${JSON.stringify(more)}`,
    asData((w) => {
      item(w, 1, ITEM.TRANSFER)
      head(w, more)
    }),
    ProtocolError,
    why,
  ]),
  [
    'a name of 32767 bytes to link to',
    asData((w) => {
      item(w, 1, ITEM.XNAME_FOLLOWS)
      w.u8(0xff)
      w.u8(0xff)
    }),
    ProtocolError,
    /vstring/,
  ],
  [
    'an index where the goodbye is due',
    asData((w) => {
      for (let i = 0; i < 3; i++) w.u8(0)
      item(w, 1, 0)
    }),
    ProtocolError,
    /goodbye/,
  ],
  ['an exit code', encodeFrame(MSG.ERROR_EXIT, Buffer.from([12, 0, 0, 0])), RemoteError, /gave up with code 12/],
  [
    'an exit code after a complaint',
    Buffer.concat([encodeFrame(MSG.ERROR, Buffer.from('no space\n')), encodeFrame(MSG.ERROR_EXIT, Buffer.alloc(3))]),
    RemoteError,
    /no space/,
  ],
]

for (const [what, bytes, type, why] of NONSENSE) {
  test(`a server that sends ${what} is given up at once`, async (t) => {
    const tree = plant(t)
    for (const silent of [false, true]) {
      const startMs = performance.now()
      await assert.rejects(meet(t, tree, Buffer.concat([preamble(), bytes]), silent), (error) => {
        assert.ok(error instanceof type, `${error}`)
        return why.test((error as Error).message)
      })
      assert.ok(performance.now() - startMs < TIMEOUT_MS)
    }
  })
}

const HANDSHAKES: [what: string, text: string | Buffer, why: RegExp][] = [
  ['a line without an end', 'x'.repeat(5000), /longer than 4096 bytes/],
  ['a greeting that is none', 'SSH-2.0-OpenSSH_9.2\r\n', /is this an rsync daemon/],
  ['a message of the day of 10,001 lines', `${GREETING}${'hello\n'.repeat(10_001)}`, /more than 10000 lines/],
  ['an offer of unknown digests', `@RSYNCD: 32.0 crc32\n@RSYNCD: AUTHREQD abc\n`, /unknown digests/],
  [
    'flags for incremental recursion',
    Buffer.concat([Buffer.from(`${GREETING}@RSYNCD: OK\n`), Buffer.from('81ff', 'hex')]),
    /incremental recursion/,
  ],
  [
    'flags without negotiation after a digest list',
    // A daemon that refuses an option begins so, and then says why; data is what it must not send.
    Buffer.concat([Buffer.from(`${GREETING}@RSYNCD: OK\n`), Buffer.from('00010000000100000700', 'hex')]),
    /without checksum negotiation/,
  ],
  [
    'flags that are no number',
    Buffer.concat([Buffer.from(`${GREETING}@RSYNCD: OK\n`), Buffer.from('ffffffffffff', 'hex')]),
    /varint/,
  ],
  [
    'a checksum list of 32 KiB',
    Buffer.concat([Buffer.from(`${GREETING}@RSYNCD: OK\n`), Buffer.from('81feffff', 'hex')]),
    /vstring/,
  ],
  [
    'only unknown checksums',
    Buffer.concat([Buffer.from(`${GREETING}@RSYNCD: OK\n`), Buffer.from('81fe05', 'hex'), Buffer.from('crc32')]),
    /no common checksum/,
  ],
]

for (const [what, text, why] of HANDSHAKES) {
  test(`a server whose handshake has ${what} is refused`, async (t) => {
    const port = await fakeServer(t, (socket) => socket.write(text))
    const credentials = { user: 'u', password: 'p' }
    await assert.rejects(Session.open(sessionOptions(port, '', { timeoutMs: TIMEOUT_MS, credentials })), (error) => {
      assert.ok(error instanceof ProtocolError || error instanceof RemoteError, `${error}`)
      return why.test(error.message)
    })
  })
}

test('greetings: each that daemons send, and none that they do not', () => {
  assert.deepEqual(parseGreeting('@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4'), {
    protocol: 32,
    digests: ['sha512', 'sha256', 'sha1', 'md5', 'md4'],
  })
  assert.deepEqual(parseGreeting('@RSYNCD: 31.0'), { protocol: 31, digests: null })
  assert.deepEqual(parseGreeting('@RSYNCD: 31.14'), { protocol: 30, digests: null }) // a pre-release of 31
  assert.deepEqual(parseGreeting('@RSYNCD: 29'), { protocol: 29, digests: null })
  for (const line of [
    '',
    '@RSYNCD:',
    '@RSYNCD: x',
    '@RSYNCD: 99999',
    '@RSYNCD: OK',
    'RSYNCD: 31.0',
    '@RSYNCD: 31.0\x1b[2J',
  ]) {
    assert.throws(() => parseGreeting(line), ProtocolError)
  }
  assert.equal(daemonError('@ERROR: max connections (2) reached -- try again later').reason, 'max-connections')
  assert.equal(daemonError('@ERROR: \x1b[2J').message, '@ERROR: \\#033[2J') // quoted as data
})

/** The bytes of a good session between us and a stock daemon, as the daemon sent them. */
async function goodSession(t: TestContext, tree: Tree): Promise<Buffer> {
  const daemon = await StockDaemon.start(t, 'stock')
  writeFileSync(join(daemon.module, 'file'), Buffer.concat([randomBytes(5000, 1), Buffer.from('more')]))
  writeFileSync(join(daemon.module, 'gone'), 'x')
  const { port, conversations } = await tap(t, daemon.port)
  const report = await converse(port, tree)
  assert.deepEqual([report.sent, report.deleted, report.errors], [2, 1, []])
  return conversations[0].fromServer
}

/** A server that plays what `streams` holds, one stream for each connection. */
async function player(t: TestContext, streams: Buffer[], close: (socket: Socket) => void): Promise<number> {
  let next = 0
  return fakeServer(t, (socket) => {
    socket.write(streams[next++])
    close(socket)
    socket.resume()
  })
}

test('a good session that is cut off after any byte ends in a typed error, whole it succeeds', async (t) => {
  const tree = plant(t)
  const good = await goodSession(t, tree)
  const replayed = await converse(await player(t, [good], (socket) => socket.end()), tree)
  assert.equal(replayed.sent, 2)
  // Its last byte is the goodbye: everything before it is too short.
  const streams = Array.from({ length: good.length }, (_, length) => good.subarray(0, length))
  const port = await player(t, streams, (socket) => socket.end())
  for (let length = 0; length < good.length; length++) {
    const startMs = performance.now()
    await assert.rejects(
      converse(port, tree),
      (error) => isTyped(error) || assert.fail(`after ${length} bytes: ${error}`),
    )
    assert.ok(performance.now() - startMs < TIMEOUT_MS)
  }
})

test('a good session that stops, or is reset, after any byte ends in a typed error within the time-out', async (t) => {
  const tree = plant(t)
  const good = await goodSession(t, tree)
  const lengths = Array.from({ length: good.length }, (_, i) => i)
  const failsTyped = (port: number) =>
    assert.rejects(converse(port, tree), (error) => isTyped(error) || assert.fail(`${error}`))
  const silent = await player(
    t,
    lengths.map((length) => good.subarray(0, length)),
    () => undefined,
  )
  const startMs = performance.now()
  await Promise.all(lengths.map(() => failsTyped(silent)))
  assert.ok(performance.now() - startMs < 20 * TIMEOUT_MS)
  const reset = await player(
    t,
    lengths.map((length) => good.subarray(0, length)),
    (socket) => setImmediate(() => socket.resetAndDestroy()),
  )
  for (let i = 0; i < lengths.length; i++) await failsTyped(reset)
})

test('thousands of mutilated sessions: each ends with a report or a typed error, in time and in bounded memory', async (t) => {
  const tree = plant(t)
  const good = await goodSession(t, tree)
  const framesAt = good.indexOf('@RSYNCD: OK\n')
  const position = fc.oneof(fc.nat(good.length - 1), fc.integer({ min: framesAt, max: good.length - 1 }))
  const mutation = fc.oneof(
    fc.record({
      at: position,
      kind: fc.constant('set' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }),
    }),
    fc.record({
      at: position,
      kind: fc.constant('flip' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 1 }),
    }),
    fc.record({
      at: position,
      kind: fc.constant('insert' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    }),
    fc.record({
      at: position,
      kind: fc.constant('delete' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    }),
    fc.record({
      at: position,
      kind: fc.constant('repeat' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 60 }),
    }),
  )
  const mutate = (stream: Buffer, { at, kind, bytes }: { at: number; kind: string; bytes: Uint8Array }): Buffer => {
    const [before, after] = [stream.subarray(0, at), stream.subarray(at)]
    if (kind === 'insert') return Buffer.concat([before, bytes, after])
    if (kind === 'delete') return Buffer.concat([before, after.subarray(bytes.length)])
    if (kind === 'repeat') return Buffer.concat([before, after.subarray(0, bytes.length), after])
    const copy = Buffer.from(stream)
    for (let i = 0; i < bytes.length && at + i < copy.length; i++)
      copy[at + i] = kind === 'set' ? bytes[i] : copy[at + i] ^ (1 << (bytes[i] & 7))
    return copy
  }
  const mutated = fc.array(mutation, { minLength: 1, maxLength: 3 }).map((list) => list.reduce(mutate, good))
  const streams = fc.sample(mutated, { seed: 20261121, numRuns: 3000 })
  const port = await player(t, streams, (socket) => socket.end())
  const before = process.memoryUsage().rss
  let reports = 0
  let errors = 0
  const one = async () => {
    const startMs = performance.now()
    try {
      await converse(port, tree)
      reports++
    } catch (error) {
      if (!isTyped(error)) throw error
      errors++
    }
    assert.ok(performance.now() - startMs < 5 * TIMEOUT_MS)
  }
  for (let i = 0; i < streams.length; i += 10) await Promise.all(streams.slice(i, i + 10).map(one))
  assert.ok(errors > 1000 && reports > 50, `${errors} errors, ${reports} reports`)
  assert.ok(process.memoryUsage().rss - before < 300e6)
})

test('a server that talks without end while we send does not fill our memory', async (t) => {
  // Each byte in a frame of its own is what costs most to keep.
  const tiny = Buffer.concat(Array.from({ length: 20_000 }, () => encodeFrame(MSG.DATA, Buffer.from([1]))))
  const notices = Buffer.concat(Array.from({ length: 100 }, () => encodeFrame(MSG.INFO, Buffer.alloc(60_000, 0x1b))))
  const deletions = Buffer.concat(Array.from({ length: 5000 }, () => encodeFrame(MSG.DELETED, Buffer.from('x'))))
  for (const [what, flood] of Object.entries({ tiny, notices, deletions })) {
    const port = await fakeServer(t, (socket) => {
      socket.write(preamble())
      const pour = () => {
        while (!socket.destroyed && socket.write(flood));
      }
      socket.on('drain', pour)
      socket.resume()
      pour()
    })
    const session = await Session.open(sessionOptions(port, '', { timeoutMs: 5000 }))
    const before = process.memoryUsage()
    // Nobody takes what comes: as when all our time goes into sending one large file.
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const after = process.memoryUsage()
    session.destroy()
    const grown = after.heapUsed + after.external - before.heapUsed - before.external
    assert.ok(grown < 100e6, `${what}: ${Math.round(grown / 1e6)} MB`)
  }
})
