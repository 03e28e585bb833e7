import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { AUTH_DIGESTS } from '../handshake.js'
import { groupName, groupsOf, userIds } from '../kernel.js'
import { createMD4 } from '../libraries.js'
import { type RawPath, toBytes } from '../raw-path.js'
import type { ModuleConfig } from './config.js'
import { splitList } from './identity.js'
import { wildmatch } from './wildcard.js'

export type AuthDigest = (typeof AUTH_DIGESTS)[number]

const DIGEST_LENGTH: Record<AuthDigest, number> = { sha512: 64, sha256: 32, sha1: 20, md5: 16, md4: 16 }

/**
 * compat.c negotiate_daemon_auth(): the best digest that the client's greeting lists; md5 where it lists none at all,
 * as before 3.2.7. Null where we have none of its list: refuse with `REPLY.noDigest`, before any challenge.
 */
export function chooseDigest(offered: readonly string[] | null): AuthDigest | null {
  if (offered === null) return 'md5'
  const names = offered.map((name) => name.toLowerCase())
  return AUTH_DIGESTS.find((digest) => names.includes(digest)) ?? null
}

/** What is wrong with `digest` by the module's `auth digest`, null where nothing is. */
export function digestTooWeak(digest: AuthDigest, floor: string): string | null {
  if (floor === '') return null
  const least = (AUTH_DIGESTS as readonly string[]).indexOf(floor.toLowerCase())
  if (least < 0) return `the configured 'auth digest = ${floor}' is not a supported digest on this build`
  if (AUTH_DIGESTS.indexOf(digest) <= least) return null
  return `negotiated auth digest ${digest} is weaker than the required 'auth digest = ${floor}'`
}

/** What a client must hash with its password: never the same twice, and as long as the digest's own. */
export function newChallenge(digest: AuthDigest): string {
  return base64(randomBytes(DIGEST_LENGTH[digest]))
}

const LINE_MAX = 5119 // what stock rsync takes of a line
export const USER_MAX = 1000 // a secrets file has no longer ones
const RESPONSE_MAX = 128

/** All that the file with the passwords must be asked with; the text has these limits. */
export interface AuthRequest {
  user: string
  challenge: string
  response: string
  digest: AuthDigest
}

/** `USER RESPONSE`, as a client answers the challenge; null where it is no answer. */
export function parseResponse(line: string, challenge: string, digest: AuthDigest): AuthRequest | null {
  const space = line.indexOf(' ')
  if (space < 0 || line.length > LINE_MAX) return null
  return { user: line.slice(0, space), challenge, response: line.slice(space + 1), digest }
}

export type AuthResult =
  | { ok: true; user: string /** Overrides the module's `read only`. */; readOnly: boolean | null }
  | { ok: false /** Lines for the log, to come before `auth failed ...: CAUSE`. */; log: string[]; cause: AuthCause }

export type AuthCause =
  | 'no matching rule'
  | 'denied by rule'
  | 'no secrets file'
  | 'ignoring secrets file'
  | 'invalid username'
  | 'secret not found'
  | 'password mismatch'

type AuthModule = Pick<ModuleConfig, 'authUsers' | 'secretsFile' | 'strictModes'>

/** authenticate.c auth_server(): whether the client is who it says, and may come in. */
export async function authenticate(request: AuthRequest, module: AuthModule): Promise<AuthResult> {
  const rule = request.user.length > USER_MAX ? null : findRule(module.authUsers, request.user)
  if (rule === null) return refuse('no matching rule')
  if (rule.access === 'deny') return refuse('denied by rule')
  const secrets = readSecrets(module.secretsFile, module.strictModes)
  if (typeof secrets !== 'string') return secrets
  const cause = await checkSecret(secrets, request, rule.group)
  if (cause !== null) return refuse(cause)
  return { ok: true, user: request.user, readOnly: rule.access === null ? null : rule.access === 'ro' }
}

const refuse = (cause: AuthCause, ...log: string[]): AuthResult & { ok: false } => ({ ok: false, log, cause })

