import { createHash, randomInt } from 'node:crypto'
import type { IHasher } from 'hash-wasm'
import { ProtocolError } from './errors.js'
import { createMD4, createXXHash3, createXXHash64, createXXHash128 } from './libraries.js'

/** checksum.c valid_checksums_items: what we can compute, best first. */
export const CHECKSUMS = ['xxh128', 'xxh3', 'xxh64', 'md5', 'md4', 'sha1'] as const
/** What rsync offers; without a checksum nobody notices what is damaged on its way, so a mirror never does. */
export const OFFERED = [...CHECKSUMS, 'none'] as const
export type Checksum = (typeof OFFERED)[number]

/** One hash over bytes that arrive in pieces. */
export interface Digest {
  update(bytes: Uint8Array): void
  /** The bytes as rsync sends them. The digest may be used again after `reset`. */
  final(): Buffer
  reset(): void
}

/** The two sums of a session: over whole files, and over blocks (seeded). */
export interface Sums {
  file: Digest
  block: Digest
  /** Over the files of a list (--checksum). */
  list?: { digest: Digest; length: number }
  /** Length in bytes of either sum. */
  length: number
  /** What they depend on. */
  key: string
}

const LENGTH: Record<Checksum, number> = { xxh128: 16, xxh3: 8, xxh64: 8, md5: 16, md4: 16, sha1: 20, none: 1 }

/**
 * The checksum seed that we ask daemons for. It must be unpredictable, so that nobody can prepare colliding blocks,
 * but it may be the same for all sessions of a process, so that their sums can be used again.
 */
export const CHECKSUM_SEED = randomInt(1, 2 ** 31 - 1)

const IDLE_MAX = 16
const idle: Sums[] = []

/** The sums of a session, made anew or taken from one that is over. Setting up a WebAssembly hash takes a millisecond. */
export async function acquireSums(name: Checksum, seed: number, seedFirst: boolean): Promise<Sums> {
  const key = `${name} ${seed} ${seedFirst}`
  const at = idle.findIndex((sums) => sums.key === key)
  if (at >= 0) return idle.splice(at, 1)[0]
  return { ...(await createSums(name, seed, seedFirst)), key }
}

export function releaseSums(sums: Sums): void {
  if (idle.length === IDLE_MAX) idle.shift()
  idle.push(sums)
}

/**
 * `seed` is the checksum seed of the handshake; block sums are salted with it. `seedFirst` is compat flag
 * CHKSUM_SEED_FIX: md5 takes the seed before the block instead of after it.
 */
export async function createSums(name: Checksum, seed: number, seedFirst: boolean): Promise<Omit<Sums, 'key'>> {
  const low = seed >>> 0
  const high = seed < 0 ? 0xffffffff : 0 // rsync sign-extends the seed to 64 bits
  const salt = Buffer.alloc(4)
  salt.writeInt32LE(seed)
  const length = LENGTH[name]
  switch (name) {
    case 'xxh128':
      return {
        file: littleEndian(await createXXHash128(0, 0)),
        block: littleEndian(await createXXHash128(low, high)),
        length,
      }
    case 'xxh3':
      return {
        file: littleEndian(await createXXHash3(0, 0)),
        block: littleEndian(await createXXHash3(low, high)),
        length,
      }
    case 'xxh64':
      return {
        file: littleEndian(await createXXHash64(0, 0)),
        block: littleEndian(await createXXHash64(low, high)),
        length,
      }
    case 'md5':
      return {
        file: new Salted(new NodeDigest('md5')),
        block: new Salted(new NodeDigest('md5'), seedFirst ? salt : undefined, seedFirst ? undefined : salt),
        length,
      }
    case 'sha1':
      return {
        file: new Salted(new NodeDigest('sha1')),
        block: new Salted(new NodeDigest('sha1'), seedFirst ? salt : undefined, seedFirst ? undefined : salt),
        length,
      }
    case 'none':
      return { file: NO_DIGEST, block: NO_DIGEST, length }
    case 'md4':
      return {
        file: new Salted(wasm(await createMD4())),
        block: new Salted(wasm(await createMD4()), undefined, salt),
        length,
      }
  }
}

/** What --checksum compares files by. */
export async function listSum(
  name: Checksum,
  seed: number,
  seedFirst: boolean,
): Promise<{ digest: Digest; length: number }> {
  const { file, length } = await createSums(checksumNamed(name), seed, seedFirst)
  return { digest: file, length }
}

export function checksumNamed(name: string): Checksum {
  const known = OFFERED.find((checksum) => checksum === name)
  if (known === undefined) throw new ProtocolError('checksum negotiation', `the peer chose "${name.slice(0, 32)}"`)
  return known
}

function wasm(hasher: IHasher): Digest {
  hasher.init()
  return {
    update: (bytes) => void hasher.update(bytes),
    final: () => {
      const { buffer, byteOffset, length } = hasher.digest('binary')
      return Buffer.from(buffer, byteOffset, length)
    },
    reset: () => void hasher.init(),
  }
}

/** rsync stores xxHash values as little-endian integers, the reverse of their canonical form. */
function littleEndian(hasher: IHasher): Digest {
  const digest = wasm(hasher)
  return { ...digest, final: () => digest.final().reverse() }
}

class NodeDigest implements Digest {
  #hash
  constructor(readonly name: 'md5' | 'sha1') {
    this.#hash = createHash(name)
  }
  update(bytes: Uint8Array): void {
    this.#hash.update(bytes)
  }
  final(): Buffer {
    return this.#hash.digest()
  }
  reset(): void {
    this.#hash = createHash(this.name)
  }
}

/** --checksum-choice=none: one byte that says nothing. */
const NO_DIGEST: Digest = { update: () => undefined, final: () => Buffer.alloc(1), reset: () => undefined }

class Salted implements Digest {
  constructor(
    readonly digest: Digest,
    readonly before?: Buffer,
    readonly after?: Buffer,
  ) {
    this.reset()
  }
  update(bytes: Uint8Array): void {
    this.digest.update(bytes)
  }
  final(): Buffer {
    if (this.after !== undefined) this.digest.update(this.after)
    return this.digest.final()
  }
  reset(): void {
    this.digest.reset()
    if (this.before !== undefined) this.digest.update(this.before)
  }
}
