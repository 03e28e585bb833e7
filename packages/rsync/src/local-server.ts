import type { Socket } from 'node:net'
import { Channel } from './channel.js'
import { machinePlaces, machineReading } from './client.js'
import { releaseSums } from './digest.js'
import { machine, type Root } from './disk/root.js'
import { TransferError } from './errors.js'
import { SystemError } from './kernel.js'
import { memoryPair } from './memory-socket.js'
import { parseInvocation } from './options.js'
import type { RawPath } from './raw-path.js'
import { serve } from './server.js'
import { ServerLog } from './server-log.js'
import { PROTOCOL, RERR } from './wire/constants.js'

/**
 * A server of ours in this process that receives into a directory: the near end of its connection. `openDirectory`
 * opens that directory, or throws what is wrong with it.
 */
export function joinServer(args: readonly string[], openDirectory?: () => number): Socket {
  const [ours, theirs] = memoryPair()
  void serveLocally(theirs, args, openDirectory === undefined ? machine : rootOpenedBy(openDirectory))
  return ours
}

async function serveLocally(socket: Socket, args: readonly string[], root: Root): Promise<void> {
  const channel = new Channel(socket, 0, undefined) // who is in this process is not silent for being gone
  channel.quiet = true
  channel.own = true
  const log = new ServerLog(channel)
  try {
    const invocation = parseInvocation(args, {})
    channel.out.i32(PROTOCOL.MAX)
    await channel.flush()
    const theirs = await channel.receive('protocol version', (c) => c.i32())
    const { transfer } = await serve(channel, invocation, Math.min(PROTOCOL.MAX, theirs), {
      root,
      base: '' as RawPath,
      places: machinePlaces,
      module: null,
      log,
      asRoot: process.geteuid?.() === 0,
      umask: process.umask(),
      reading: machineReading(invocation.settings),
      openNames: () => {
        throw new SystemError('open', 22, 'EINVAL') // a mirror names no files so
      },
    })
    releaseSums(transfer.sums)
    await log.finish()
  } catch (error) {
    // What the kernel refuses ends this session, and not the process that it is in.
    await log.explain(error instanceof SystemError ? new TransferError(error.message, RERR.FILEIO) : error, 'Receiver')
  }
}

/** The machine, but for the directory that is received into: that is somebody else's to open, and never made here. */
function rootOpenedBy(openDirectory: () => number): Root {
  return {
    ...machine,
    open: () => openDirectory(),
    makeDirectory(path) {
      throw new TransferError(`${path} is gone`, RERR.FILEIO)
    },
  }
}
