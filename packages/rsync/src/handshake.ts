import { createHash, randomInt } from 'node:crypto'
import type { Channel } from './channel.js'
import { type Checksum, checksumNamed, OFFERED } from './digest.js'
import { ConnectError, ProtocolError, RemoteError, TransferError } from './errors.js'
import { createMD4 } from './libraries.js'
import { printable } from './raw-path.js'
import { LASTING } from './rounds.js'
import { CF, PROTOCOL, RERR } from './wire/constants.js'
import type { Cursor } from './wire/cursor.js'

/** Digests for daemon authentication, best first (authenticate.c). */
export const AUTH_DIGESTS = ['sha512', 'sha256', 'sha1', 'md5', 'md4'] as const
type AuthDigest = (typeof AUTH_DIGESTS)[number]

const LINE_MAX = 4096
const LINES_MAX = 10_000 // of a message of the day
const VSTRING_MAX = 1024

export interface Credentials {
  user: string
  password: string
}

export interface Greeting {
  protocol: number
  /** The digests that the daemon offers; null where it is too old to say (before 3.2.7). */
  digests: string[] | null
}

/** `@RSYNCD: 31.0 sha512 sha256 …`, as either side sends it. */
export function parseGreeting(line: string): Greeting {
  const match = /^@RSYNCD: (\d{1,4})(?:\.(\d{1,4}))?((?: [\w.-]+)*)\s*$/.exec(line)
  if (match === null) throw new ProtocolError('greeting', `"${printable(line.slice(0, 80))}"; is this an rsync daemon?`)
  // Protocols from 30 on always name a subprotocol; one that is not 0 is a pre-release and speaks the one before.
  const version = Number(match[1]) - (match[2] !== undefined && match[2] !== '0' ? 1 : 0)
  return { protocol: version, digests: match[3] === '' ? null : match[3].trim().split(' ') }
}

export const greetingLine = (protocol: number) => `@RSYNCD: ${protocol}.0 ${AUTH_DIGESTS.join(' ')}\n`

/** What both ends have agreed on once a session is ready for its file list. */
export interface Agreement {
  protocol: number
  compatFlags: number
  checksum: Checksum
  compress: 'zlib' | 'zlibx' | null
  seed: number
  greeting: Greeting
}

export interface AgreeOptions {
  compress: boolean
  /** The highest protocol to offer; for tests of older ones. */
  protocol?: number
  checksums?: readonly Checksum[]
  /** --checksum-choice: both ends know it, and nothing is negotiated. */
  checksumChoice?: string | undefined
  /** --compress-choice, likewise. */
  compressChoice?: 'zlib' | 'zlibx' | 'none' | undefined
  /** Lists may come piece by piece. */
  incRecurse?: boolean
  /** The peer will send names of files between its frames. */
  namesFollow?: boolean | undefined
  /** The session may last (rounds.ts). */
  lasting?: boolean
}

export interface HandshakeOptions extends AgreeOptions {
  module: string
  credentials: Credentials | (() => Promise<Credentials>) | undefined
  /** Only the list of modules is wanted. */
  lists?: boolean
  /** Arguments for the daemon's server process; made when the daemon's greeting is known. */
  args: (greeting: Greeting) => string[]
  /** Receives each line of the message of the day. */
  motd?: (line: string) => void
}

/** From a connection to a session that waits for its file list (clientserver.c, compat.c setup_protocol()). */
export async function handshake(
  channel: Channel,
  options: HandshakeOptions & { lists: boolean },
): Promise<Agreement | null>
export async function handshake(channel: Channel, options: HandshakeOptions): Promise<Agreement>
export async function handshake(channel: Channel, options: HandshakeOptions): Promise<Agreement | null> {
  const offered = options.protocol ?? PROTOCOL.MAX
  channel.out.latin1(greetingLine(offered))
  await channel.flush()
  const greeting = await readGreeting(channel)
  const protocol = Math.min(offered, greeting.protocol)
  if (protocol < PROTOCOL.MIN) {
    throw new RemoteError(
      'refused',
      `the daemon speaks protocol ${greeting.protocol}; rsync 3.0 or newer (protocol 30) is needed`,
      RERR.PROTOCOL,
    )
  }
  channel.out.latin1(`${options.module}\n`)
  await channel.flush()
  if (!(await enterModule(channel, options, greeting))) return null

  for (const arg of options.args(greeting)) channel.out.latin1(`${arg}\0`)
  channel.out.latin1('\0')
  return agree(channel, options, greeting, protocol).catch((error: unknown) => {
    throw error instanceof ProtocolError ? (channel.earlyComplaint() ?? error) : error
  })
}

