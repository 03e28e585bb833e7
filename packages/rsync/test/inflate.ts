import { constants, inflateRawSync } from 'node:zlib'
import type { DeflatedToken } from '../src/wire/token.js'

const SYNC_TAIL = Buffer.from([0, 0, 0xff, 0xff])
const STORED_MAX = 0xffff

/**
 * What a stock receiver makes of deflated tokens (token.c recv_deflated_token()). With `zlib`, as opposed to `zlibx`,
 * it puts each matched block into its window, as a stored block (see_deflate_token()).
 */
export function inflateTokens(
  tokens: readonly DeflatedToken[],
  blockOf: (block: number) => Buffer,
  kind: 'zlib' | 'zlibx',
): Buffer {
  const out: Buffer[] = []
  let stream = Buffer.alloc(0)
  let seen = 0
  let open = false
  const inflate = (): Buffer => {
    const all = inflateRawSync(stream, { finishFlush: constants.Z_SYNC_FLUSH })
    const fresh = all.subarray(seen)
    seen = all.length
    return fresh
  }
  const closePiece = () => {
    if (!open) return
    stream = Buffer.concat([stream, SYNC_TAIL])
    out.push(inflate())
    open = false
  }
  for (const token of tokens) {
    if (token === 'end') break
    if ('deflated' in token) {
      stream = Buffer.concat([stream, token.deflated])
      open = true
      continue
    }
    closePiece()
    for (let block = token.run[0]; block <= token.run[1]; block++) {
      const bytes = blockOf(block)
      out.push(bytes)
      if (kind === 'zlib') stream = Buffer.concat([stream, ...stored(bytes)])
    }
    if (kind === 'zlib') inflate()
  }
  closePiece()
  return Buffer.concat(out)
}

function* stored(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += STORED_MAX) {
    const piece = bytes.subarray(at, at + STORED_MAX)
    const head = Buffer.alloc(5)
    head.writeUInt16LE(piece.length, 1)
    head.writeUInt16LE(~piece.length & 0xffff, 3)
    yield head
    yield piece
  }
}
