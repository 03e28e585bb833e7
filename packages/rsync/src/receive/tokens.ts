import type { FileEntry } from '../flist/entry.js'
import type { Moved, Transfer } from '../transfer.js'
import type { Cursor } from '../wire/cursor.js'
import { within } from '../wire/cursor.js'
import { DeflatedTokenDecoder } from '../wire/token.js'
import type { FileWriter } from './file-writer.js'
import { Inflater } from './inflater.js'

/** The longest literal of any rsync: those before 2026 send up to 32 KiB, others' may be longer. */
const LITERAL_MAX = 1 << 24
const PROGRESS_BYTES = 1 << 16

/** Reads the content of files off a channel. */
export interface TokenSource {
  /** Feeds `writer` and adds to `moved`. Returns whether the sum over the whole file is right. */
  receive(entry: FileEntry, writer: FileWriter, moved: Moved): Promise<boolean>
}

export function tokenSource(transfer: Transfer): TokenSource {
  return transfer.agreement.compress === null ? new PlainSource(transfer) : new DeflatedSource(transfer)
}

/** token.c simple_recv_token(): a literal may be split anywhere, and is written as it comes. */
class PlainSource implements TokenSource {
  constructor(readonly transfer: Transfer) {}

  async receive(entry: FileEntry, writer: FileWriter, moved: Moved): Promise<boolean> {
    const { channel } = this.transfer
    let reported = 0
    for (;;) {
      const word = channel.tryReceive(decodeWord) ?? (await channel.receive('token', decodeWord))
      if (word === 0) break
      if (word < 0) moved.matched += writer.block(-(word + 1))
      else {
        within('literal length', word, 1, LITERAL_MAX)
        moved.literal += word
        for (let left = word; left > 0; ) {
          const bytes = channel.available(left) ?? (await channel.some('literal data', left))
          writer.literal(bytes)
          left -= bytes.length
          const wait = writer.relieve()
          if (wait !== undefined) await wait
        }
      }
      const relief = writer.relieve() ?? channel.rest() // a few bytes may mean much to write
      if (relief !== undefined) await relief
      if (writer.length - reported >= PROGRESS_BYTES) {
        reported = writer.length
        this.transfer.log.progress?.({ entry, offset: reported, size: entry.size }, false)
      }
    }
    return isWhole(this.transfer, writer, moved)
  }
}

const decodeWord = (c: Cursor) => c.i32()

/** token.c recv_deflated_token() */
class DeflatedSource implements TokenSource {
  constructor(readonly transfer: Transfer) {}

  async receive(entry: FileEntry, writer: FileWriter, moved: Moved): Promise<boolean> {
    const { channel, agreement } = this.transfer
    const decoder = new DeflatedTokenDecoder()
    const inflater = new Inflater()
    // With zlib (not zlibx) what matches goes through the window, too.
    const seesMatches = agreement.compress === 'zlib'
    const take = async (pieces: Buffer[]) => {
      for (const bytes of pieces) {
        moved.literal += bytes.length
        writer.literal(bytes)
        await writer.relieve()
      }
    }
    for (;;) {
      const token = await channel.receive('token', (c) => decoder.decode(c))
      if (token !== 'end' && 'deflated' in token) {
        await take(inflater.push(token.deflated))
        continue
      }
      await take(inflater.endOfLiteral())
      if (token === 'end') break
      const [first, last] = token.run
      for (let block = first; block <= last; block++) {
        if (seesMatches) {
          const bytes = writer.blockBytes(block)
          moved.matched += bytes.length
          inflater.see(bytes)
        } else moved.matched += writer.block(block)
        const relief = writer.relieve() ?? channel.rest()
        if (relief !== undefined) await relief
      }
      this.transfer.log.progress?.({ entry, offset: writer.length, size: entry.size }, false)
    }
    return isWhole(this.transfer, writer, moved)
  }
}

/** Reads the sum over the file that ends its content, and compares. */
async function isWhole(transfer: Transfer, writer: FileWriter, moved: Moved): Promise<boolean> {
  await writer.finish()
  const { channel, sums } = transfer
  const theirs = await channel.receive('file sum', (c) => c.bytes(sums.length))
  moved.sum = Buffer.from(sums.file.final())
  return moved.sum.equals(theirs)
}
