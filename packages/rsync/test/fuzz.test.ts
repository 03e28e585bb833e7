// Mutilated messages into every decoder: what comes out keeps the decoder's promises, or it is a typed error, at once.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AclCodec, decodePosixAcl } from '../src/attributes/acl.js'
import { parseFakeStat } from '../src/attributes/fake-super.js'
import { decodeXattrRequest, decodeXattrValue, XattrCodec, type Xattrs } from '../src/attributes/xattr.js'
import { parseChmod } from '../src/chmod.js'
import { chooseDigest, parseResponse } from '../src/daemon/secrets.js'
import type { Sums } from '../src/digest.js'
import { ProtocolError } from '../src/errors.js'
import { compileWildcard, matchesWildcard } from '../src/filter/wildmatch.js'
import { decodeRule, encodeRules, FilterError, FilterList, FilterScopes, type Reading } from '../src/filter.js'
import {
  type Annex,
  encodeIdList,
  FlistDecoder,
  FlistEncoder,
  type FlistFormat,
  receiveIds,
} from '../src/flist/codec.js'
import type { FileEntry } from '../src/flist/entry.js'
import { FileLists } from '../src/flist/lists.js'
import { parseGreeting } from '../src/handshake.js'
import { parseInvocation, UsageError } from '../src/options.js'
import type { RawPath } from '../src/raw-path.js'
import { Inflater } from '../src/receive/inflater.js'
import { expandPath, requestedPaths, unescapeArgument } from '../src/remote-args.js'
import { PUT_MAX, ROUND, receivePut, receiveRound } from '../src/rounds.js'
import { FRAME_MAX, MSG, S_IFBLK, S_IFIFO } from '../src/wire/constants.js'
import { Cursor, UNDERFLOW } from '../src/wire/cursor.js'
import { Demultiplexer, encodeFrame } from '../src/wire/mux.js'
import { NdxCodec } from '../src/wire/ndx.js'
import { decodeSumHead, encodeSumHead } from '../src/wire/sum-head.js'
import { DeflatedTokenDecoder, DeflatedTokens, decodePlainToken, PlainTokens } from '../src/wire/token.js'
import { Writer } from '../src/wire/writer.js'
import { lie, lieDirectory, lieLink } from './hostile-peer.js'
import { Chance, FUZZ, mutate, seedOf } from './mutate.js'
import { randomBytes, repeat } from './stage.js'

/** No message may keep a process that has others to serve for longer. */
const SLOW_MS = 1500
const MEMORY_MAX = 300e6

/** A good message, and what reads its mutations. */
interface Target {
  bytes: Buffer
  read: (bytes: Buffer, chance: Chance) => unknown
}

const written = (write: (w: Writer) => void): Buffer => {
  const w = new Writer()
  write(w)
  return Buffer.from(w.take())
}

const isExpected = (error: unknown) =>
  error === UNDERFLOW || error instanceof ProtocolError || error instanceof UsageError || error instanceof FilterError

// File lists

const ids = {
  userName: (uid: number) => (uid === 0 ? '' : `user${uid}`),
  groupName: (gid: number) => (gid === 0 ? '' : `group${gid}`),
  user: (uid: number) => uid,
  group: (gid: number) => gid,
}
const acl = {
  access: { user: 6, group: 4, mask: 6, other: 4, names: [{ id: 1000, user: true, access: 6 }] },
  inherit: null,
}
const xattrs: Xattrs = [
  { name: 'user.a', length: 2, sum: null, value: Buffer.from('hi'), num: 1, asked: false },
  { name: 'user.b', length: 99, sum: randomBytes(16, 1), value: null, num: 2, asked: true },
]
const ENTRIES: FileEntry[] = [
  lieDirectory('', { topDir: true }),
  lie('plain', { size: 12_345, mtimeNsec: 5, uid: 1000, gid: 100 }),
  lie('plainer', { size: 2 ** 40, mtime: -5, linkGroup: 'x' }),
  lie('third', { linkGroup: 'x' }),
  lieLink('link', '../somewhere/else'),
  lie('fifo', { mode: S_IFIFO | 0o600 }),
  lie('block', { mode: S_IFBLK | 0o600, rdevMajor: 7, rdevMinor: 300 }),
  lieDirectory('dir'),
  lie(`dir/${'n'.repeat(250)}`),
  lie(`dir/${'n'.repeat(249)}m`, { size: 7 }),
]