/** The same with a server that a remote shell has started with its arguments: no greeting, no module, no login. */
export async function shellHandshake(channel: Channel, options: AgreeOptions): Promise<Agreement> {
  const offered = options.protocol ?? PROTOCOL.MAX
  channel.out.i32(offered)
  await channel.flush()
  const theirs = await channel.receive('protocol version', (c) => c.i32())
  if (theirs < PROTOCOL.MIN || theirs > 255) {
    // io.c: what a login script prints is taken for a version.
    const known = theirs >= 20 && theirs < PROTOCOL.MIN
    const error = new RemoteError(
      'refused',
      known
        ? `the rsync there speaks protocol ${theirs}; rsync 3.0 or newer (protocol 30) is needed`
        : 'what came first is no protocol version: does a start-up file of the shell there print something?',
      RERR.PROTOCOL,
    )
    const text = 'protocol version mismatch -- is your shell clean?\n(see the rsync manpage for an explanation)'
    if (!known) error.told = { text, exitCode: RERR.PROTOCOL }
    throw error
  }
  const protocol = Math.min(offered, theirs)
  return agree(channel, options, { protocol: theirs, digests: null }, protocol)
}

async function agree(
  channel: Channel,
  options: AgreeOptions,
  greeting: Greeting,
  protocol: number,
): Promise<Agreement> {
  const checksums = (options.checksums ?? OFFERED).join(' ')
  const chooses = choicesOf(options)
  const sendChoices = () => {
    if (chooses.checksum) channel.out.vstring(checksums)
    if (chooses.compress) channel.out.vstring(COMPRESSIONS)
  }
  // A daemon that lists digests also negotiates checksums: our list can go in the same packet as the arguments.
  const early = greeting.digests !== null && protocol >= 30
  if (early) sendChoices()
  await channel.flush()
  channel.mayWriteFrames = early
  const said = await channel.receive('compatibility flags', (c) => c.varint())
  // Much is believed of an end that lasts: who has not offered it was told something else, or lies are told.
  const compatFlags = options.lasting === true ? said : said & ~CF.LASTING
  if (compatFlags & CF.INC_RECURSE && options.incRecurse !== true)
    throw new ProtocolError('compatibility flags', 'incremental recursion, which was not offered')
  const negotiates = (compatFlags & CF.VARINT_FLIST_FLAGS) !== 0
  if (negotiates && !early) {
    sendChoices()
    await channel.flush()
  }
  channel.mayWriteFrames = true
  if (!early && !negotiates) channel.sendEmptyFrame() // acknowledges the flags, so that the seed may follow
  const checksum = await agreedChecksum(channel, options, negotiates, checksums.split(' '))
  const compress = await agreedCompression(channel, options, negotiates)
  const seed = await channel.receive('checksum seed', (c) => c.i32())
  channel.multiplex(options.namesFollow === true && protocol < 31)
  if (early && !negotiates) await unwilling(channel)
  return { protocol, compatFlags, checksum, compress, seed, greeting }
}

/** A daemon that refuses an option has not read what we can do, and negotiates nothing: now it says why. */
async function unwilling(channel: Channel): Promise<never> {
  await channel.receive('refusal', (c) => ({ byte: c.u8() }))
  throw new ProtocolError('compatibility flags', 'a digest list without checksum negotiation')
}

const COMPRESSIONS = 'zlibx zlib'

const choicesOf = ({ checksumChoice, compress, compressChoice }: AgreeOptions) => ({
  checksum: checksumChoice === undefined,
  compress: compress && compressChoice === undefined,
})

