import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Stage } from './stage.js'

export type Direction = 'up' | 'down' // up: from the client to the daemon

/** A TCP proxy before a daemon: it counts the bytes of each direction and cuts connections after a given number. */
export class TcpProxy {
  readonly bytes = { up: 0, down: 0 }
  connections = 0
  cuts = 0
  /** The most connections that were open at once. */
  openMost = 0
  #open = 0
  readonly #server: Server
  readonly #pairs = new Set<Socket>()
  #bytesPerSecond = Number.POSITIVE_INFINITY
  #cutAfter: { direction: Direction; bytes: number } | undefined

  private constructor(daemonPort: number) {
    this.#server = createServer((client) => this.#join(client, connect(daemonPort, '127.0.0.1')))
  }

  static async start(stage: Stage, daemonPort: number): Promise<TcpProxy> {
    const proxy = new TcpProxy(daemonPort)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    stage.defer(() => proxy.close())
    return proxy
  }

  get port(): number {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed')
    return address.port
  }

  /** Lets `bytes` more pass in that direction, over all connections, then cuts the connection that carried the last. */
  cutAfter(direction: Direction, bytes: number): void {
    this.#cutAfter = { direction, bytes }
  }

  /** From now on each connection carries at most so many bytes a second in each direction. */
  throttle(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Cuts every connection now. */
  cutAll(): void {
    for (const socket of this.#pairs) socket.resetAndDestroy()
  }

  async close(): Promise<void> {
    this.cutAll()
    this.#server.close()
  }

  #join(client: Socket, daemon: Socket): void {
    this.connections++
    this.#pairs.add(client).add(daemon)
    this.#open++
    this.openMost = Math.max(this.openMost, this.#open)
    client.on('close', () => this.#open--)
    this.#pump('up', client, daemon)
    this.#pump('down', daemon, client)
  }

  #pump(direction: Direction, from: Socket, to: Socket): void {
    from.setNoDelay(true)
    from.on('data', (chunk: Buffer) => {
      const cut = this.#cutAfter
      if (cut?.direction === direction && cut.bytes <= chunk.length) {
        this.#cutAfter = undefined
        this.cuts++
        this.bytes[direction] += cut.bytes
        // The bytes before the cut do arrive: end() flushes them before it closes.
        to.end(chunk.subarray(0, cut.bytes))
        from.resetAndDestroy()
        return
      }
      if (cut?.direction === direction) cut.bytes -= chunk.length
      this.bytes[direction] += chunk.length
      if (!to.write(chunk)) from.pause()
      const restMs = (1000 * chunk.length) / this.#bytesPerSecond
      if (restMs < 1) return
      from.pause()
      setTimeout(() => from.resume(), restMs)
    })
    to.on('drain', () => from.resume())
    from.on('end', () => to.end())
    from.on('error', () => {})
    from.on('close', () => {
      this.#pairs.delete(from)
      to.end()
    })
  }
}
