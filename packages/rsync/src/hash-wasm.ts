import { createRequire } from 'node:module'
import type * as HashWasm from 'hash-wasm'

const require = createRequire(import.meta.url)

/** Each algorithm is a file of its own: all of them together take longer to load than a small copy lasts. */
const load = (algorithm: string) => require(`hash-wasm/dist/${algorithm}.umd.min.js`) as typeof HashWasm

/** All of them now: in a chroot none could be found later. */
export function loadHashes(): void {
  for (const algorithm of ['md4', 'xxhash3', 'xxhash64', 'xxhash128']) load(algorithm)
}

export const createMD4 = () => load('md4').createMD4()
export const createXXHash3 = (seedLow: number, seedHigh: number) => load('xxhash3').createXXHash3(seedLow, seedHigh)
export const createXXHash64 = (seedLow: number, seedHigh: number) => load('xxhash64').createXXHash64(seedLow, seedHigh)
export const createXXHash128 = (seedLow: number, seedHigh: number) =>
  load('xxhash128').createXXHash128(seedLow, seedHigh)