async function agreedChecksum(
  channel: Channel,
  options: AgreeOptions,
  negotiates: boolean,
  ours: string[],
): Promise<Checksum> {
  if (options.checksumChoice !== undefined) return checksumNamed(options.checksumChoice)
  return checksumNamed(negotiates ? await choose(channel, 'checksum', ours) : 'md5')
}

async function agreedCompression(
  channel: Channel,
  options: AgreeOptions,
  negotiates: boolean,
): Promise<Agreement['compress']> {
  const { compress, compressChoice } = options
  if (!compress || compressChoice === 'none') return null
  if (compressChoice !== undefined) return compressChoice
  return negotiates ? ((await choose(channel, 'compression', COMPRESSIONS.split(' '))) as 'zlib' | 'zlibx') : 'zlib'
}

export interface ServerAgreeOptions extends AgreeOptions {
  /** What the client can do, as its arguments say. */
  capabilities: string
  /** The checksum seed that the client asks for; 0 where it does not. */
  seed: number
}

/** compat.c setup_protocol() of a server: what was agreed on in words is said in flags. */
export async function agreeAsServer(
  channel: Channel,
  options: ServerAgreeOptions,
  protocol: number,
): Promise<Agreement> {
  const { capabilities, incRecurse } = options
  const can = (letter: string) => capabilities.includes(letter)
  const negotiates = can('v')
  let flags = incRecurse === true && can('i') ? CF.INC_RECURSE : 0
  if (can('L')) flags |= CF.SYMLINK_TIMES
  if (can('f')) flags |= CF.SAFE_FLIST
  if (can('x')) flags |= CF.AVOID_XATTR_OPTIM
  if (can('C')) flags |= CF.CHKSUM_SEED_FIX
  if (can('I')) flags |= CF.INPLACE_PARTIAL_DIR
  if (negotiates) flags |= CF.VARINT_FLIST_FLAGS
  if (can('u')) flags |= CF.ID0_NAMES
  if (negotiates && options.lasting === true && can(LASTING)) flags |= CF.LASTING
  const { out } = channel
  if (negotiates) out.varint(flags)
  else out.u8(flags & 0xff)
  const chooses = choicesOf(options)
  const ours = (options.checksums ?? OFFERED).join(' ')
  if (negotiates && chooses.checksum) out.vstring(ours)
  if (negotiates && chooses.compress) out.vstring(COMPRESSIONS)
  await channel.flush()
  const checksum = !chooses.checksum || !negotiates ? null : await chooseAsServer(channel, 'checksum', ours.split(' '))
  const compress =
    !chooses.compress || !negotiates ? null : await chooseAsServer(channel, 'compression', COMPRESSIONS.split(' '))
  const seed = options.seed !== 0 ? options.seed : randomInt(1, 2 ** 31 - 1)
  out.i32(seed)
  await channel.flush()
  channel.multiplex(options.namesFollow === true && protocol < 31)
  const given = options.compressChoice === 'none' ? null : (options.compressChoice ?? compress ?? 'zlib')
  return {
    protocol,
    compatFlags: flags,
    checksum: checksumNamed(options.checksumChoice ?? checksum ?? 'md5'),
    compress: options.compress ? (given as Agreement['compress']) : null,
    seed,
    greeting: { protocol, digests: null },
  }
}

/** The client's first that we have, too. */
async function chooseAsServer(channel: Channel, what: string, ours: string[]): Promise<string> {
  const theirs = (await channel.receive(`${what} list`, (c) => c.vstring(VSTRING_MAX))).toString('latin1').split(' ')
  const choice = theirs.find((name) => ours.includes(name))
  if (choice !== undefined) return choice
  throw new TransferError(`Failed to negotiate a ${what} choice.`, RERR.UNSUPPORTED)
}

/** compat.c: each side lists what it can do, and the client's first that the server also lists is taken. */
async function choose(channel: Channel, what: string, ours: string[]): Promise<string> {
  const theirs = (await channel.receive(`${what} list`, (c) => c.vstring(VSTRING_MAX))).toString('latin1').split(' ')
  const choice = ours.find((name) => theirs.includes(name))
  if (choice === undefined)
    throw new RemoteError(
      'refused',
      `no common ${what}: the daemon offers "${printable(theirs.join(' '))}"`,
      RERR.UNSUPPORTED,
    )
  return choice
}

