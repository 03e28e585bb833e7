import { promises as dns, type LookupAddress } from 'node:dns'
import { isIPv4 } from 'node:net'
import { inNetgroup } from '../kernel.js'
import { wildmatch } from './wildcard.js'

/** What a client without a name is called: nobody looked, or looking was in vain. `hosts allow` may name them. */
export const UNDETERMINED = 'UNDETERMINED'
export const UNKNOWN = 'UNKNOWN'

/** The system's names, /etc/hosts and DNS. Both throw where there is none. */
export interface Resolver {
  nameOf(address: string): Promise<string>
  addressesOf(name: string): Promise<string[]>
}

const LOOKUP_TIMEOUT_MS = 15_000 // of all look-ups for one connection together; others wait for nothing

export const SYSTEM_RESOLVER: Resolver = {
  nameOf: async (address) => (await dns.lookupService(address, 0)).hostname,
  addressesOf: async (name) => (await dns.lookup(name, { all: true })).map(({ address }: LookupAddress) => address),
}

/** An IPv4 address that came in over IPv6 is the IPv4 address. */
export const clientAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')

/**
 * clientname.c client_name(): the client's name, if that name has the client's address. `log` says why there is none.
 */
export async function reverseName(
  address: string,
  log: (line: string) => void,
  resolver = SYSTEM_RESOLVER,
): Promise<string> {
  return inTime(async () => {
    const name = await resolver.nameOf(address).catch((error) => {
      log(`name lookup failed for ${address}: ${reason(error)}`)
      return null
    })
    if (name === null) return UNKNOWN
    const addresses = await resolver.addressesOf(name).catch((error) => {
      log(`forward name lookup for ${name} failed: ${reason(error)}`)
      return null
    })
    if (addresses === null) return UNKNOWN
    if (addresses.some((other) => sameAddress(other, address))) return name
    log(`${address} is not a known address for "${name}": spoofed address?`)
    return UNKNOWN
  }, UNKNOWN)
}

export interface Lists {
  hostsAllow: string
  hostsDeny: string
  forwardLookup: boolean
}

export interface Verdict {
  allowed: boolean
  /** What to call the client from here on: a name in the lists with its address, if it had none before. */
  host: string
}

/** access.c allow_access(): who is allowed gets in, then who is denied does not; only `hosts allow` denies all others. */
export async function isAllowed(
  address: string,
  host: string,
  lists: Lists,
  log: (line: string) => void,
  resolver = SYSTEM_RESOLVER,
): Promise<Verdict> {
  const allow = patterns(lists.hostsAllow)
  const deny = patterns(lists.hostsDeny)
  const match = (list: string[]) => firstMatch(list, address, host, lists.forwardLookup, log, resolver)
  return inTime(
    async () => {
      const allowed = await match(allow)
      if (allowed !== null) return { allowed: true, host: allowed }
      if (lists.hostsAllow !== '' && lists.hostsDeny === '') return { allowed: false, host }
      const denied = await match(deny)
      return { allowed: denied === null, host: denied ?? host }
    },
    { allowed: false, host },
  )
}

const patterns = (list: string) =>
  list
    .toLowerCase()
    .split(/[ ,\t]+/)
    .filter((pattern) => pattern !== '')

/** The name of the client by the first pattern that matches, null where none does. */
async function firstMatch(
  list: string[],
  address: string,
  host: string,
  forwardLookup: boolean,
  log: (line: string) => void,
  resolver: Resolver,
): Promise<string | null> {
  for (const pattern of list) {
    if (matchesName(pattern, host) || matchesAddress(pattern, address, log)) return host
    if (forwardLookup && isPlainName(pattern) && (await hasAddress(pattern, address, resolver)))
      return host === UNDETERMINED ? pattern : host
  }
  return null
}

function matchesName(pattern: string, host: string): boolean {
  if (pattern.startsWith('@') && pattern.length > 1) return inNetgroup(pattern.slice(1), host)
  return wildmatch(pattern, host.toLowerCase())
}