interface AuthRule {
  access: 'deny' | 'ro' | 'rw' | null
  /** The group by which a rule `@GROUP` matched. */
  group: string | null
}

/** The first of `auth users` that is for this user: `NAME`, `@GROUP`, both with wildcards and `:deny`, `:ro` or `:rw`. */
export function findRule(authUsers: string, user: string): AuthRule | null {
  let groups: string[] | undefined
  for (const item of splitList(authUsers)) {
    const colon = item.indexOf(':')
    const name = colon < 0 ? item : item.slice(0, colon)
    const access = colon < 0 ? null : accessOf(item.slice(colon + 1))
    if (!name.startsWith('@')) {
      if (wildmatch(name, user)) return { access, group: null }
      continue
    }
    groups ??= groupNames(user)
    const group = groups.find((candidate) => wildmatch(name.slice(1), candidate))
    if (group !== undefined) return { access, group }
  }
  return null
}

/** Only what it starts with counts, and what it is not has no effect. */
function accessOf(option: string): AuthRule['access'] {
  const letters = option.toLowerCase()
  if (letters.startsWith('d')) return 'deny'
  if (letters.startsWith('ro')) return 'ro'
  return letters.startsWith('rw') ? 'rw' : null
}

/** Of a user of this system; others have none. */
function groupNames(user: string): string[] {
  const found = userIds(user)
  if (found === null) return []
  return groupsOf(user, found.gid).flatMap((gid) => groupName(gid) ?? [])
}

const SECRETS_MAX = 1 << 20

/** The text of the secrets file, if it is one that nobody else may have changed or read. */
function readSecrets(file: RawPath, strictModes: boolean): string | (AuthResult & { ok: false }) {
  let fd: number
  try {
    fd = openSync(toBytes(file), constants.O_RDONLY | constants.O_NONBLOCK)
  } catch {
    return refuse('no secrets file')
  }
  try {
    const stat = fstatSync(fd)
    if (strictModes && (stat.mode & 0o6) !== 0)
      return refuse('ignoring secrets file', 'secrets file must not be other-accessible (see strict modes option)')
    if (strictModes && process.getuid!() === 0 && stat.uid !== 0)
      return refuse(
        'ignoring secrets file',
        'secrets file must be owned by root when running as root (see strict modes)',
      )
    if (!stat.isFile()) return refuse('no secrets file')
    if (stat.size > SECRETS_MAX)
      return refuse('ignoring secrets file', `secrets file must not be longer than ${SECRETS_MAX} bytes`)
    const text = Buffer.alloc(stat.size)
    return text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0))
  } finally {
    closeSync(fd)
  }
}

/** authenticate.c check_secret(): the first line for the user, and the first for the group, are what counts. */
async function checkSecret(secrets: string, request: AuthRequest, group: string | null): Promise<AuthCause | null> {
  if (request.user.startsWith('#')) return 'invalid username'
  const lines = secrets.split(/[\r\n]+/)
  const prefixes = request.user.startsWith('@') ? [] : [`${request.user}:`]
  if (group !== null) prefixes.push(`@${group}:`)
  const found = prefixes.flatMap((prefix) => {
    const line = lines.find((candidate) => candidate.startsWith(prefix))
    return line === undefined ? [] : [line.slice(prefix.length)]
  })
  for (const password of found) if (await answers(request, password)) return null
  return found.length === 0 ? 'secret not found' : 'password mismatch'
}

async function answers({ challenge, response, digest }: AuthRequest, password: string): Promise<boolean> {
  if (response.length > RESPONSE_MAX) return false
  const right = Buffer.from(base64(await hash(digest, Buffer.from(password + challenge, 'latin1'))))
  const given = Buffer.from(response, 'latin1')
  return right.length === given.length && timingSafeEqual(right, given)
}

async function hash(digest: AuthDigest, bytes: Buffer): Promise<Buffer> {
  if (digest !== 'md4') return createHash(digest).update(bytes).digest()
  return Buffer.from((await createMD4()).init().update(bytes).digest('binary'))
}

const base64 = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')
