import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { BlockSearch, type BlockSums } from '../src/delta/search.js'
import { createSums, type Digest } from '../src/digest.js'
import { RECORDED_BASIS, STOCK_350 } from './golden.js'
import { demultiplex, readServer, serverPreamble } from './recorded.js'
import { pseudoRandom, randomBytes } from './stage.js'

/** checksum.c get_checksum1(), as its comment describes it: two 16-bit sums over signed bytes. */
function weakSum(bytes: Uint8Array): number {
  let s1 = 0
  let s2 = 0
  for (const byte of bytes) {
    s1 = (s1 + ((byte << 24) >> 24)) & 0xffff
    s2 = (s2 + s1) & 0xffff
  }
  return (s1 | (s2 << 16)) >>> 0
}

const { block: strong } = await createSums('xxh128', 1, true)
const S2_LENGTH = 16

function strongSum(digest: Digest, bytes: Uint8Array): Buffer {
  digest.reset()
  digest.update(bytes)
  return digest.final()
}

/** What a receiver sends of its basis file. */
function sumsOf(basis: Buffer, blockLength: number, s2Length = S2_LENGTH): BlockSums {
  const count = Math.ceil(basis.length / blockLength)
  const blocks = Array.from({ length: count }, (_, i) => basis.subarray(i * blockLength, (i + 1) * blockLength))
  return {
    head: { count, blockLength, s2Length, remainder: basis.length % blockLength },
    weak: Uint32Array.from(blocks, weakSum),
    strong: Buffer.concat(blocks.map((block) => strongSum(strong, block).subarray(0, s2Length))),
  }
}

interface Result {
  file: Buffer
  literalBytes: number
  matches: number[]
}

/** Searches `file` and puts it together again as the receiver does. `pieces` says how many bytes come at a time. */
function search(
  basis: Buffer,
  file: Buffer,
  blockLength: number,
  pieces: () => number,
  sums = sumsOf(basis, blockLength),
): Result {
  const parts: Buffer[] = []
  const result: Result = { file, literalBytes: 0, matches: [] }
  const one = new BlockSearch(sums, strong, {
    literal: (bytes) => {
      assert.ok(bytes.length > 0)
      result.literalBytes += bytes.length
      parts.push(Buffer.from(bytes))
    },
    match: (block) => {
      result.matches.push(block)
      parts.push(basis.subarray(block * blockLength, (block + 1) * blockLength))
    },
  })
  try {
    for (let at = 0; at < file.length; ) {
      const length = Math.min(file.length - at, Math.max(1, pieces()))
      one.take(file.subarray(at, at + length))
      at += length
    }
    one.finish()
  } finally {
    one.close()
  }
  result.file = Buffer.concat(parts)
  return result
}

/** The greedy search in plain words: at each place take a block of the basis that is there, else go one byte on. */
function plainSearch(basis: Buffer, file: Buffer, blockLength: number): number {
  const known = new Set<string>()
  for (let at = 0; at + blockLength <= basis.length; at += blockLength)
    known.add(basis.toString('latin1', at, at + blockLength))
  const remainder = basis.length % blockLength
  const last = basis.subarray(basis.length - remainder)
  let literalBytes = 0
  for (let at = 0; at < file.length; ) {
    if (at + blockLength <= file.length && known.has(file.toString('latin1', at, at + blockLength))) at += blockLength
    else if (remainder > 0 && at === file.length - remainder && file.subarray(at).equals(last)) at += remainder
    else {
      at++
      literalBytes++
    }
  }
  return literalBytes
}

const ALL_AT_ONCE = () => Number.MAX_SAFE_INTEGER

function check(basis: Buffer, file: Buffer, blockLength: number, pieces = ALL_AT_ONCE): Result {
  const result = search(basis, file, blockLength, pieces)
  assert.ok(result.file.equals(file), 'the receiver gets the file')
  assert.equal(result.literalBytes, plainSearch(basis, file, blockLength))
  return result
}

// lib.dom, which declares WebAssembly, is not among our libraries.
interface Exports {
  memory: { readonly buffer: ArrayBuffer; grow(pages: number): void }
  weak(address: number, length: number): number
  roll(at: number, length: number): void
  current(): number
}
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object
  Instance: new (module: object, imports: object) => { exports: object }
}

