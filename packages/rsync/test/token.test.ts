import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { compareEntries, ProtocolError } from '../src/index.js'
import { Cursor } from '../src/wire/cursor.js'
import type { SumHead } from '../src/wire/sum-head.js'
import {
  type DeflatedToken,
  DeflatedTokenDecoder,
  DeflatedTokens,
  decodePlainToken,
  PlainTokens,
  type Token,
} from '../src/wire/token.js'
import { Writer } from '../src/wire/writer.js'
import { everySplit, Feed } from './feed.js'
import * as golden from './golden.js'
import { inflateTokens } from './inflate.js'
import { clientFrames, demultiplex, readClient } from './recorded.js'
import { randomBytes } from './stage.js'

const blocksOf = (basis: Buffer, length: number) => (block: number) =>
  basis.subarray(block * length, (block + 1) * length)

function applyPlain(tokens: readonly Token[], blockOf: (block: number) => Buffer): Buffer {
  return Buffer.concat(
    tokens.flatMap((token) => (token === 'end' ? [] : 'literal' in token ? token.literal : blockOf(token.match))),
  )
}

const RECORDINGS: [
  what: string,
  golden.Recording,
  protocol: number,
  varintFlags: boolean,
  kind: 'plain' | 'zlib' | 'zlibx',
][] = [
  ['3.5.0', golden.STOCK_350, 32, true, 'plain'],
  ['3.2.3, protocol 31', golden.STOCK_323_PROTOCOL_31, 31, false, 'plain'],
  ['3.2.3, protocol 30', golden.STOCK_323_PROTOCOL_30, 30, false, 'plain'],
  ['3.5.0, zlibx', golden.STOCK_350_ZLIBX, 32, true, 'zlibx'],
  ['3.2.7, zlib', golden.STOCK_327_ZLIB, 32, true, 'zlib'],
]

for (const [what, recording, protocol, varintFlags, kind] of RECORDINGS) {
  test(`a stock sender's tokens give the files that were on its disk, wherever TCP cut them (${what})`, () => {
    const { data, messages } = demultiplex([clientFrames(recording.fromClient)])
    assert.deepEqual(messages, [])
    const script = {
      protocol,
      varintFlags,
      safeFlist: true,
      names: recording === golden.STOCK_350,
      deflated: kind !== 'plain',
    }
    for (const pieces of everySplit(data, 7)) {
      const sent = readClient(pieces, script)
      assert.ok(sent.exhausted)
      const paths = sent.entries.sort(compareEntries).map(({ path }) => path as string)
      const files = sent.files.map(({ request, head, tokens, sum }) => {
        const content = contentOf(tokens, head, kind)
        // The whole-file sum is not seeded.
        assert.equal(createHash('md5').update(content).digest('hex'), sum)
        return [paths[request.ndx], content.toString('latin1')]
      })
      const expected = Object.entries(golden.RECORDED_CONTENT).map(([path, content]) => [
        path,
        content.toString('latin1'),
      ])
      assert.deepEqual(files.sort(), expected.sort())
    }
  })
}

function contentOf(tokens: (Token | DeflatedToken)[], head: SumHead, kind: 'plain' | 'zlib' | 'zlibx'): Buffer {
  const blockOf = blocksOf(golden.RECORDED_BASIS, head.blockLength)
  return kind === 'plain'
    ? applyPlain(tokens as Token[], blockOf)
    : inflateTokens(tokens as DeflatedToken[], blockOf, kind)
}

test('plain tokens: golden bytes of stock rsync', () => {
  const w = new Writer()
  const tokens = new PlainTokens(w)
  tokens.match(0)
  tokens.literal(Buffer.from('x'))
  tokens.end()
  assert.equal(w.take().toString('hex'), 'ffffffff010000007800000000')
})

