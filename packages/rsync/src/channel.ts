import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ConnectError, ProtocolError, RemoteError, TimeoutError } from './errors.js'
import { Fifo } from './fifo.js'
import { MemorySocket } from './memory-socket.js'
import { printable } from './raw-path.js'
import { MSG, RERR } from './wire/constants.js'
import { Cursor, UNDERFLOW } from './wire/cursor.js'
import { Demultiplexer, EMPTY_FRAME, encodeFrame, frameHeader } from './wire/mux.js'
import { Writer } from './wire/writer.js'

const FLUSH_BYTES = 1 << 16
const CONCAT_MAX = 1 << 14
/** What a peer may have sent ahead of what we have worked on; beyond it we stop reading its socket. */
const INPUT_MAX = 1 << 20
/** What may wait for a peer to read it. */
const OUTPUT_MAX = 16 << 20
/** What a piece of it takes beside its bytes; a peer may put each byte in a frame of its own. */
const PIECE_COST = 256
/** A shorter piece is copied, for it would keep alive all that was read with it. */
const COPY_MAX = 1 << 14
/** Pieces up to this are worked on together. */
const TAKE_BYTES = 1 << 14
/** Whoever sends so much at once is likely to go on, and is not waited for so soon. */
const STREAM_BYTES = 1 << 15
const STREAM_PAUSE_MS = 2
const COMPLAINTS: ReadonlySet<number> = new Set([MSG.ERROR, MSG.ERROR_XFER, MSG.ERROR_SOCKET, MSG.ERROR_UTF8])
const TEXTS_MAX = 100
const MESSAGES_MAX = 1000
const TURN_MS = 8
const LINGER_MS = 5_000
/** A longer timer would go off at once. */
const TIMER_MAX_MS = 2 ** 31 - 1

/** What the peer said beside the data, since the channel was opened. */
export interface Said {
  /** Reports of files, or of the whole session, that failed. */
  errors: string[]
  notices: string[]
  deleted: number
  ioError: boolean
}

/** A socket to a daemon: plain lines and integers at first, multiplexed frames once `multiplex` was called. */
export class Channel {
  readonly cursor = new Cursor()
  readonly out = new Writer()
  said: Said = { errors: [], notices: [], deleted: 0, ioError: false }
  /** Seconds after which the daemon gives up on a silent client, where it told us; 0 when it did not. */
  peerTimeoutSec = 0
  /** Set once the peer takes frames, which is before it sends any itself. */
  mayWriteFrames = false
  onDeleted: ((path: string, directory: boolean) => void) | undefined
  /** Is told each message first; what it returns true for is dealt with. */
  onMessage: ((tag: number, payload: Buffer) => boolean) | undefined

  /** The peer is in this process, or at the other end of a pipe: no acknowledgement is ever late. */
  quiet = false
  /** The peer is this very process: what it says costs nobody else anything. */
  own = false

  readonly #chunks = new Fifo<Buffer>()
  #queued = 0
  /** The sides of a peer that wait for something to happen: a receiver for data, a generator for room. */
  readonly #waiting = new Set<() => void>()
  #failure: Error | undefined
  #ended = false
  #mux: Demultiplexer | undefined
  #lastReadMs = Date.now()
  #turnStart = performance.now()
  #wroteSinceRead = false
  #heard = false // more than empty frames came since we last answered
  readonly #messages: Buffer[] = []
  #messageBytes = 0
  readonly #raw: Buffer[] = [] // the handshake as it came, to find an error report in it