/** What rsync says of a daemon that goes away before it has let us in. */
const endedWith = (text: string) => (error: unknown) => {
  if (error instanceof ConnectError) error.told = { text, exitCode: RERR.STARTCLIENT }
  throw error
}

async function readGreeting(channel: Channel): Promise<Greeting> {
  const line = await channel.receive('greeting', readLine).catch(endedWith('rsync: did not see server greeting'))
  if (line.startsWith('@ERROR')) throw daemonError(line)
  try {
    return parseGreeting(line)
  } catch (error) {
    if (error instanceof ProtocolError)
      error.told = { text: `rsync: server sent "${line}" rather than greeting`, exitCode: RERR.STARTCLIENT }
    throw error
  }
}

/** False at the end of a list of modules. */
async function enterModule(channel: Channel, options: HandshakeOptions, greeting: Greeting): Promise<boolean> {
  for (let lines = 0; lines < LINES_MAX; lines++) {
    const line = await channel
      .receive('answer to the module', readLine)
      .catch(endedWith("rsync: didn't get server startup line"))
    if (line.startsWith('@RSYNCD: AUTHREQD ')) {
      const challenge = line.slice('@RSYNCD: AUTHREQD '.length)
      if (options.credentials === undefined) {
        throw new RemoteError(
          'auth',
          `module ${options.module} wants a user and a password: give USER@ in DEST and --password-file or RSYNC_PASSWORD`,
          RERR.STARTCLIENT,
        )
      }
      const { credentials } = options
      const known = typeof credentials === 'function' ? await credentials() : credentials
      channel.out.latin1(`${await authResponse(known, challenge, greeting.digests)}\n`)
      await channel.flush()
    } else if (line === '@RSYNCD: OK') return true
    else if (line === '@RSYNCD: EXIT' && options.lists === true) return false
    else if (line === '@RSYNCD: EXIT') throw new ConnectError('the daemon closed the session')
    else if (line.startsWith('@ERROR')) throw daemonError(line)
    else options.motd?.(printable(line))
  }
  throw new ProtocolError('message of the day', `more than ${LINES_MAX} lines`)
}

/** authenticate.c auth_client(): `user base64(H(password challenge))`, H the first of our digests that they list. */
export async function authResponse(
  credentials: Credentials,
  challenge: string,
  offered: string[] | null,
): Promise<string> {
  const digest: AuthDigest | undefined = offered === null ? 'md5' : AUTH_DIGESTS.find((name) => offered.includes(name))
  if (digest === undefined)
    throw new RemoteError('auth', `the daemon offers only unknown digests: ${offered?.join(' ')}`, RERR.UNSUPPORTED)
  const text = Buffer.concat([Buffer.from(credentials.password), Buffer.from(challenge, 'latin1')])
  const hash = digest === 'md4' ? md4(text) : createHash(digest).update(text).digest()
  return `${Buffer.from(credentials.user).toString('latin1')} ${(await hash).toString('base64').replace(/=+$/, '')}`
}

async function md4(bytes: Buffer): Promise<Buffer> {
  return Buffer.from((await createMD4()).init().update(bytes).digest('binary'))
}

function readLine(c: Cursor): string {
  let line = ''
  for (;;) {
    const byte = c.u8()
    if (byte === 0x0a) return line.replace(/\r$/, '')
    line += String.fromCharCode(byte)
    if (line.length > LINE_MAX)
      throw new ProtocolError('line', `longer than ${LINE_MAX} bytes; is this an rsync daemon?`)
  }
}

/** The daemon's refusals, by the texts that every version since 3.0 uses. */
export function daemonError(line: string): RemoteError {
  const text = printable(line)
  if (/auth failed/.test(line)) return new RemoteError('auth', text, RERR.STARTCLIENT)
  if (/unknown module/i.test(line)) return new RemoteError('unknown-module', text, RERR.STARTCLIENT)
  if (/access denied/.test(line)) return new RemoteError('denied', text, RERR.STARTCLIENT)
  if (/max connections/.test(line)) return new RemoteError('max-connections', text, RERR.STARTCLIENT)
  return new RemoteError('failed', text, RERR.STARTCLIENT)
}
