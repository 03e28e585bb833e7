import { randomInt } from 'node:crypto'
import type { RawPath } from '../raw-path.js'

const NAME_MAX = 255
const SUFFIX_LENGTH = 6
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'

/** What a file is called while it is written: as rsync does, so that its patterns for leftovers fit ours. */
export function temporaryName(path: RawPath, bare = false): RawPath {
  const slash = path.lastIndexOf('/') + 1
  const name = path.slice(slash)
  let suffix = ''
  for (let bits = randomInt(2 ** 36), i = 0; i < SUFFIX_LENGTH; i++, bits = Math.floor(bits / LETTERS.length))
    suffix += LETTERS[bits % LETTERS.length]
  const start = (name.startsWith('.') ? name.slice(1) : name).slice(0, NAME_MAX - SUFFIX_LENGTH - 2)
  return `${bare ? '' : path.slice(0, slash)}.${start}.${suffix}` as RawPath
}