test('weak sums are those of a plain reference: every length to 64, long blocks, and rolled along', () => {
  const wasm = readFileSync(new URL('../src/delta/search.wasm', import.meta.url))
  const module = new WebAssembly.Module(wasm)
  const exports = new WebAssembly.Instance(module, { env: { abort: () => undefined } }).exports as Exports
  exports.memory.grow(4)
  const at = 0x10000
  const memory = Buffer.from(exports.memory.buffer)
  const content = Buffer.concat([
    randomBytes(1000, 1),
    Buffer.alloc(200, 0x80),
    Buffer.alloc(200, 0x7f),
    Buffer.alloc(200, 0xff),
    randomBytes(140_000, 2),
  ])
  content.copy(memory, at)
  for (let length = 0; length <= 64; length++) {
    for (let start = 0; start < 1800; start += 1 + (start % 7)) {
      assert.equal(exports.weak(at + start, length) >>> 0, weakSum(content.subarray(start, start + length)))
    }
  }
  for (const length of [700, 701, 8191, 131_072]) {
    assert.equal(exports.weak(at, length) >>> 0, weakSum(content.subarray(0, length)))
    for (let start = 0; start < 50; start++) {
      exports.roll(at + start, length)
      assert.equal(exports.current() >>> 0, weakSum(content.subarray(start + 1, start + 1 + length)))
    }
  }
})

test('weak and strong sums of blocks are those that a stock generator sent', async () => {
  const { seed, frames } = serverPreamble(STOCK_350.fromServer)
  const { requests } = readServer([demultiplex([frames]).data], 5)
  const [asked] = requests.filter(({ sums }) => sums !== '')
  const { block } = await createSums('md5', seed, true)
  const ours = Array.from({ length: 4 }, (_, i) => {
    const bytes = RECORDED_BASIS.subarray(i * 700, (i + 1) * 700)
    const weak = Buffer.alloc(4)
    weak.writeUInt32LE(weakSum(bytes))
    return Buffer.concat([weak, strongSum(block, bytes).subarray(0, 2)]).toString('hex')
  })
  assert.equal(ours.join(''), asked.sums)
})

type Edit = {
  at: number
  kind: 'insert' | 'delete' | 'overwrite' | 'move' | 'repeat' | 'zeros' | 'truncate'
  length: number
}
const edits = fc.array(
  fc.record({
    at: fc.nat(9999),
    kind: fc.constantFrom('insert', 'delete', 'overwrite', 'move', 'repeat', 'zeros', 'truncate'),
    length: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 3000 })),
  }) as fc.Arbitrary<Edit>,
  { maxLength: 6 },
)

function edited(basis: Buffer, list: readonly Edit[]): Buffer {
  let file = basis
  list.forEach(({ at, kind, length }, i) => {
    const start = Math.floor((at / 10_000) * file.length)
    const [before, cut, after] = [
      file.subarray(0, start),
      file.subarray(start, start + length),
      file.subarray(start + length),
    ]
    const fresh = randomBytes(length, at + i + 1)
    if (kind === 'insert') file = Buffer.concat([before, fresh, cut, after])
    else if (kind === 'delete') file = Buffer.concat([before, after])
    else if (kind === 'overwrite') file = Buffer.concat([before, fresh.subarray(0, cut.length), after])
    else if (kind === 'move') file = Buffer.concat([cut, before, after])
    else if (kind === 'repeat') file = Buffer.concat([before, cut, cut, cut, after])
    else if (kind === 'zeros') file = Buffer.concat([before, Buffer.alloc(length), after])
    else file = before
  })
  return file
}

/** Of `sizes` around whole numbers of blocks, so that remainders of every kind occur; few byte values repeat blocks. */
const basisFile = fc
  .record({
    blocks: fc.integer({ min: 0, max: 12 }),
    more: fc.integer({ min: -1, max: 40 }),
    seed: fc.nat(),
    values: fc.constantFrom(1, 2, 256),
  })
  .map(({ blocks, more, seed, values }) => {
    const next = pseudoRandom(seed + 1)
    return (blockLength: number) => {
      const bytes = Buffer.alloc(Math.max(0, blocks * blockLength + more))
      for (let i = 0; i < bytes.length; i++) bytes[i] = next() * values
      return bytes
    }
  })

test('any edit of any file: the tokens give the file, with as few literals as the plain search needs', () => {
  fc.assert(
    fc.property(
      basisFile,
      edits,
      fc.constantFrom(1, 2, 7, 16, 17, 64, 500, 700),
      fc.integer({ min: 1, max: 5000 }),
      (make, list, blockLength, piece) => {
        const basis = make(blockLength)
        if (basis.length === 0) return
        check(basis, edited(basis, list), blockLength, () => piece)
      },
    ),
    { numRuns: 1500 },
  )
})

test('an unchanged file is all blocks, in order; an unrelated one all literal', () => {
  for (const size of [1, 699, 700, 701, 1399, 1400, 7000, 7001]) {
    const basis = randomBytes(size, size)
    const { matches, literalBytes } = check(basis, basis, 700)
    assert.deepEqual(
      matches,
      Array.from({ length: Math.ceil(size / 700) }, (_, i) => i),
    )
    assert.equal(literalBytes, 0)
    assert.deepEqual(check(basis, randomBytes(size + 3, size + 9), 700).matches, [])
  }
})