function annexesOf(kind: number): Annex[] {
  if (kind === 0) return []
  const power = (['super', 'user', 'fake'] as const)[kind % 3]
  return [
    new AclCodec({ power, ids: kind > 3 ? ids : null, incRecurse: kind % 2 === 1 }),
    new XattrCodec({ power, sender: kind < 0, all: kind > 4 }),
  ]
}

function formatOf(kind: number, annexes: Annex[]): FlistFormat {
  const protocol = 30 + (kind % 3)
  return {
    protocol,
    varintFlags: kind % 2 === 0,
    safeFlist: kind % 4 < 2,
    relative: kind % 5 === 0,
    checksumLength: kind % 3 === 1 ? 16 : 0,
    ...(kind % 4 === 3 ? { ids } : {}),
    annexes,
    keeps: { users: true, groups: true, devices: true, specials: kind % 2 === 0, links: true },
  }
}

function checkEntry(entry: FileEntry, relative: boolean): void {
  const path = relative ? entry.path.replace(/^\/+/, '') : entry.path
  assert.ok(path.length < 4096)
  for (const name of path === '' ? [] : path.split('/'))
    assert.ok(name !== '' && name !== '.' && name !== '..' && !name.includes('\0'), JSON.stringify(entry.path))
  assert.ok(!entry.target.includes('\0') && entry.target.length <= 4096)
  for (const number of [entry.size, entry.mtime, entry.mtimeNsec, entry.mode, entry.uid, entry.gid])
    assert.ok(Number.isSafeInteger(number))
  assert.ok(entry.size >= 0 && entry.uid >= 0 && entry.gid >= 0 && entry.mode >= 0 && entry.mode <= 0o177777)
}

function listTarget(kind: number): Target {
  const annexKind = kind % 6
  const bytes = written((w) => {
    const encoder = new FlistEncoder(formatOf(kind, annexesOf(annexKind)), w)
    for (const entry of ENTRIES)
      encoder.encode({ ...entry, acl, xattrs: annexKind === 0 ? null : xattrs, sum: Buffer.alloc(16) })
    encoder.end(kind % 2)
  })
  const read = (mutated: Buffer, chance: Chance) => {
    const format = formatOf(kind, annexesOf(annexKind))
    const whole = decodeList(new FlistDecoder(format), [mutated])
    for (const entry of whole.entries) checkEntry(entry, format.relative === true)
    if (chance.below(8) === 0) {
      const at = chance.below(mutated.length + 1)
      const cut = [mutated.subarray(0, at), mutated.subarray(at)]
      const split = decodeList(new FlistDecoder(formatOf(kind, annexesOf(annexKind))), cut)
      assert.deepEqual(split, whole, 'decodes alike wherever it was cut')
    }
    const lists = new FileLists(kind % 2 === 0)
    const { start, entries } = lists.add(whole.entries, null, false, false)
    for (let ndx = start; ndx < start + entries.length; ndx++)
      if (entries[ndx - start] !== null) assert.equal(lists.require(ndx).entry, entries[ndx - start])
    const names = entries.filter((entry) => entry !== null).map(({ path }) => path)
    assert.equal(new Set(names).size, names.length, 'no name is left twice')
  }
  return { bytes, read }
}

/** Entries up to where the bytes end, or are wrong. */
function decodeList(decoder: FlistDecoder, pieces: Buffer[]): { entries: FileEntry[]; outcome: string } {
  const entries: FileEntry[] = []
  const cursor = new Cursor()
  const waiting = [...pieces]
  decoder.begin(0)
  for (;;) {
    const start = cursor.pos
    try {
      const entry = decoder.decode(cursor)
      if ('end' in entry) return { entries, outcome: `end ${entry.ioError}` }
      entries.push(entry)
    } catch (error) {
      if (error instanceof ProtocolError) return { entries, outcome: error.message }
      if (error !== UNDERFLOW) throw error
      const more = waiting.shift()
      if (more === undefined) return { entries, outcome: 'underflow' }
      cursor.refill(start, more)
    }
  }
}

