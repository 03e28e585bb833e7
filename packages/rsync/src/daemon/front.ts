// The process of a daemon that accepts: it greets, asks who is there, and reads answers, as nobody.
import { createServer, type Server, Socket } from 'node:net'
import { createSecureContext, TLSSocket } from 'node:tls'
import { greetingLine, parseGreeting } from '../handshake.js'
import { socketPair } from '../kernel.js'
import { PROTOCOL } from '../wire/constants.js'
import { clientAddress, isAllowed, reverseName, UNDETERMINED } from './access.js'
import { LOG, REPLY } from './log.js'
import type { FromFront, FrontConfig, FrontModule, ToFront } from './messages.js'
import { chooseDigest, digestTooWeak, newChallenge, parseResponse } from './secrets.js'

/** From the first byte to the module: whoever is slower is not logging in. */
const LOGIN_MS = 60_000
/** Logins at once; what a module allows is counted for itself. */
const LOGINS_MAX = 2048
const LINE_MAX = 5119

let config: FrontConfig | undefined
let identity = false
const servers = new Set<Server>()
const answers = new Map<number, (reply: string | null) => void>()
let logins = 0
/** Told by the monitor: a front that replaces another must not give an id again that somebody still has. */
let nextId = Number(process.argv[2])

type RawHandle = { close(): void }
const handleOf = (socket: Socket) => (socket as unknown as { _handle: RawHandle })._handle

function tell(message: FromFront, handle?: RawHandle, sent?: () => void): void {
  // A monitor that has gone takes us with it: see `disconnect`.
  process.send?.(message, handle as never, undefined, () => sent?.())
}

process.on('message', (message: ToFront, handle: unknown) => {
  switch (message.kind) {
    case 'config':
      take(message.config)
      return tell({ kind: 'ready' })
    case 'listen':
      return listen(message.fd, message.tls)
    case 'connection':
      return accept(new Socket({ handle } as never), false)
    case 'answer':
      answers.get(message.id)?.(message.reply)
      answers.delete(message.id)
      return
    case 'stop':
      for (const server of servers) server.close()
      servers.clear()
      if (logins === 0) process.exit(0)
  }
})
process.on('disconnect', () => process.exit(0))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined) // the monitor says

function take(next: FrontConfig): void {
  config = next
  if (identity) return
  identity = true
  const { uid, gid } = next
  if (gid !== null) {
    process.setgroups?.([gid])
    process.setgid?.(gid)
  }
  if (uid !== null) process.setuid?.(uid)
}

function listen(fd: number, tls: boolean): void {
  const server = createServer({ pauseOnConnect: false, noDelay: true }, (socket) => accept(socket, tls))
  server.on('error', () => undefined) // too many open files: the next connection is tried again
  server.listen({ fd })
  servers.add(server)
}

function accept(socket: Socket, tls: boolean): void {
  if (config === undefined || logins >= LOGINS_MAX) {
    socket.destroy()
    return
  }
  const id = nextId++
  logins++
  const plain = tls ? decrypted(socket, config) : socket
  const login = new Login(id, plain, clientAddress(socket.remoteAddress ?? ''), config)
  login
    .run()
    .catch(() => undefined) // a peer who talks nonsense, or has gone, hears nothing more
    .then((entered) => {
      logins--
      if (entered !== true) {
        plain.destroySoon()
        tell({ kind: 'gone', id })
      }
      if (logins === 0 && servers.size === 0) tell({ kind: 'idle' })
    })
}

/** A worker has no part in TLS: it gets one end of a pair of sockets, and what passes there is encrypted here. */
function decrypted(socket: Socket, { tls }: FrontConfig): Socket {
  const context = createSecureContext({ cert: tls?.certificate ?? '', key: tls?.key ?? '', minVersion: 'TLSv1.2' })
  const secure = new TLSSocket(socket, { isServer: true, secureContext: context })
  const [ours, theirs] = socketPair()
  const inner = new Socket({ fd: ours, readable: true, writable: true })
  secure.on('error', () => inner.destroy())
  inner.on('error', () => secure.destroy())
  secure.on('close', () => inner.destroy())
  inner.on('close', () => secure.destroySoon())
  secure.pipe(inner)
  inner.pipe(secure)
  return new Socket({ fd: theirs, readable: true, writable: true })
}

/** One connection, until a worker has it. */
class Login {
  #text = ''
  #host = UNDETERMINED
  #ended = false
  #wake: (() => void) | undefined

  constructor(
    readonly id: number,
    readonly socket: Socket,
    readonly address: string,
    readonly config: FrontConfig,
  ) {}

  /** True when the connection has been handed on. */
  async run(): Promise<boolean> {
    const timer = setTimeout(() => this.socket.destroy(), LOGIN_MS)
    const { socket } = this
    socket.on('data', this.#onData)
    socket.on('error', () => socket.destroy())
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onEnd)
    try {
      return await this.#converse()
    } finally {
      clearTimeout(timer)
    }
  }

