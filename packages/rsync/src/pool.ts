import { ConnectError, RemoteError } from './errors.js'
import type { SourceTree } from './flist/source.js'
import type { Session } from './session.js'

const OPENING_MAX = 4 // a daemon's listen backlog is 5; more at once meet one-second SYN retransmits
const BACKOFF_FIRST_MS = 500
const BACKOFF_MAX_MS = 60_000
const RECYCLE_MS = 10 * 60_000
const TICK_MS = 1000
/** After a session was taken: a login beside the change that it is for would slow that change down. */
const REFILL_MS = 30
const REFILL_LAST_MS = 5

type Open = (signal: AbortSignal) => Promise<Session>

/**
 * Keeps a few sessions ready, so that a change costs one round trip instead of a login, and counts all sessions to a
 * daemon: when it says that it has too many, fewer are kept from then on, and one of its places is left to others.
 */
export class SessionPool {
  readonly #idle: { session: Session; spokeMs: number }[] = []
  readonly #waiting: { resolve: (session: Session) => void; reject: (error: Error) => void }[] = []
  readonly #abort = new AbortController()
  #opening = 0
  /** Handed out, and not yet closed by the daemon. */
  readonly #busy = new Set<Session>()
  /** How many sessions the daemon lets us have, as far as we have learned. */
  #cap = Number.POSITIVE_INFINITY
  #failures = 0
  #notBeforeMs = 0
  #timer: NodeJS.Timeout | undefined
  #refillTimer: NodeJS.Timeout | undefined
  #ticker: NodeJS.Timeout | undefined

  /**
   * `size` sessions are kept ready. `open` makes one; it is never called more than a few times at once, and after a
   * failure only after a growing pause.
   */
  constructor(
    readonly open: Open,
    readonly size: number,
    readonly source: SourceTree,
  ) {}

  /** When the next attempt to connect is due, in ms since the epoch; 0 when nothing holds it back. */
  get retryAtMs(): number {
    return this.#failures > 0 ? this.#notBeforeMs : 0
  }