// Content

const plainTokens = written((w) => {
  const tokens = new PlainTokens(w)
  tokens.literal(randomBytes(300, 2))
  tokens.match(3)
  tokens.literal(Buffer.from('end'))
  tokens.end()
})
const deflatedTokens = written((w) => {
  const tokens = new DeflatedTokens(w, 6)
  tokens.literal(Buffer.from(repeat('a line of text ', 3000)))
  for (const block of [1, 2, 3, 90, 2]) tokens.match(block)
  tokens.literal(randomBytes(200, 3))
  tokens.end()
})

function readDeflated(bytes: Buffer): void {
  const decoder = new DeflatedTokenDecoder()
  const inflater = new Inflater()
  const c = new Cursor(bytes)
  let out = 0
  const count = (pieces: Buffer[]) => {
    for (const piece of pieces) out += piece.length
  }
  for (;;) {
    const token = decoder.decode(c)
    if (token === 'end') break
    if ('deflated' in token) count(inflater.push(token.deflated))
    else {
      count(inflater.endOfLiteral())
      assert.ok(token.run[1] - token.run[0] < 65_536)
    }
  }
  count(inflater.endOfLiteral())
  assert.ok(out <= bytes.length * 1100 + 65_536, `${out} bytes of ${bytes.length}`)
}

// Rules, arguments, lines

const RULES = ['- *.o', '+ /a/**/b', 'P [[:alpha:]]*', ':n- .rules', '-! */', 'H,x user.*', '!', '-C', ': /.x']
const reading: Reading = {
  read: () => Buffer.from('- from a file\n'),
  from0: false,
  deleteExcluded: false,
  environment: {},
  warn: () => undefined,
}
function readRules(bytes: Buffer): void {
  const c = new Cursor(bytes)
  const texts: string[] = []
  for (let text = decodeRule(c); text !== null; text = decodeRule(c)) texts.push(text)
  const scopes = new FilterScopes(FilterList.fromWire(texts, reading).at('/m' as RawPath, reading), true)
  for (const path of ['a', 'a/x/b', 'file.o', `d/${'a'.repeat(200)}`]) scopes.hides(path as RawPath, false)
}

const ARGUMENTS = [
  ['--server', '-vlogDtpre.iLsfxCIvu', '--log-format=%i%n', '--delete-after', '--timeout=60', '.', 'm/'],
  ['--server', '--sender', '-lHogDtpAXrcRze.iLsfxCIvu', '--files-from=-', '--from0', '.', 'm/a', 'm/b*'],
  [
    '--server',
    '-re.LsfxCIvu',
    '--partial-dir=.p',
    '--backup-dir=b',
    '--suffix=~',
    '--max-delete=3',
    '--chmod=D755,F644',
  ],
  [
    '--server',
    '-re.',
    '--link-dest=../x',
    '--skip-compress=gz/[jz]*',
    '--bwlimit=1.5m',
    '--max-size=1.5G',
    '-B700',
    '.',
    'm',
  ],
]
const GREETING = '@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4'

const text = (bytes: Buffer) => bytes.toString('latin1')
const from = (string: string) => Buffer.from(string, 'latin1')

function readArguments(bytes: Buffer): void {
  const args = text(bytes).split('\0')
  const { settings, operands } = parseInvocation(args.map(unescapeArgument), {}, { refuseOptions: 'delete-before' })
  assert.ok(settings.timeoutMs >= 0 && settings.timeoutMs < 2 ** 31, 'a timer takes no more')
  assert.ok(settings.blockSize >= 0 && settings.blockSize <= 1 << 17)
  for (const operand of operands) requestedPaths('m', operand)
}

