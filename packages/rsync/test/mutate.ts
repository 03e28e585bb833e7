/** A generator of pseudo-random numbers from a seed that a failure names (mulberry32). */
export class Chance {
  #state: number

  constructor(readonly seed: number) {
    this.#state = seed >>> 0
  }

  /** An integer below `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }
  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]
  }
  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }
}

/** SEED=n repeats a run. */
export const seedOf = (what: string): number => {
  const seed = process.env.SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(process.env.SEED)
  console.log(`# ${what}: SEED=${seed}`)
  return seed
}

/** How many messages are mutated in all; the full run is FUZZ=1000000. */
export const FUZZ = Number(process.env.FUZZ ?? 30_000)

const EDGES = [
  0,
  1,
  -1,
  0x7f,
  0x80,
  0xff,
  0x7fff,
  0xffff,
  0x10000,
  0x7fffffff,
  -0x80000000,
  0x00ffffff,
  1 << 17,
  1 << 24,
]

type Mutation = (bytes: Buffer, at: number, chance: Chance) => Buffer

const splice = (bytes: Buffer, at: number, removed: number, added: Buffer) =>
  Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at + removed)])
const changed = (bytes: Buffer, change: (copy: Buffer) => void) => {
  const copy = Buffer.from(bytes)
  change(copy)
  return copy
}

const MUTATIONS: Mutation[] = [
  (bytes, at, chance) => changed(bytes, (copy) => void copy.writeUInt8(copy[at] ^ (1 << chance.below(8)), at)),
  (bytes, at, chance) =>
    changed(bytes, (copy) => void copy.writeUInt8(chance.pick([0, 1, 0x7f, 0x80, 0xfe, 0xff]), at)),
  (bytes, at, chance) => changed(bytes, (copy) => void copy.writeUInt8(chance.below(256), at)),
  (bytes, at, chance) => changed(bytes, (copy) => void copy.writeUInt8((copy[at] + chance.pick([1, 255])) & 0xff, at)),
  (bytes, at, chance) =>
    at + 4 > bytes.length ? bytes : changed(bytes, (copy) => void copy.writeInt32LE(chance.pick(EDGES), at)),
  (bytes, at, chance) => splice(bytes, at, 1 + chance.below(20), Buffer.alloc(0)),
  (bytes, at, chance) => splice(bytes, at, 0, chance.bytes(1 + chance.below(20))),
  (bytes, at, chance) => splice(bytes, at, 0, bytes.subarray(at, at + 1 + chance.below(60))),
  (bytes, at, chance) => {
    const from = chance.below(bytes.length)
    const piece = bytes.subarray(from, from + 1 + chance.below(40))
    return splice(bytes, at, piece.length, piece)
  },
  (bytes, at) => bytes.subarray(0, at),
]

/** One to `most` mutations, none before `from`. */
export function mutate(bytes: Buffer, chance: Chance, from = 0, most = 3): Buffer {
  let mutated = bytes
  for (let times = 1 + chance.below(most); times > 0 && mutated.length > from; times--)
    mutated = chance.pick(MUTATIONS)(mutated, from + chance.below(mutated.length - from), chance)
  return mutated
}