test('edits at the edges of the window change nothing', () => {
  const basis = randomBytes(1_200_000, 5)
  const window = 1 << 18
  for (const blockLength of [700, 4096, 131_072]) {
    for (const edge of [window, window + blockLength, window + 2 * blockLength, 2 * window, 3 * window]) {
      for (const at of [edge - blockLength, edge - 1, edge, edge + 1]) {
        const file = Buffer.concat([basis.subarray(0, at), Buffer.from('!'), basis.subarray(at)])
        const { file: got, literalBytes } = search(basis, file, blockLength, ALL_AT_ONCE)
        assert.ok(got.equals(file))
        assert.ok(literalBytes <= blockLength + 1, `${literalBytes} literal bytes for one that was inserted at ${at}`)
      }
    }
  }
})

test('blocks that repeat and zeros: the block behind the last match is taken first, so that runs stay runs', () => {
  const zeros = Buffer.alloc(70_000)
  const { matches } = check(zeros, zeros, 700)
  assert.deepEqual(
    matches,
    Array.from({ length: 100 }, (_, i) => i),
  )
  check(Buffer.alloc(7001), Buffer.alloc(100_001), 700)
  check(Buffer.alloc(100_001), Buffer.alloc(7001), 700)
})

test('blocks whose weak sums are equal are told apart by their strong sums', () => {
  // Moving one unit between three neighbours (+1 -2 +1) changes neither of the weak sums.
  const basis = Buffer.concat(
    Array.from({ length: 40 }, (_, i) => {
      const block = Buffer.alloc(700, 0x20)
      const at = i * 10
      block[at]++
      block[at + 1] -= 2
      block[at + 2]++
      return block
    }),
  )
  assert.equal(new Set(sumsOf(basis, 700).weak).size, 1)
  const order = [39, 3, 3, 17, 0]
  const file = Buffer.concat(order.map((i) => basis.subarray(i * 700, (i + 1) * 700)))
  assert.deepEqual(check(basis, file, 700).matches, order)
})

test('a short strong sum is compared in its own length', () => {
  const basis = randomBytes(7000, 1)
  const file = edited(basis, [{ at: 5000, kind: 'insert', length: 5 }])
  const { file: got, literalBytes } = search(basis, file, 700, ALL_AT_ONCE, sumsOf(basis, 700, 2))
  assert.ok(got.equals(file))
  assert.ok(literalBytes <= 705)
})

test('64 MiB pass through less than 2 MiB of memory', () => {
  const basis = randomBytes(1 << 20, 3)
  const sums = sumsOf(basis, 8192)
  let most = 0
  let literalBytes = 0
  let matched = 0
  const one = new BlockSearch(sums, strong, {
    literal: (bytes) => {
      literalBytes += bytes.length
      most = Math.max(most, bytes.buffer.byteLength) // that of the module
    },
    match: () => {
      matched++
    },
  })
  const size = 64 << 20
  for (let at = 0; at < size; ) {
    const from = at % (basis.length + 1) // the basis over and over, with one byte between
    const length = Math.min(size - at, from === basis.length ? 1 : basis.length - from)
    one.take(from === basis.length ? Buffer.alloc(1) : basis.subarray(from, from + length))
    at += length
  }
  one.finish()
  one.close()
  assert.ok(most < 2 << 20, `${most} bytes`)
  assert.equal(literalBytes + matched * 8192, size)
  assert.ok(literalBytes < size / 50)
})

test('a receiver that sends sums to make us search for ever costs us seconds at most, and still gets the file', () => {
  // The sums that the index puts into one chain: multiples of what its hash multiplies by, modulo 2^32.
  let inverse = 1n
  for (let i = 0; i < 6; i++) inverse = (inverse * (2n - 0x9e3779b1n * inverse)) & 0xffffffffn
  const oneChain = (i: number) => Number(((BigInt(i % 128) | (BigInt(i >> 7) << 22n)) * inverse) & 0xffffffffn)
  const zeros = Buffer.alloc(1 << 20)
  const attacks: [what: string, count: number, blockLength: number, weak: (i: number) => number][] = [
    ['one chain', 1 << 14, 700, (i) => oneChain(i + 1)],
    ['equal weak sums of short blocks', 10_000, 1, () => 0],
    ['equal weak sums', 10_000, 700, () => 0],
    ['equal weak sums of long blocks', 10, 1 << 17, () => 0],
  ]
  for (const [what, count, blockLength, weakOf] of attacks) {
    const head = { count, blockLength, s2Length: 16, remainder: 0 }
    const weak = Uint32Array.from({ length: count }, (_, i) => weakOf(i))
    const startMs = performance.now()
    const { file, matches } = search(Buffer.alloc(0), zeros, blockLength, ALL_AT_ONCE, {
      head,
      weak,
      strong: Buffer.alloc(count * 16),
    })
    const ms = performance.now() - startMs
    assert.ok(file.equals(zeros))
    assert.deepEqual(matches, [])
    assert.ok(ms < 5000, `${what}: ${Math.round(ms)} ms`)
  }
})