interface Step {
  literal?: Buffer
  match?: number
}
const BLOCK = 50
const BASIS = randomBytes(BLOCK * 300, 7)
const blockOf = blocksOf(BASIS, BLOCK)

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ literal: fc.uint8Array({ minLength: 1, maxLength: 400 }).map((bytes) => Buffer.from(bytes)) }),
    fc.record({ match: fc.integer({ min: 0, max: 299 }) }),
    // Runs of following blocks are the usual case.
    fc.record({ match: fc.integer({ min: 0, max: 5 }) }),
  ),
  { maxLength: 40 },
)
const contentOfSteps = (list: readonly Step[]) =>
  Buffer.concat(list.map(({ literal, match }) => literal ?? blockOf(match ?? 0)))

function write(tokens: PlainTokens | DeflatedTokens, list: readonly Step[]): void {
  for (const { literal, match } of list) {
    if (literal !== undefined) tokens.literal(literal)
    else tokens.match(match ?? 0)
  }
  tokens.end()
}

function readDeflated(pieces: Buffer[]): DeflatedToken[] {
  const feed = new Feed(pieces)
  const decoder = new DeflatedTokenDecoder()
  const tokens: DeflatedToken[] = []
  do tokens.push(feed.receive((c) => decoder.decode(c)))
  while (tokens.at(-1) !== 'end')
  assert.ok(feed.exhausted)
  return tokens
}

function readPlain(pieces: Buffer[]): Token[] {
  const feed = new Feed(pieces)
  const tokens: Token[] = []
  do tokens.push(feed.receive(decodePlainToken))
  while (tokens.at(-1) !== 'end')
  assert.ok(feed.exhausted)
  return tokens
}

test('plain tokens: any file comes back, cut anywhere', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const w = new Writer()
      write(new PlainTokens(w), list)
      const bytes = w.take()
      for (const pieces of everySplit(bytes, 97))
        assert.deepEqual(applyPlain(readPlain(pieces), blockOf), contentOfSteps(list))
    }),
    { numRuns: 50 },
  )
})

test('deflated tokens: receivers of zlib and of zlibx both get any file back, cut anywhere', () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 9 }), (list, level) => {
      const w = new Writer()
      write(new DeflatedTokens(w, level), list)
      const bytes = w.take()
      for (const pieces of everySplit(bytes, 97)) {
        const tokens = readDeflated(pieces)
        for (const kind of ['zlib', 'zlibx'] as const)
          assert.deepEqual(inflateTokens(tokens, blockOf, kind), contentOfSteps(list))
      }
    }),
    { numRuns: 50 },
  )
})

test('deflated tokens: runs of more than 65536 blocks are split, distances of more than 63 take the long form', () => {
  const w = new Writer()
  const tokens = new DeflatedTokens(w, 6)
  for (let block = 0; block < 70_000; block++) tokens.match(block)
  tokens.match(70_100)
  tokens.match(3)
  tokens.match(4)
  tokens.end()
  const bytes = w.take()
  assert.ok(bytes.length < 32)
  const runs = readDeflated([bytes]).map((token) => (token !== 'end' && 'run' in token ? token.run : token))
  assert.deepEqual(runs, [[0, 65535], [65536, 69999], [70100, 70100], [3, 4], 'end'])
})

test('literals: none is longer than 32 KiB, for patched receivers refuse it', () => {
  const content = randomBytes(200_000, 3)
  const w = new Writer()
  write(new PlainTokens(w), [{ literal: content }])
  const tokens = readPlain([w.take()])
  assert.deepEqual(applyPlain(tokens, blockOf), content)
  for (const token of tokens) assert.ok(token === 'end' || ('literal' in token && token.literal.length <= 32 * 1024))
  const tooLong = Buffer.alloc(4)
  tooLong.writeInt32LE(32 * 1024 + 1)
  assert.throws(() => decodePlainToken(new Cursor(tooLong)), ProtocolError)
})

test('deflated tokens: a flag that stock rsync does not know is refused', () => {
  for (const flag of [1, 0x1f, 0x22, 0x3f]) {
    assert.throws(() => new DeflatedTokenDecoder().decode(new Cursor(Buffer.alloc(8, flag))), ProtocolError)
  }
})
