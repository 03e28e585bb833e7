import { ConnectError, RemoteError } from './errors.js'
import type { SourceTree } from './flist/source.js'
import type { Session } from './session.js'

const OPENING_MAX = 4 // a daemon's listen backlog is 5; more at once meet one-second SYN retransmits
const BACKOFF_FIRST_MS = 500
const BACKOFF_MAX_MS = 60_000
const RECYCLE_MS = 10 * 60_000
const TICK_MS = 1000
const REFILL_MS = 30
const REFILL_LAST_MS = 5
const RAISE_MS = 60_000

/** Keeps a few sessions ready, so that a change costs one round trip instead of a login. */
export class SessionPool {
  readonly #idle: { session: Session; spokeMs: number }[] = []
  readonly #waiting: { resolve: (session: Session) => void; reject: (error: Error) => void }[] = []
  readonly #abort = new AbortController()
  #opening = 0
  #failures = 0
  #notBeforeMs = 0
  #limit: number
  #raiseAtMs = 0
  #timer: NodeJS.Timeout | undefined
  #refillTimer: NodeJS.Timeout | undefined
  #ticker: NodeJS.Timeout | undefined

  /**
   * `size` sessions are kept ready. `open` makes one; it is never called more than a few times at once, and after a
   * failure only after a growing pause.
   */
  constructor(
    readonly open: (signal: AbortSignal) => Promise<Session>,
    readonly size: number,
    readonly source: SourceTree,
  ) {
    this.#limit = size
  }

  /** When the next attempt to connect is due, in ms since the epoch; 0 when nothing holds it back. */
  get retryAtMs(): number {
    return this.#failures > 0 ? this.#notBeforeMs : 0
  }

  /** A ready session. Rejects with what `open` said when none can be had now; the next call waits for the pause. */
  acquire(): Promise<Session> {
    this.#startTicking()
    for (let one = this.#idle.shift(); one !== undefined; one = this.#idle.shift()) {
      if (!one.session.alive) continue
      // Not now: a login beside the change that this session is for would slow it down.
      this.#refillIn(this.#idle.length === 0 ? REFILL_LAST_MS : REFILL_MS)
      return Promise.resolve(one.session)
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.refill()
    })
  }

  /** Takes back a session that was acquired and not used. */
  giveBack(session: Session): void {
    if (session.alive) this.#offer(session)
  }

  /** Try again at once: somebody has reason to believe that it works now. */
  retryNow(): void {
    this.#notBeforeMs = 0
    this.refill()
  }

  /** Gives every session back. Waiting callers are rejected. */
  async close(): Promise<void> {
    this.#abort.abort()
    clearTimeout(this.#timer)
    clearTimeout(this.#refillTimer)
    clearInterval(this.#ticker)
    for (const { reject } of this.#waiting.splice(0)) reject(new ConnectError('closed'))
    await Promise.all(this.#idle.splice(0).map(({ session }) => session.close(this.source)))
  }

  #startTicking(): void {
    this.#ticker ??= setInterval(() => this.#tend(), TICK_MS).unref()
  }

  /** Once a second: idle sessions are kept alive, dead ones replaced, old ones given back. */
  #tend(): void {
    const nowMs = Date.now()
    if (this.#limit < this.size && nowMs >= this.#raiseAtMs) this.#raise(nowMs)
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

  #raise(nowMs: number): void {
    this.#limit++
    this.#raiseAtMs = nowMs + RAISE_MS
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
    const wanted = Math.max(this.#limit, this.#waiting.length)
    while (this.#opening < most && this.#idle.length + this.#opening < wanted) this.#openOne()
  }

  #openOne(): void {
    this.#opening++
    this.open(this.#abort.signal).then(
      (session) => this.#opened(session),
      (error: Error) => this.#failed(error),
    )
  }

  #opened(session: Session): void {
    this.#opening--
    this.#failures = 0
    this.#notBeforeMs = 0
    this.#offer(session)
    this.refill()
  }

  #offer(session: Session): void {
    if (this.#abort.signal.aborted) return void session.close(this.source)
    const waiting = this.#waiting.shift()
    if (waiting !== undefined) waiting.resolve(session)
    else this.#idle.push({ session, spokeMs: Date.now() })
  }

  #failed(error: Error): void {
    this.#opening--
    this.#failures++
    const pauseMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10))
    this.#notBeforeMs = Date.now() + pauseMs * (0.75 + Math.random() / 2)
    if (error instanceof RemoteError && error.reason === 'max-connections') {
      // Others want the daemon's slots as well: be content with what we have, and ask for more only much later.
      this.#limit = Math.max(1, this.#idle.length)
      this.#raiseAtMs = Date.now() + RAISE_MS
    }
    if (this.#opening === 0) for (const { reject } of this.#waiting.splice(0)) reject(error)
    this.refill()
  }
}
