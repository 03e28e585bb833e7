import { createRequire } from 'node:module'
import type * as Fflate from 'fflate'
import type * as HashWasm from 'hash-wasm'

const require = createRequire(import.meta.url)

// Loading all of them takes longer than a small copy lasts: each one when it is first used.
const hash = (algorithm: string) => require(`hash-wasm/dist/${algorithm}.umd.min.js`) as typeof HashWasm
const fflate = () => require('fflate') as typeof Fflate

/** All of them now: in a chroot none could be found later. */
export function loadLibraries(): void {
  for (const algorithm of ['md4', 'xxhash3', 'xxhash64', 'xxhash128']) hash(algorithm)
  fflate()
}

export const createMD4 = () => hash('md4').createMD4()
export const createXXHash3 = (seedLow: number, seedHigh: number) => hash('xxhash3').createXXHash3(seedLow, seedHigh)
export const createXXHash64 = (seedLow: number, seedHigh: number) => hash('xxhash64').createXXHash64(seedLow, seedHigh)
export const createXXHash128 = (seedLow: number, seedHigh: number) =>
  hash('xxhash128').createXXHash128(seedLow, seedHigh)

export const createInflate = (give: (bytes: Uint8Array) => void) => new (fflate().Inflate)(give)