  /** A ready session. Rejects with what `open` said when none can be had now; the next call waits for the pause. */
  acquire(): Promise<Session> {
    if (this.#abort.signal.aborted) return Promise.reject(new ConnectError('closed'))
    this.#ticker ??= setInterval(() => this.#tend(), TICK_MS).unref()
    const ready = this.#takeReady()
    if (ready !== undefined) return Promise.resolve(ready)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.refill()
    })
  }

  /**
   * A ready session, unless it is the last one: that is kept for the next change. None that was opened before `sinceMs`:
   * a daemon enters the module's directory at login, and an older session may stand in one that was replaced since.
   */
  spare(sinceMs: number): Session | undefined {
    const places = this.size - this.#busy.size
    const next = this.#idle.at(this.#takesLast ? -1 : 0)
    if (this.#idle.length < 2 || places < 1 || next === undefined || next.session.openedMs < sinceMs) return undefined
    return this.#takeReady()
  }

  /** A session of another kind, made by `open` at once; ready ones make room for it where the daemon wants that. */
  async acquireOther(open: Open): Promise<Session> {
    for (;;) {
      while (this.#total >= this.#cap && this.#idle.length > 0) await this.#closeOne()
      this.#opening++
      try {
        const session = await open(this.#abort.signal)
        this.#handOut(session)
        return session
      } catch (error) {
        if (!isFull(error) || this.#idle.length === 0) throw error
        this.#learnCap()
        await this.#closeOne()
      } finally {
        this.#opening--
      }
    }
  }

  /** Takes back a session that was acquired: one that takes another list is ready for the next change. */
  giveBack(session: Session): void {
    if (!session.alive) return session.destroy()
    if (!session.ready) return
    this.#busy.delete(session)
    this.#offer(session)
  }

  /** Try again at once: somebody has reason to believe that it works now. */
  retryNow(): void {
    this.#notBeforeMs = 0
    this.refill()
  }

  /** Opens what is missing. Worth calling when a change has just been sent: until the next one there is time. */
  refill(): void {
    if (this.#abort.signal.aborted) return
    const nowMs = Date.now()
    if (nowMs < this.#notBeforeMs) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined
        this.refill()
      }, this.#notBeforeMs - nowMs)
      return
    }
    // After a failure one attempt tells whether the next is worth while.
    const most = this.#failures > 0 ? 1 : OPENING_MAX
    // Those that last come back when what they are at is done.
    const returning = [...this.#busy].filter((session) => session.lasts).length
    const wanted = Math.max(this.size - returning, 1, this.#waiting.length)
    while (this.#opening < most && this.#idle.length + this.#opening < wanted && this.#total < this.#cap)
      this.#openOne()
  }

  /** Opens no more and gives up what is being opened; whoever waits for one is told. */
  stopOpening(): void {
    this.#abort.abort()
    for (const { reject } of this.#waiting.splice(0)) reject(new ConnectError('closed'))
  }

  /** Gives every session back. Waiting callers are rejected. */
  async close(): Promise<void> {
    this.stopOpening()
    clearTimeout(this.#timer)
    clearTimeout(this.#refillTimer)
    clearInterval(this.#ticker)
    await Promise.all(this.#idle.splice(0).map(({ session }) => session.close(this.source)))
  }

  #takeReady(): Session | undefined {
    for (let one = this.#next(); one !== undefined; one = this.#next()) {
      if (!one.session.alive) continue
      this.#handOut(one.session)
      this.#refillIn(this.#idle.length === 0 ? REFILL_LAST_MS : REFILL_MS)
      return one.session
    }
    return undefined
  }

  /** Of those that last the one that was used last: it, and the process at its other end, are warm. */
  #next() {
    return this.#takesLast ? this.#idle.pop() : this.#idle.shift()
  }

  get #takesLast(): boolean {
    return this.#idle.at(-1)?.session.lasts === true
  }

  get #total(): number {
    return this.#idle.length + this.#opening + this.#busy.size
  }

  /** Its place at the daemon is free again when the daemon has closed the connection. */
  #handOut(session: Session): void {
    this.#busy.add(session)
    if (session.counted) return
    session.counted = true
    session.onClosed(() => {
      const at = this.#idle.findIndex((one) => one.session === session)
      if (at >= 0) this.#idle.splice(at, 1)
      else this.#busy.delete(session)
      if (this.#total < this.#cap) this.#refillIn(REFILL_MS)
    })
  }

  async #closeOne(): Promise<void> {
    const one = this.#idle.shift()
    if (one === undefined) return
    const closed = new Promise<void>((resolve) => one.session.onClosed(resolve))
    await one.session.close(this.source)
    await closed
  }

  /** Once a second: idle sessions are kept alive, dead ones replaced, old ones given back. */
  #tend(): void {
    const nowMs = Date.now()
    for (let i = this.#idle.length - 1; i >= 0; i--) {
      const one = this.#idle[i]
      if (!one.session.alive) this.#idle.splice(i, 1)
      else if (nowMs - one.session.openedMs > RECYCLE_MS) {
        this.#idle.splice(i, 1)
        void one.session.close(this.source)
      } else if (nowMs - one.spokeMs >= one.session.keepAliveMs) {
        one.spokeMs = nowMs
        one.session.keepAlive()
      }
    }
    this.refill()
  }

  #refillIn(ms: number): void {
    this.#refillTimer ??= setTimeout(() => {
      this.#refillTimer = undefined
      this.refill()
    }, ms)
  }

  #openOne(): void {
    this.#opening++
    this.open(this.#abort.signal).then(
      (session) => {
        this.#opening--
        this.#failures = 0
        this.#notBeforeMs = 0
        this.#offer(session)
        this.refill()
      },
      (error: Error) => {
        this.#opening--
        this.#failed(error)
      },
    )
  }

  #offer(session: Session): void {
    if (this.#abort.signal.aborted) return void session.close(this.source)
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#idle.push({ session, spokeMs: Date.now() })
    else {
      this.#handOut(session)
      waiting.resolve(session)
    }
  }

  #failed(error: Error): void {
    if (isFull(error) && this.#idle.length + this.#busy.size > 0) {
      this.#learnCap()
      return // whoever waits gets the next place that becomes free
    }
    if (!isFull(error)) this.#cap = Number.POSITIVE_INFINITY // it may be another daemon when it is back
    this.#failures++
    const pauseMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10))
    this.#notBeforeMs = Date.now() + pauseMs * (0.75 + Math.random() / 2)
    if (this.#opening === 0) for (const { reject } of this.#waiting.splice(0)) reject(error)
    this.refill()
  }

  /** The daemon has no more places: be content with what we have, and leave one of them to others. */
  #learnCap(): void {
    const have = this.#idle.length + this.#busy.size
    this.#cap = Math.max(1, Math.min(this.#cap, have > 1 ? have - 1 : have))
    if (this.#total > this.#cap && this.#idle.length > 0) void this.#closeOne()
  }
}

const isFull = (error: unknown) => error instanceof RemoteError && error.reason === 'max-connections'