const isPlainName = (pattern: string) => /[^.\d]/.test(pattern) && !/[:/*?[@]/.test(pattern)

async function hasAddress(name: string, address: string, resolver: Resolver): Promise<boolean> {
  const addresses = await resolver.addressesOf(name).catch(() => [])
  return addresses.some((other) => sameAddress(other, address))
}

const sameAddress = (a: string, b: string) => matchesAddress(a.toLowerCase(), clientAddress(b), () => undefined)

/** access.c match_address(): `address`, `address/bits` or `address/mask`. */
export function matchesAddress(pattern: string, address: string, log: (line: string) => void): boolean {
  const slash = pattern.indexOf('/')
  const base = slash < 0 ? pattern : pattern.slice(0, slash)
  if (!/^[.\d]*$/.test(base) && !base.includes(':')) return false
  const client = parseAddress(address)
  if (client === null) return false
  const wanted = parseAddress(base)
  if (wanted === null) {
    log(`error matching address ${base}: Name or service not known`)
    return false
  }
  if (wanted.bytes.length !== client.bytes.length) return false
  if (wanted.scope !== '' && wanted.scope !== client.scope) return false
  const mask =
    slash < 0 ? prefixMask(128, client.bytes.length) : parseMask(pattern.slice(slash + 1), client.bytes.length)
  if (mask === null) log(`malformed mask in ${pattern}`)
  return mask !== null && wanted.bytes.every((byte, i) => ((byte ^ client.bytes[i]) & mask[i]) === 0)
}

function parseMask(text: string, length: number): Uint8Array | null {
  const address = length === 4 && !isIPv4(text) ? null : parseAddress(text)
  if (address !== null && address.bytes.length === length) return address.bytes
  const bits = /^\s*[+-]?\d+$/.test(text) ? Number(text) : -1
  return bits >= 0 && bits <= length * 8 ? prefixMask(bits, length) : null
}

function prefixMask(bits: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (0xff00 >> Math.min(8, Math.max(0, bits - i * 8))) & 0xff)
}

interface Address {
  /** 4 or 16. */
  bytes: Uint8Array
  /** Behind the `%` of a link-local address. */
  scope: string
}

function parseAddress(text: string): Address | null {
  const [address, scope = ''] = text.split('%', 2)
  const bytes = address.includes(':') ? parseIPv6(address) : parseIPv4(address)
  if (bytes === null || (scope !== '' && !/^\d+$/.test(scope) && !isLinkLocal(bytes))) return null
  return { bytes, scope }
}

/** Only such an address takes the name of an interface behind it (getaddrinfo(3)). */
const isLinkLocal = (bytes: Uint8Array) =>
  bytes.length === 16 && ((bytes[0] === 0xfe && (bytes[1] & 0xc0) === 0x80) || (bytes[0] === 0xff && bytes[1] === 2))

/** inet_aton(3): up to four numbers, octal with a 0 in front, of which the last fills the bytes that are left. */
function parseIPv4(text: string): Uint8Array | null {
  const parts = text.split('.')
  if (parts.length > 4 || !parts.every((part) => /^(0[0-7]*|[1-9]\d*)$/.test(part))) return null
  const numbers = parts.map((part) => Number.parseInt(part, part.startsWith('0') ? 8 : 10))
  const last = numbers.pop()!
  if (numbers.some((number) => number > 255) || last >= 256 ** (4 - numbers.length)) return null
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, last)
  for (const [i, number] of numbers.entries()) bytes[i] = number
  return bytes
}

function parseIPv6(text: string): Uint8Array | null {
  const halves = text.split('::')
  const parsed = halves.map((half, i) => ipv6Groups(half, i === halves.length - 1))
  const [front, back = []] = parsed
  if (halves.length > 2 || front === null || back === null) return null
  const missing = 8 - front.length - back.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null
  const groups = [...front, ...new Array<number>(missing).fill(0), ...back]
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]))
}

/** Groups of 16 bits between colons; at the very end there may be an IPv4 address. */
function ipv6Groups(text: string, last: boolean): number[] | null {
  if (text === '') return []
  const groups: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (/^[\da-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16))
    else if (last && i === parts.length - 1 && isIPv4(part)) {
      const [a, b, c, d] = part.split('.').map(Number)
      groups.push(a * 256 + b, c * 256 + d)
    } else return null
  }
  return groups
}

/** What the resolver calls it, by the code that Node makes of it. */
const REASON: Record<string, string> = {
  ENOTFOUND: 'Name or service not known',
  EAI_AGAIN: 'Temporary failure in name resolution',
}

const reason = (error: NodeJS.ErrnoException) => REASON[error.code ?? ''] ?? error.code ?? error.message

/** The resolver cannot be stopped, but nobody waits for it any longer. */
async function inTime<T>(lookUp: () => Promise<T>, otherwise: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<T>((resolve) => {
    timer = setTimeout(() => resolve(otherwise), LOOKUP_TIMEOUT_MS)
  })
  try {
    return await Promise.race([lookUp(), late])
  } finally {
    clearTimeout(timer)
  }
}