function readWildcard(bytes: Buffer): void {
  const pattern = text(bytes)
  const wildcard = compileWildcard(pattern)
  if (wildcard !== null) matchesWildcard(wildcard, 'a'.repeat(255), true)
  let listings = 0
  expandPath(pattern, () => (listings++ > 20_000 ? assert.fail('listings without end') : ['aaa', 'b', '.c']))
}

// Frames

function readFrames(bytes: Buffer, chance: Chance): void {
  const take = (step: number) => {
    const said: string[] = []
    let data = ''
    const mux = new Demultiplexer(
      (piece) => (data += text(piece)),
      (tag, payload) => said.push(`${tag} ${text(payload)}`),
    )
    try {
      for (let at = 0; at < bytes.length; at += step) mux.push(bytes.subarray(at, at + step))
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      said.push(error.message)
    }
    return { data, said }
  }
  assert.deepEqual(take(1 + chance.below(9)), take(FRAME_MAX))
}

function readNumbers(bytes: Buffer, chance: Chance): void {
  const c = new Cursor(bytes)
  const ndx = new NdxCodec()
  for (;;) {
    const kind = chance.below(6)
    const value =
      kind === 0
        ? c.varint()
        : kind === 1
          ? c.varlong(3 + chance.below(2))
          : kind === 2
            ? c.vstring(1024).length
            : ndx.decode(c)
    assert.ok(Number.isSafeInteger(value))
    if (kind === 2) assert.ok(value <= 1024)
  }
}

const idList = written((w) =>
  encodeIdList(
    w,
    new Map([
      [1, 'one'],
      [70_000, 'many'],
      [5, ''],
    ]),
    'root',
  ),
)

/** What of a channel decoders use; it ends with UNDERFLOW. */
function channelOf(bytes: Buffer) {
  const c = new Cursor(bytes)
  return {
    receive: async <T extends {}>(_what: string, decode: (c: Cursor) => T): Promise<T> => decode(c),
    tryReceive: <T extends {}>(decode: (c: Cursor) => T): T => decode(c),
  }
}

const PUT_FORMAT = formatOf(2, [])
const putBytes = written((w) => {
  const encoder = new FlistEncoder(PUT_FORMAT, w)
  for (const entry of ENTRIES.slice(0, 2)) encoder.encode(entry)
  encoder.end(0)
  w.i32(5)
  w.bytes(Buffer.from('hello'))
  w.bytes(Buffer.alloc(16))
})
const putSums = {
  length: 16,
  file: { reset: () => undefined, update: () => undefined, final: () => Buffer.alloc(16) },
} as unknown as Sums

async function readPut(bytes: Buffer): Promise<void> {
  const put = await receivePut(channelOf(bytes), PUT_FORMAT, putSums)
  if (put === null) return
  for (const entry of put.entries) checkEntry(entry, false)
  assert.ok(put.content.length <= PUT_MAX && put.entries.length <= 64)
}

async function readRound(bytes: Buffer): Promise<void> {
  const round = await receiveRound(channelOf(bytes))
  if (round.kind !== 'rename') return
  for (const path of [round.from, round.to])
    for (const name of path.split('/')) assert.ok(name !== '' && name !== '.' && name !== '..' && !name.includes('\0'))
}

