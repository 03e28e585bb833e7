import { carriesXattrs, decodeXattrRequest, encodeXattrValues, type Xattrs } from '../attributes/xattr.js'
import { FileError } from '../errors.js'
import { type FileEntry, isDirectory } from '../flist/entry.js'
import type { SourceTree } from '../flist/source.js'
import { matchTotals } from '../output/names.js'
import { type SenderOptions, sendLists, type XattrAnswer } from '../sender.js'
import { IOERR, reasonOf, type Transfer } from '../transfer.js'
import { ITEM, MSG, NDX_DEL_STATS } from '../wire/constants.js'
import { NdxCodec } from '../wire/ndx.js'
import { DeflatedTokens, PlainTokens } from '../wire/token.js'
import { type Argument, type Origin, OutgoingLists, type OutgoingOptions, toldPath } from './outgoing-lists.js'

const COMPRESS_LEVEL = 6

export interface SendOptions extends OutgoingOptions {
  /** A server tells its client what it has moved. */
  tellsStats: boolean
  /** Names that are not worth compressing. */
  incompressible: (path: string) => boolean
  onDeleteStats: (counts: readonly number[]) => void
}

/** The sending end of a transfer, from the first list to the goodbye. Throws what ends a session. */
export async function send(
  transfer: Transfer,
  args: Iterable<Argument> | AsyncIterable<Argument>,
  options: SendOptions,
): Promise<void> {
  const codec = new NdxCodec()
  const outgoing = new OutgoingLists(transfer, codec, options)
  try {
    await sendAll(transfer, args, options, codec, outgoing)
  } finally {
    outgoing.close()
  }
}

async function sendAll(
  transfer: Transfer,
  args: Iterable<Argument> | AsyncIterable<Argument>,
  options: SendOptions,
  codec: NdxCodec,
  outgoing: OutgoingLists,
): Promise<void> {
  const { channel } = transfer
  const before = channel.onMessage
  channel.onMessage = (tag, payload) => {
    if (tag !== MSG.SUCCESS || payload.length !== 4) return before?.(tag, payload) ?? false
    const { removeSourceFiles, dryRun } = transfer.settings
    if (removeSourceFiles && !dryRun) removeSource(transfer, outgoing.entryAt(payload.readInt32LE()))
    return true
  }
  await outgoing.send(args)
  const listed = transfer.ioError
  // A server with nothing to send ends here; its client knows (main.c do_server_sender()).
  if (options.tellsStats && outgoing.isEmpty) return
  const report = await sendLists(channel, outgoing, codec, senderOptions(transfer, outgoing, codec, options, listed))
  transfer.stats.transferred = report.sent
  transfer.stats.literalBytes = report.literalBytes
  transfer.stats.matchedBytes = report.matchedBytes
  if (transfer.settings.verbose < 2) return
  const { matches, hits, falseAlarms } = report.search
  transfer.log.info(matchTotals(matches, hits, falseAlarms, report.literalBytes).text.slice(0, -1))
}

function senderOptions(
  transfer: Transfer,
  outgoing: OutgoingLists,
  codec: NdxCodec,
  options: SendOptions,
  listed: number,
): SenderOptions {
  const { settings, agreement, channel, sums, log } = transfer
  const plain = new PlainTokens(channel.out)
  const level = settings.compressLevel ?? COMPRESS_LEVEL
  const tokens = ({ path }: FileEntry) => {
    if (agreement.compress === null) return plain
    return new DeflatedTokens(channel.out, options.incompressible(path) ? 0 : level)
  }
  return {
    protocol: agreement.protocol,
    sums,
    tokens,
    dryRun: settings.dryRun,
    ahead: false,
    general: {
      append: settings.append,
      inplace: settings.inplace,
      xattrs: outgoing.xattrs === null ? undefined : (entry, iflags) => xattrAnswer(transfer, entry, iflags),
      onProgress: (entry, offset, done) => log.progress?.({ entry, offset, size: entry.size }, done),
      onItem: (entry, iflags, linkName, moved) => {
        if (iflags & ITEM.TRANSFER) transfer.stats.transferredSize += entry.size
        countCreated(transfer, entry, iflags)
        log.item(entry, iflags, linkName, moved)
      },
      onBegin: (entry, iflags, linkName) => log.begin?.(entry, iflags, linkName),
      onFailure: (error, entry) => failure(transfer, error, entry),
      sendStats: () => {
        if (transfer.ioError !== listed) transfer.sayIoError()
        if (options.tellsStats) tellStats(transfer)
      },
      onDeleteStats: (counts) => {
        options.onDeleteStats(counts)
        if (!options.tellsStats) return
        // It is the client's receiver that shows them.
        codec.encode(channel.out, NDX_DEL_STATS)
        for (const count of counts) channel.out.varint(count)
      },
    },
  }
}