  readonly #onData = (chunk: Buffer) => {
    this.#text += chunk.toString('latin1')
    // A line at a time is due; who sends much more is no client.
    if (this.#text.length > LINE_MAX * 4) this.socket.destroy()
    this.#wake?.()
  }
  readonly #onEnd = () => {
    this.#ended = true
    this.#wake?.()
  }

  async #line(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf('\n')
      if (end > LINE_MAX || (end < 0 && this.#text.length > LINE_MAX)) throw new Error('line too long')
      if (end >= 0) {
        const line = this.#text.slice(0, end).replace(/\r$/, '')
        this.#text = this.#text.slice(end + 1)
        return line
      }
      if (this.#ended) throw new Error('closed')
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #say(line: string): void {
    this.socket.write(Buffer.from(`${line}\n`, 'latin1'))
  }

  #log(line: string): void {
    tell({ kind: 'log', id: this.id, line })
  }

  async #converse(): Promise<boolean> {
    const { config, address } = this
    if (config.reverseLookup) this.#host = await reverseName(address, (line) => this.#log(line))
    this.#log(LOG.connect(config.globalLookup ? this.#host : UNDETERMINED, address))
    this.#say(greetingLine(PROTOCOL.MAX).trimEnd())
    if (config.motd !== '') this.socket.write(Buffer.from(config.motd, 'latin1'))
    const first = await this.#line()
    let greeting: ReturnType<typeof parseGreeting>
    try {
      greeting = parseGreeting(first)
    } catch {
      this.#say(REPLY.protocolError)
      return false
    }
    const protocol = Math.min(greeting.protocol, PROTOCOL.MAX)
    if (greeting.protocol >= 32 && greeting.digests === null) {
      this.#say(REPLY.noDigestList(first))
      return false
    }
    if (protocol < PROTOCOL.MIN) {
      this.#say(REPLY.protocolError)
      return false
    }
    const request = await this.#line()
    if (request === '' || request === '#list') return this.#list()
    if (request.startsWith('#')) {
      this.#say(REPLY.unknownCommand(request))
      return false
    }
    const module = config.modules.find(({ name }) => name === request)
    if (module !== undefined) return this.#enter(module, protocol, greeting.digests)
    this.#log(LOG.unknownModule(request, this.#host, address))
    this.#say(REPLY.unknownModule(request))
    return false
  }

  #list(): false {
    this.#log(LOG.moduleList(this.#host, this.address))
    for (const { name, comment, list } of this.config.modules) if (list) this.#say(REPLY.module(name, comment))
    this.#say(REPLY.endOfModules)
    return false
  }

  async #enter(module: FrontModule, protocol: number, digests: string[] | null): Promise<boolean> {
    const { address } = this
    const { name } = module
    if (module.reverseLookup && !this.config.reverseLookup)
      this.#host = await reverseName(address, (line) => this.#log(line))
    const verdict = await isAllowed(address, this.#host, module, (line) => this.#log(line))
    this.#host = verdict.host
    if (!verdict.allowed) {
      this.#log(LOG.denied(name, this.#host, address))
      this.#say(REPLY.denied(name, module.list, this.#host, address))
      return false
    }
    this.#log(LOG.allowed(name, this.#host, address))
    const full = await this.#ask({ kind: 'claim', id: this.id, module: name, host: this.#host, address })
    if (full !== null) return this.#refuse(full)
    const auth = module.authenticates ? await this.#authenticate(module, digests) : null
    if (auth === 'refused') return false
    const refused = await this.#ask({ kind: 'login', id: this.id, auth, host: this.#host })
    if (refused !== null) return this.#refuse(refused)
    this.#hand(protocol)
    return true
  }

  #refuse(reply: string): false {
    this.#say(reply)
    return false
  }

  async #authenticate(module: FrontModule, digests: string[] | null) {
    const { name, authDigest } = module
    const failed = (cause: string) => {
      this.#log(LOG.authFailed(name, this.#host, this.address, null, cause))
      this.#say(REPLY.authFailed(name))
      return 'refused' as const
    }
    const digest = chooseDigest(digests)
    if (digest === null) {
      this.#say(REPLY.noDigest)
      return 'refused' as const
    }
    const weak = digestTooWeak(digest, authDigest)
    if (weak !== null) return failed(weak)
    const challenge = newChallenge(digest)
    this.#say(`@RSYNCD: AUTHREQD ${challenge}`)
    const line = await this.#line().catch(() => '') // it has gone, perhaps for want of a password
    return parseResponse(line, challenge, digest) ?? failed(LOG.invalidResponse)
  }

  #ask(question: FromFront & { id: number }): Promise<string | null> {
    return new Promise((resolve) => {
      answers.set(this.id, resolve)
      tell(question)
    })
  }

  /** From here on it is a worker's: nothing may be read here any more. */
  #hand(protocol: number): void {
    const { socket } = this
    socket.pause()
    socket.removeAllListeners()
    socket.on('error', () => undefined)
    const waiting = socket.read() as Buffer | null
    const early = this.#text + (waiting?.toString('latin1') ?? '')
    const handle = handleOf(socket)
    ;(handle as unknown as { readStop?(): void }).readStop?.()
    tell({ kind: 'enter', id: this.id, early, protocol }, handle, () => socket.destroy())
  }
}