const TARGETS: Record<string, Target> = {
  ...Object.fromEntries(Array.from({ length: 24 }, (_, kind) => [`file list ${kind}`, listTarget(kind)])),
  'sum head': {
    bytes: written((w) => encodeSumHead(w, { count: 9, blockLength: 700, s2Length: 16, remainder: 5 })),
    read: (bytes) => {
      const { count, blockLength, s2Length, remainder } = decodeSumHead(new Cursor(bytes), 16)
      assert.ok(count >= 0 && blockLength >= (count > 0 ? 1 : 0) && blockLength <= 1 << 17)
      assert.ok(count * (4 + s2Length) <= 512 << 20 && remainder >= 0 && remainder <= blockLength)
    },
  },
  'plain tokens': {
    bytes: plainTokens,
    read: (bytes) => {
      for (const c = new Cursor(bytes); decodePlainToken(c) !== 'end'; );
    },
  },
  'deflated tokens': { bytes: deflatedTokens, read: readDeflated },
  'id list': { bytes: idList, read: (bytes) => receiveIds(channelOf(bytes), true, () => undefined) },
  'attribute request': {
    bytes: Buffer.from([2, 0]),
    read: (bytes) => assert.ok(decodeXattrRequest(new Cursor(bytes), xattrs).length <= xattrs.length),
  },
  'attribute value': {
    bytes: Buffer.concat([Buffer.from([2, 99]), randomBytes(99, 5)]),
    read: (bytes) => decodeXattrValue(new Cursor(bytes), xattrs, 0),
  },
  'filter list': { bytes: written((w) => encodeRules(w, RULES)), read: readRules },
  ...Object.fromEntries(
    ARGUMENTS.map((args, i) => [`arguments ${i}`, { bytes: from(args.join('\0')), read: readArguments }]),
  ),
  greeting: { bytes: from(GREETING), read: (bytes) => chooseDigest(parseGreeting(text(bytes)).digests) },
  login: { bytes: from('user c2VjcmV0'), read: (bytes) => parseResponse(text(bytes), 'challenge', 'md5') },
  wildcards: { bytes: from('*a[[:alpha:]]*/b?[^x-z]/**/*a*a*a*b'), read: readWildcard },
  chmod: { bytes: from('D2755,Fu=rwX,go-w,a+rx'), read: (bytes) => parseChmod(text(bytes)) },
  'kept stat': { bytes: from('100644 8,1 1000:1000'), read: (bytes) => parseFakeStat(text(bytes)) },
  'kept ACL': {
    bytes: Buffer.from('0200000001000600ffffffff04000400ffffffff20000400ffffffff', 'hex'),
    read: decodePosixAcl,
  },
  round: {
    bytes: written((w) => {
      w.u8(ROUND.RENAME)
      w.vstring('a/b')
      w.vstring('c'.repeat(300))
    }),
    read: readRound,
  },
  put: { bytes: putBytes, read: readPut },
  frames: {
    bytes: Buffer.concat([
      encodeFrame(MSG.DATA, randomBytes(50, 6)),
      encodeFrame(MSG.INFO, from('said')),
      encodeFrame(MSG.NOOP, Buffer.alloc(0)),
      encodeFrame(MSG.DELETED, from('gone\0')),
      encodeFrame(MSG.DATA, randomBytes(9, 7)),
    ]),
    read: readFrames,
  },
  numbers: { bytes: randomBytes(80, 8), read: readNumbers },
}

test(`${FUZZ} mutilated messages: each decoder returns what it promises, or throws a typed error, at once`, async () => {
  const chance = new Chance(seedOf('decoders'))
  const targets = Object.entries(TARGETS)
  for (const [what, { bytes, read }] of targets) {
    try {
      await read(bytes, chance)
    } catch (error) {
      assert.ok(error === UNDERFLOW || what === 'numbers', `${what}: ${String(error)}`)
    }
  }
  const before = process.memoryUsage().rss
  const outcomes = { fine: 0, refused: 0 }
  for (let i = 0; i < FUZZ; i++) {
    const [what, { bytes, read }] = chance.pick(targets)
    const mutated = mutate(bytes, chance, 0, 4)
    const startMs = performance.now()
    try {
      const result = read(mutated, chance)
      if (result instanceof Promise) await result
      outcomes.fine++
    } catch (error) {
      if (!isExpected(error)) {
        throw new Error(`${what} ${mutated.toString('base64')}: ${(error as Error).stack}`, { cause: error })
      }
      outcomes.refused++
    }
    const tookMs = performance.now() - startMs
    assert.ok(tookMs < SLOW_MS, `${what} took ${Math.round(tookMs)} ms: ${mutated.toString('base64')}`)
  }
  assert.ok(outcomes.fine > FUZZ / 20 && outcomes.refused > FUZZ / 20, JSON.stringify(outcomes))
  const grown = process.memoryUsage().rss - before
  assert.ok(grown < MEMORY_MAX, `${Math.round(grown / 1e6)} MB`)
})
