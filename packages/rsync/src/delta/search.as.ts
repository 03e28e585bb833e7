// AssemblyScript, compiled to WebAssembly with SIMD: the inner loops of match.c and checksum.c. All addresses are
// bytes in the module's memory, which `search.ts` lays out.

let s1: u32 = 0
let s2: u32 = 0

/** checksum.c get_checksum1(): two 16-bit sums over signed bytes. Keeps them for `find` and `roll`. */
export function weak(address: usize, length: i32): u32 {
  const weights = i8x16(16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)
  let sums = i32x4.splat(0)
  let before = i32x4.splat(0) // the plain sum ahead of each group of 16, which counts 16 times in s2
  let weighted = i32x4.splat(0)
  let i = 0
  for (; i + 16 <= length; i += 16) {
    const bytes = v128.load(address + i)
    before = i32x4.add(before, sums)
    sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_s(bytes)))
    weighted = i32x4.add(weighted, i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(bytes, weights)))
    weighted = i32x4.add(weighted, i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(bytes, weights)))
  }
  s1 = total(sums)
  s2 = (total(before) << 4) + total(weighted)
  for (; i < length; i++) {
    s1 += load<i8>(address + i)
    s2 += s1
  }
  return (s1 & 0xffff) | (s2 << 16)
}

function total(v: v128): u32 {
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3)
}

function slot(sum: u32, mask: u32): usize {
  return <usize>(((sum * 0x9e3779b1) >> 7) & mask) << 2
}

/** A peer may send sums that all fall into one chain; this many of it are looked at. */
const CHAIN_MAX = 256

/** Chains the `count` weak sums at `sums` by hash; `heads` and `next` hold index + 1, 0 ends a chain. */
export function index(sums: usize, next: usize, heads: usize, mask: u32, count: i32): void {
  memory.fill(heads, 0, (<usize>mask + 1) << 2)
  // Backwards, so that each chain has its lowest block first.
  for (let i = count - 1; i >= 0; i--) {
    const at = heads + slot(load<u32>(sums + (<usize>i << 2)), mask)
    store<u32>(next + (<usize>i << 2), load<u32>(at))
    store<u32>(at, i + 1)
  }
  for (let i: u32 = 0; i <= mask; i++) {
    let entry = load<u32>(heads + (<usize>i << 2))
    for (let length = 1; entry != 0; length++) {
      const at = next + (<usize>(entry - 1) << 2)
      if (length == CHAIN_MAX) store<u32>(at, 0)
      entry = load<u32>(at)
    }
  }
}

/**
 * Moves from `at` towards `last` until the weak sum of the block there is one of the receiver's, and returns that
 * address, or 0. `weak(at, length)` or a former call has left the sums of the block at `at`.
 */
export function find(at: usize, last: usize, length: i32, sums: usize, next: usize, heads: usize, mask: u32): usize {
  while (true) {
    const sum = (s1 & 0xffff) | (s2 << 16)
    let entry = load<u32>(heads + slot(sum, mask))
    while (entry != 0) {
      const at4 = <usize>(entry - 1) << 2
      if (load<u32>(sums + at4) == sum) return at
      entry = load<u32>(next + at4)
    }
    if (at >= last) break
    roll(at, length)
    at++
  }
  return 0
}

/** The sums of the block one byte further. */
export function roll(at: usize, length: i32): void {
  const out = <u32>load<i8>(at)
  s1 += <u32>load<i8>(at + length) - out
  s2 += s1 - <u32>length * out
}

/** The first block of the chain for the current weak sum, as index + 1; 0 when there is none. */
export function first(heads: usize, mask: u32): u32 {
  return load<u32>(heads + slot((s1 & 0xffff) | (s2 << 16), mask))
}

export function current(): u32 {
  return (s1 & 0xffff) | (s2 << 16)
}
