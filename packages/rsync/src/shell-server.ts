import { createReadStream, createWriteStream, fstatSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { Channel } from './channel.js'
import { machinePlaces, machineReading } from './client.js'
import { machine } from './disk/root.js'
import { ProtocolError, TransferError } from './errors.js'
import { parseInvocation } from './options.js'
import { type RawPath, toBytes } from './raw-path.js'
import { serve } from './server.js'
import { ServerLog } from './server-log.js'
import type { Invocation } from './settings.js'
import { PROTOCOL, RERR } from './wire/constants.js'

/** main.c start_server() behind a remote shell: both directions may be pipes, or one socket. Returns the exit code. */
export async function serveShell(args: readonly string[]): Promise<number> {
  const channel = new Channel(standardSocket(), 0, undefined)
  const log = new ServerLog(channel)
  let invocation: Invocation | undefined
  try {
    invocation = parseInvocation(args, process.env)
    if (invocation.settings.secludedArgs) {
      const secluded = await readSecluded(channel)
      invocation = parseInvocation(args, process.env, { secluded: secluded.slice(1) })
    }
    channel.timeoutMs = invocation.settings.timeoutMs
    const offered = invocation.settings.protocol ?? PROTOCOL.MAX
    channel.out.i32(offered)
    await channel.flush()
    const theirs = await channel.receive('protocol version', (c) => c.i32())
    if (theirs < PROTOCOL.MIN || theirs > 255)
      throw new TransferError('protocol version mismatch -- is your shell clean?', RERR.PROTOCOL)
    const { code } = await serve(channel, invocation, Math.min(offered, theirs), {
      root: machine,
      base: '' as RawPath,
      places: machinePlaces,
      module: null,
      log,
      asRoot: process.geteuid?.() === 0,
      umask: process.umask(),
      reading: machineReading(invocation.settings),
      openNames: (file) => openSync(toBytes(file), 'r'),
    })
    // The client waits for our exit before it closes its end, so we must not wait for that.
    await channel.flush()
    await new Promise<void>((resolve) => channel.socket.end(resolve))
    return code
  } catch (error) {
    return log.explain(error, invocation?.sender === true ? 'sender' : 'Receiver')
  }
}

async function readSecluded(channel: Channel): Promise<string[]> {
  const args: string[] = []
  for (;;) {
    const arg = await channel.receive('argument', (c) => {
      let text = ''
      for (let byte = c.u8(); byte !== 0; byte = c.u8()) {
        text += String.fromCharCode(byte)
        if (text.length > ARGUMENT_MAX) throw new ProtocolError('argument', `longer than ${ARGUMENT_MAX} bytes`)
      }
      return { text }
    })
    if (arg.text === '') return args
    args.push(arg.text)
    if (args.length > ARGUMENTS_MAX) throw new ProtocolError('arguments', `more than ${ARGUMENTS_MAX}`)
  }
}

const ARGUMENT_MAX = 1 << 16
const ARGUMENTS_MAX = 1 << 16

/** Standard input and output as one connection. */
function standardSocket(): Socket {
  const input = fstatSync(0)
  const output = fstatSync(1)
  const same = input.isSocket() && output.isSocket() && input.ino === output.ino
  if (same) return new Socket({ fd: 0, readable: true, writable: true })
  return new PipePair() as unknown as Socket
}

/** ssh gives two pipes. */
class PipePair extends Duplex {
  bytesRead = 0
  bytesWritten = 0
  readonly #in = readable(0)
  readonly #out = writable(1)

  constructor() {
    super({ allowHalfOpen: true })
    this.#in.on('data', (chunk: Buffer) => {
      this.bytesRead += chunk.length
      if (!this.push(chunk)) this.#in.pause()
    })
    this.#in.on('end', () => this.push(null))
    this.#in.on('error', (error: Error) => this.destroy(error))
    this.#out.on('error', (error: Error) => this.destroy(error))
  }
  setNoDelay(): this {
    return this
  }
  override _read(): void {
    this.#in.resume()
  }
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.bytesWritten += chunk.length
    if (this.#out.write(chunk)) done()
    else this.#out.once('drain', done)
  }
  override _final(done: () => void): void {
    this.#out.end(done)
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#in.destroy()
    done(error)
  }
}

function readable(fd: number) {
  const stat = fstatSync(fd)
  return stat.isSocket() || stat.isFIFO()
    ? new Socket({ fd, readable: true, writable: false })
    : createReadStream('', { fd })
}

function writable(fd: number) {
  const stat = fstatSync(fd)
  return stat.isSocket() || stat.isFIFO()
    ? new Socket({ fd, readable: false, writable: true })
    : createWriteStream('', { fd })
}