/** A file could not be opened or read: it is told, and the receiver keeps what it has. */
function failure(transfer: Transfer, error: FileError, entry: FileEntry): void {
  const name = transfer.fullName(told((entry.origin as Origin).tree, entry))
  const cause = error.cause ?? error
  if (error.vanished) {
    transfer.ioError |= IOERR.VANISHED
    transfer.log.warning(`file has vanished: ${name}`)
    return
  }
  transfer.ioError |= IOERR.GENERAL
  transfer.failed = true
  transfer.log.fileError(`rsync: [sender] send_files failed to open ${name}: ${reasonOf(cause)}`)
}

function countCreated({ stats }: Transfer, { mode }: FileEntry, iflags: number): void {
  if (!(iflags & ITEM.IS_NEW)) return
  switch (mode & 0o170000) {
    case 0o100000:
      stats.createdFiles++
      break
    case 0o040000:
      stats.createdDirectories++
      break
    case 0o120000:
      stats.createdSymlinks++
      break
    case 0o060000:
    case 0o020000:
      stats.createdDevices++
      break
    default:
      stats.createdSpecials++
  }
}

/** The values that the generator asks for, and the answer with them. */
function xattrAnswer(transfer: Transfer, entry: FileEntry, iflags: number): XattrAnswer | null {
  const { settings, agreement, channel } = transfer
  if (settings.dryRun || !carriesXattrs(iflags, agreement.protocol, agreement.compatFlags)) return null
  const list = entry.xattrs as Xattrs
  return {
    decode: (c) => decodeXattrRequest(c, list),
    write: () => {
      const { tree } = entry.origin as Origin
      let at: ReturnType<SourceTree['place']>
      try {
        at = tree.place(entry.path)
      } catch (error) {
        transfer.fileError('get_xattr_data:', entry.path, error)
        channel.out.varint(0) // none of the values is there any more
        return
      }
      try {
        encodeXattrValues(channel.out, list, at, (error) => transfer.fileError('get_xattr_data:', entry.path, error))
      } finally {
        at.release()
      }
    },
  }
}

/** sender.c successful_send(): the receiver has it, so ours may go; unless it has changed since. */
function removeSource(transfer: Transfer, entry: FileEntry): void {
  if (isDirectory(entry.mode)) return
  const { tree } = entry.origin as Origin
  try {
    const now = tree.look(entry.path)
    if (now === null) return
    if (now.size !== entry.size || now.mtime !== entry.mtime || now.mtimeNsec !== entry.mtimeNsec) {
      transfer.failed = true
      transfer.log.fileError(`ERROR: Skipping sender remove for changed file: ${told(tree, entry)}`)
      return
    }
    tree.remove(entry.path)
    if (transfer.settings.verbose > 1) transfer.log.info(`sender removed ${entry.path}`)
  } catch (error) {
    if (!(error instanceof Error)) throw error
    transfer.fileError('sender failed to remove', told(tree, entry), error instanceof FileError ? error.cause : error)
  }
}

const told = (tree: SourceTree, { path }: FileEntry) => toldPath(tree, path)

/** main.c handle_stats() of a server that sends. */
function tellStats({ channel, stats }: Transfer): void {
  const { out } = channel
  const { bytesRead, bytesWritten } = channel
  const times = [stats.flistBuildMs, stats.flistTransferMs].map((ms) => Math.max(1, Math.round(ms)))
  for (const value of [bytesRead, bytesWritten + out.length, stats.totalSize, ...times]) out.varlong(value, 3)
}