  constructor(
    readonly socket: Socket,
    public timeoutMs: number,
    public pace: ((bytes: number) => Promise<void>) | undefined,
  ) {
    socket.setNoDelay(true)
    socket.on('data', (chunk) => this.#onData(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('close', () => this.#onEnd())
    socket.on('error', (error) => this.#fail(new ConnectError(`connection lost: ${error.message}`, { cause: error })))
  }

  get alive(): boolean {
    return this.#failure === undefined && !this.#ended && !this.socket.destroyed
  }

  /** Frames are sent, so that messages can be. */
  get framed(): boolean {
    return this.#mux !== undefined
  }

  get bytesRead(): number {
    return this.socket.bytesRead
  }
  get bytesWritten(): number {
    return this.socket.bytesWritten
  }

  /** Bytes that somebody else has read of this connection. */
  feed(bytes: Buffer): void {
    this.#onData(bytes)
  }

  /**
   * From here on both directions carry frames. Bytes that have already come are frames too. `onDemand` takes them apart
   * one at a time, for a peer that will put something between them (`plainly`).
   */
  multiplex(onDemand = false): void {
    this.#onDemand = onDemand
    this.mayWriteFrames = true
    this.#mux = new Demultiplexer(
      (data) => this.#queue(data),
      (tag, payload) => this.#message(tag, payload),
    )
    const early = Buffer.concat([this.cursor.bytes(this.cursor.remaining), ...this.#chunks.drain()])
    this.#queued = 0
    this.#raw.length = 0
    if (early.length > 0) this.#unframe(early)
  }
  #onDemand = false
  /** Bytes behind the frames that were taken apart. */
  #behind: Buffer[] = []
  /** What is sent has no frames for a while. */
  #plain = false

  #unframe(bytes: Buffer): void {
    if (!this.#onDemand) return this.#mux?.push(bytes)
    this.#behind.push(bytes)
    this.#queued += bytes.length
  }

  /** Takes apart the next frame that waits. */
  #nextFrame(): void {
    const bytes = this.#behind.shift() as Buffer
    this.#queued -= bytes.length
    const length = this.#mux?.pushFrame(bytes) ?? bytes.length
    if (length === bytes.length) return
    this.#behind.unshift(bytes.subarray(length))
    this.#queued += bytes.length - length
  }

  /** Before protocol 31 the names of --files-from travel between the frames. `work` sends them. */
  async plainly(work: () => Promise<void>): Promise<void> {
    await this.flush()
    this.#plain = true
    await work()
    await this.flush()
    this.#plain = false
  }

  /** `work` receives them. */
  async *readPlainly<T>(work: AsyncIterable<T>): AsyncGenerator<T> {
    const mux = this.#mux
    this.#mux = undefined
    this.#queued = 0
    for (const bytes of this.#behind.splice(0)) this.#queue(bytes)
    yield* work
    this.#mux = mux
    this.#onDemand = false
    const early = Buffer.concat([this.cursor.bytes(this.cursor.remaining), ...this.#chunks.drain()])
    this.#queued = 0
    if (early.length > 0) mux?.push(early)
  }

  /** What `decode` makes of what has arrived, or undefined when that is not its whole message yet. */
  tryReceive<T extends {}>(decode: (c: Cursor) => T): T | undefined {
    const start = this.cursor.pos
    try {
      return decode(this.cursor)
    } catch (error) {
      if (error !== UNDERFLOW) throw error
      this.cursor.pos = start
      return undefined
    }
  }

  /** Runs `decode` as soon as its whole message has arrived. It may run more than once, so it must only return. */
  async receive<T extends {}>(what: string, decode: (c: Cursor) => T): Promise<T> {
    for (;;) {
      const got = this.tryReceive(decode)
      if (got !== undefined) return got
      const paced = this.#sendAhead()
      if (paced !== undefined) await paced
      await this.#more(this.cursor.pos, what)
    }
  }

  /**
   * Whoever waits for the peer has said all, and the peer shall hear it. But he does not wait until it is taken: a peer
   * that is sending may take nothing before we do, and what was said may be the generator's, while it is the receiver
   * that waits.
   */
  #sendAhead(): Promise<void> | undefined {
    return this.#chunks.length === 0 ? this.#send() : undefined
  }

  /** What has arrived of the next `most` bytes, or undefined. */
  available(most: number): Buffer | undefined {
    const { remaining } = this.cursor
    return remaining === 0 ? undefined : this.cursor.bytes(Math.min(most, remaining))
  }

  /** What has arrived of the next `most` bytes, at least one. */
  async some(what: string, most: number): Promise<Buffer> {
    while (this.cursor.remaining === 0) {
      const paced = this.#sendAhead()
      if (paced !== undefined) await paced
      await this.#more(this.cursor.pos, what)
    }
    return this.cursor.bytes(Math.min(most, this.cursor.remaining))
  }

  /** Sends what is in `out` once it is worth a write. Returns a promise only when the caller has to wait. */
  relieve(worth = FLUSH_BYTES): Promise<void> | undefined {
    if (this.out.length >= worth || this.#messageBytes >= FLUSH_BYTES) return this.flush()
    return this.rest()
  }

  /** Lets others have their turn, when it is due. Never waits for the peer. */
  rest(): Promise<void> | undefined {
    return performance.now() - this.#turnStart > TURN_MS ? this.#yield() : undefined
  }

  /** Sends what is in `out`, as data. Returns a promise only when the caller has to wait. */
  flush(): Promise<void> | undefined {
    const paced = this.#send()
    if (paced !== undefined) return paced.then(() => (this.socket.writableNeedDrain ? this.#drain() : undefined))
    return this.socket.writableNeedDrain ? this.#drain() : undefined
  }

  /** As `flush`, but does not wait until the peer has taken it. */
  #send(): Promise<void> | undefined {
    if (this.#messages.length > 0) this.#writeMessages()
    if (this.out.length === 0) return undefined
    this.#throwFailure()
    const data = this.out.take()
    this.#wroteSinceRead = true
    if (this.#mux === undefined || this.#plain) this.socket.write(data)
    else this.#writeFrame(data)
    this.#mustBeTaken()
    return this.pace?.(data.length)
  }

  /** What a receiver has to say is not waited for; but nobody has to keep it for a peer that never reads. */
  #mustBeTaken(): void {
    if (this.socket.writableLength <= OUTPUT_MAX) return
    this.#fail(new ProtocolError('answers', 'the peer takes none'))
    this.#throwFailure()
  }

  /** Queues a message for the next flush. It overtakes data that is still in `out`; none of ours minds. */
  sendMessage(tag: number, payload: Buffer): void {
    this.#messages.push(encodeFrame(tag, payload))
    this.#messageBytes += payload.length + PIECE_COST
    if (this.#messages.length < MESSAGES_MAX) return
    this.#writeMessages()
    this.#mustBeTaken()
  }

  sendEmptyFrame(): void {
    // Who does not read needs no acknowledgement either.
    if (this.alive && !this.socket.writableNeedDrain) this.socket.write(EMPTY_FRAME)
  }

  /** Waits for the peer to close. Anything it still sends is read and dropped. */
  async untilClosed(): Promise<void> {
    while (this.alive) {
      this.#chunks.drain()
      this.#queued = 0
      this.socket.resume()
      await this.#wait('the end of the session')
    }
  }

  /** Ends our side once everything has been handed to the kernel, and waits for the peer's end. */
  async end(): Promise<void> {
    const { socket } = this
    await new Promise<void>((resolve) => {
      // Node tells a socket that was destroyed, before or meanwhile, of no end.
      if (socket.destroyed) return resolve()
      socket.once('close', () => resolve())
      socket.end(() => resolve())
    })
    const timer = setTimeout(() => this.destroy(), LINGER_MS)
    await this.untilClosed().catch(() => undefined)
    clearTimeout(timer)
  }

  /** Ends the connection at once. Safe to call twice. */
  destroy(): void {
    this.#ended = true
    this.socket.destroy()
    this.#wake()
  }

  /** Throws what the peer has complained of already, or why the connection is gone. */
  throwIfRefused(): void {
    this.#throwFailure()
    if (this.said.errors.length > 0) throw remoteFailure(this.said.errors, RERR.STREAMIO)
    if (this.#ended) throw this.#closed('a file list')
  }

  /** What comes next has nothing to do with what was said so far. */
  forget(): void {
    this.said = { errors: [], notices: [], deleted: 0, ioError: false }
  }

  /** Fails whatever waits on this channel now, or will; what there is to say last can still be sent. */
  interrupt(error: Error): void {
    this.#failure ??= error
    this.#wake()
  }

  /** Fails whatever waits on this channel, and ends it. */
  abort(error: Error): void {
    this.#fail(error)
  }

  /** As `abort`, but the peer is told first that it is over, with rsync's exit code. */
  leave(error: Error, code: number): void {
    if (!this.alive || !this.framed) return this.abort(error)
    const payload = Buffer.alloc(4)
    payload.writeInt32LE(code)
    this.sendMessage(MSG.ERROR_EXIT, payload)
    this.#writeMessages()
    this.#failure ??= error
    this.#ended = true
    this.socket.end()
    this.#wake()
  }

  #writeMessages(): void {
    this.#messageBytes = 0
    this.#wroteSinceRead = true
    this.socket.write(Buffer.concat(this.#messages.splice(0)))
  }

  #writeFrame(data: Buffer): void {
    if (data.length <= CONCAT_MAX) return void this.socket.write(encodeFrame(MSG.DATA, data))
    this.socket.cork()
    this.socket.write(frameHeader(MSG.DATA, data.length))
    this.socket.write(data, () => this.#written(data))
    this.socket.uncork()
  }

  #written(data: Buffer): void {
    if (!(this.socket instanceof MemorySocket)) this.out.recycle(data)
  }

  async #drain(): Promise<void> {
    this.#turnStart = performance.now()
    const drained = () => this.#wake()
    this.socket.on('drain', drained)
    try {
      while (this.socket.writableNeedDrain) {
        this.#throwFailure()
        if (this.#ended) throw this.#closed('data to be taken')
        await this.#wait('data to be taken')
      }
    } finally {
      this.socket.off('drain', drained)
    }
  }

  async #yield(): Promise<void> {
    await nextTurn()
    this.#turnStart = performance.now()
  }

  async #more(start: number, what: string): Promise<void> {
    while (this.#chunks.length === 0) {
      if (this.#behind.length > 0) {
        this.#nextFrame()
        continue
      }
      this.#throwFailure()
      if (this.#ended) throw this.#closed(what)
      await this.#wait(what)
      this.#turnStart = performance.now()
    }
    this.cursor.refill(start, this.#takeChunks())
    if (this.socket.isPaused() && this.#queued <= INPUT_MAX / 2) this.socket.resume()
  }

  /** Small pieces together, but a long one as it is: content is not copied on its way. */
  #takeChunks(): Buffer {
    const first = this.#chunks.shift() as Buffer
    this.#queued -= first.length + PIECE_COST
    const taken = [first]
    let { length } = first
    for (let next = this.#chunks.first(); next !== undefined; next = this.#chunks.first()) {
      if (length + next.length > TAKE_BYTES) break
      this.#chunks.shift()
      this.#queued -= next.length + PIECE_COST
      length += next.length
      taken.push(next)
    }
    return taken.length === 1 ? first : Buffer.concat(taken, length)
  }

  /** Until anything at all happens on the socket; fails after `timeoutMs` of silence. */
  async #wait(what: string): Promise<void> {
    let woken = () => {}
    const silent = new Promise<void>((resolve) => {
      woken = resolve
    })
    this.#waiting.add(woken)
    const timer =
      this.timeoutMs === 0
        ? undefined
        : setTimeout(
            () => {
              if (Date.now() - this.#lastReadMs >= this.timeoutMs) {
                this.#fail(
                  new TimeoutError(`no answer for ${Math.round(this.timeoutMs / 1000)} s while waiting for ${what}`),
                )
              } else this.#wake()
            },
            Math.min(this.timeoutMs, TIMER_MAX_MS),
          )
    try {
      await silent
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(woken)
    }
    this.#throwFailure()
  }

  #wake(): void {
    for (const woken of this.#waiting) woken()
  }

  #onData(chunk: Buffer): void {
    this.#lastReadMs = Date.now()
    this.#wroteSinceRead = false
    try {
      if (this.#mux === undefined) {
        if (this.#raw.length < TEXTS_MAX) this.#raw.push(chunk)
        this.#queue(chunk)
      } else this.#unframe(chunk)
    } catch (error) {
      this.#fail(error as Error)
    }
    if (this.#queued > INPUT_MAX) this.socket.pause()
    this.#wake()
    // An empty frame is not answered: two of ours would never stop.
    if (this.mayWriteFrames && this.#heard && !this.quiet) this.#acknowledge(chunk.length)
    this.#heard = false
  }

  /**
   * The daemon's small writes wait, by Nagle's algorithm, for our ACK, which our kernel delays by 40 ms unless we
   * write. Whoever was woken may still write in this turn; if nobody did, an empty frame carries the ACK.
   */
  #acknowledge(length: number): void {
    if (this.#acknowledging) return
    this.#acknowledging = true
    const acknowledge = () => {
      this.#acknowledging = false
      if (!this.#wroteSinceRead) this.sendEmptyFrame()
    }
    // In a stream of data more comes at once, and an answer to each piece would cost both ends a system call.
    if (length < STREAM_BYTES) setImmediate(acknowledge)
    else setTimeout(acknowledge, STREAM_PAUSE_MS).unref()
  }
  #acknowledging = false

  #queue(data: Buffer): void {
    if (data.length === 0) return
    this.#heard = true
    this.#chunks.push(data.length < COPY_MAX ? ownCopy(data) : data)
    this.#queued += data.length + PIECE_COST
  }

  #message(tag: number, payload: Buffer): void {
    // Who complains may be about to go, and what is written to somebody who has gone makes an end a reset.
    if (!COMPLAINTS.has(tag)) this.#heard = true
    if (this.onMessage?.(tag, payload) === true) return
    switch (tag) {
      case MSG.ERROR_XFER:
      case MSG.ERROR:
      case MSG.ERROR_SOCKET:
      case MSG.ERROR_UTF8:
        return keep(this.said.errors, payload)
      case MSG.WARNING:
      case MSG.INFO:
      case MSG.LOG:
      case MSG.CLIENT:
        return keep(this.said.notices, payload)
      case MSG.DELETED:
        return this.#deleted(payload)
      case MSG.IO_ERROR:
        this.said.ioError = true
        return
      case MSG.IO_TIMEOUT:
        if (payload.length === 4) this.peerTimeoutSec = Math.max(0, payload.readInt32LE())
        return
      case MSG.ERROR_EXIT:
        return this.#fail(this.#exitReport(payload))
      case MSG.NOOP:
      case MSG.SUCCESS:
      case MSG.NO_SEND:
      case MSG.REDO:
        return
      default:
        throw new ProtocolError('frame', `unknown message ${tag}`)
    }
  }

  #deleted(payload: Buffer): void {
    this.said.deleted++
    const directory = payload.length > 0 && payload[payload.length - 1] === 0
    this.onDeleted?.(payload.toString('latin1', 0, payload.length - (directory ? 1 : 0)), directory)
  }

  #exitReport(payload: Buffer): Error {
    const code = payload.length === 4 ? payload.readInt32LE() : RERR.STREAMIO
    return remoteFailure(this.said.errors, code)
  }

  /** What a daemon has complained of in frames where plain integers were due. */
  earlyComplaint(): RemoteError | undefined {
    const texts = framedErrors(Buffer.concat(this.#raw))
    return texts.length === 0 ? undefined : remoteFailure(texts, RERR.UNSUPPORTED)
  }

  #closed(what: string): Error {
    if (this.said.errors.length > 0) return remoteFailure(this.said.errors, RERR.STREAMIO)
    const early = this.#mux === undefined ? framedErrors(Buffer.concat(this.#raw)) : []
    if (early.length > 0) return remoteFailure(early, RERR.UNSUPPORTED)
    return new ConnectError(`the daemon closed the connection while we waited for ${what}`)
  }

  #onEnd(): void {
    this.#ended = true
    this.#wake()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#ended = true
    this.socket.destroy()
    this.#wake()
  }

  #throwFailure(): void {
    if (this.#failure === undefined) return
    // What the daemon said before it went is worth more than that it went.
    if (this.#failure instanceof ConnectError && this.said.errors.length > 0)
      throw remoteFailure(this.said.errors, RERR.STREAMIO)
    throw this.#failure
  }
}

function ownCopy(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(copy)
  return copy
}

function keep(texts: string[], payload: Buffer): void {
  const text = printable(payload.toString('latin1').trim())
  if (text !== '' && texts.length < TEXTS_MAX) texts.push(text)
}

function remoteFailure(errors: string[], code: number): RemoteError {
  const text = errors.join('; ') || `the daemon gave up with code ${code}`
  if (text.includes('module is read only')) return new RemoteError('read-only', text, RERR.SYNTAX)
  if (text.includes('configured to refuse')) return new RemoteError('refused', text, RERR.UNSUPPORTED)
  return new RemoteError('failed', text, code)
}

/** A daemon that dislikes our arguments answers with frames where plain integers were due. */
function framedErrors(raw: Buffer): string[] {
  for (let at = raw.lastIndexOf('\n') + 1, tries = 0; at < raw.length && tries < 16; at++, tries++) {
    const texts: string[] = []
    try {
      new Demultiplexer(
        () => undefined,
        (tag, payload) => {
          if (tag === MSG.ERROR || tag === MSG.ERROR_XFER) keep(texts, payload)
        },
      ).push(raw.subarray(at))
    } catch {
      continue // not a frame boundary
    }
    if (texts.length > 0) return texts
  }
  return []
}
