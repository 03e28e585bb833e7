import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Expression, Filter, printable, type RawPath, toBytes } from '@syncline/rsync'
import type { Logger } from 'pino'
import { RE2JS } from 're2js'

const PARALLEL = 4
const WAITING_MAX = 10_000
const TIMEOUT_MS = 60_000
const STOP_MS = 5_000
const OUTPUT_MAX = 4_096
const OUTPUT_MS = 100

/** What has happened, as commands and webhooks are told. */
export interface Change {
  /** The absolute path. */
  path: RawPath
  /** The same below the source; '' is the source itself: more has happened than could be told one by one. */
  relative: RawPath
  kind: 'changed' | 'deleted'
  directory: boolean
}

/** What is to be done about a change. */
export type Deed =
  /** Run a program: its argument vector, in which `{path}` stands for the absolute path. The change is on its standard input. */
  | { run: string[] }
  /** POST the change there, as JSON. */
  | { post: string }
  /** Connect, and send the absolute path: sersync's socket plugin. */
  | { connect: { host: string; port: number } }
  /** Have a content delivery network fetch it anew: sersync's refreshCDN plugin. */
  | { refresh: Refresh }

export interface Refresh {
  host: string
  port: number
  user: string
  password: string
  /** What URLs begin with. */
  base: string
  /** A regular expression whose first group, with what follows the match, is appended to `base`; otherwise the relative path is. */
  match: string | undefined
}

export interface Action {
  deed: Deed
  /** Only for paths that one of these matches; all when there is none. */
  only: readonly Expression[]
  /** A failure is not worth a warning. */
  ignoreErrors: boolean
}

/** A URL that can be posted to. Throws Error. */
export function checkedUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new Error(`"${text}" is no address; write http://HOST[:PORT]/PATH`)
  if (new URL(text).username !== '' || new URL(text).password !== '')
    throw new Error('an address with a password in it would be in every log; leave it out')
  return text
}

/** An action in a few words. */
export function describeDeed(deed: Deed): string {
  if ('run' in deed) return `run ${deed.run.join(' ')}`
  if ('post' in deed) return `POST to ${deed.post}`
  if ('connect' in deed) return `send the path to ${deed.connect.host}:${deed.connect.port}`
  return `refresh ${deed.refresh.base}… at ${deed.refresh.host}:${deed.refresh.port}`
}

/** A change as JSON. Names are bytes: `path` may be lossy, and then `pathBase64` is not. */
export function jsonOf({ path, relative, kind, directory }: Change): string {
  const bytes = toBytes(path)
  const text = bytes.toString()
  const lossy = !Buffer.from(text).equals(bytes)
  return JSON.stringify({
    time: new Date().toISOString(),
    kind,
    path: text,
    relative: toBytes(relative).toString(),
    directory,
    ...(lossy && { pathBase64: bytes.toString('base64') }),
  })
}

/** Does one thing about each change, a few at a time, and never two at once about one path. */
export class ActionQueue {
  readonly #waiting = new Map<RawPath, Change>()
  readonly #busy = new Set<RawPath>()
  readonly #abort = new AbortController()
  readonly #filter: Filter | undefined
  #idle: (() => void) | undefined

  constructor(
    readonly action: Action,
    readonly source: RawPath,
    readonly log: Logger,
  ) {
    if (action.only.length > 0) this.#filter = new Filter([], action.only)
  }

  add(change: Change): void {
    if (this.#abort.signal.aborted) return
    if (this.#filter !== undefined && !this.#filter.hides(change.relative, change.directory)) return
    if (this.#waiting.size >= WAITING_MAX && !this.#waiting.has(change.path)) {
      // Whoever is told then has to look everywhere.
      this.log.warn(
        `too many changes wait for "${describeDeed(this.action.deed)}": it is told of ${printable(this.source)}`,
      )
      this.#waiting.clear()
      const all: Change = { path: this.source, relative: '' as RawPath, kind: 'changed', directory: true }
      this.#waiting.set(this.source, all)
    } else this.#waiting.set(change.path, change)
    this.#next()
  }

  /** Finishes what waits, for a moment. */
  async close(): Promise<void> {
    if (this.#waiting.size + this.#busy.size > 0) {
      const timer = setTimeout(() => this.#idle?.(), STOP_MS)
      await new Promise<void>((resolve) => {
        this.#idle = resolve
      })
      clearTimeout(timer)
      const left = this.#waiting.size + this.#busy.size
      if (left > 0) this.log.warn(`${left} changes were not told to "${describeDeed(this.action.deed)}"`)
    }
    this.#waiting.clear()
    this.#abort.abort()
  }

  #next(): void {
    for (const [path, change] of this.#waiting) {
      if (this.#busy.size >= PARALLEL) return
      if (this.#busy.has(path)) continue
      this.#waiting.delete(path)
      this.#busy.add(path)
      void this.#do(change).finally(() => {
        this.#busy.delete(path)
        if (this.#waiting.size + this.#busy.size === 0) this.#idle?.()
        this.#next()
      })
    }
  }

  async #do(change: Change): Promise<void> {
    const { deed, ignoreErrors } = this.action
    try {
      await perform(deed, change, AbortSignal.any([this.#abort.signal, AbortSignal.timeout(TIMEOUT_MS)]))
    } catch (error) {
      const text = `${printable(change.path)}: ${describeDeed(deed)}: ${(error as Error).message}`
      if (ignoreErrors) this.log.debug(text)
      else this.log.warn(text)
    }
  }
}

/** Throws Error with what went wrong. */
async function perform(deed: Deed, change: Change, signal: AbortSignal): Promise<void> {
  if ('run' in deed) return runProgram(deed.run, change, signal)
  if ('post' in deed) return post(deed.post, jsonOf(change), signal)
  const { path } = change
  if ('connect' in deed) return void (await exchange(deed.connect, toBytes(path), signal, false))
  const url = urlOf(deed.refresh, change)
  if (url === undefined) return
  const answer = await exchange(deed.refresh, refreshRequest(deed.refresh, url, change.directory), signal)
  const status = /^HTTP\/1\.\d (\d{3})/.exec(answer)?.[1]
  if (status === undefined || !status.startsWith('2')) throw new Error(`the answer is ${status ?? 'no HTTP'}`)
}

/** Never by way of a shell: what a name contains is one argument, or part of one. */
async function runProgram([program, ...rest]: readonly string[], change: Change, signal: AbortSignal): Promise<void> {
  const bytes = toBytes(change.path)
  const text = bytes.toString()
  const child = Buffer.from(text).equals(bytes)
    ? spawn(
        program,
        rest.map((one) => one.replaceAll('{path}', () => text)),
        { detached: true },
      )
    : spawnWithBytes(program, rest, bytes)
  child.stdin?.on('error', () => undefined) // whoever does not read it need not
  child.stdin?.end(`${jsonOf(change)}\n`)
  const said = collect(child)
  // Whatever it has started goes with it.
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    } catch {
      // it has ended
    }
  }
  signal.addEventListener('abort', kill)
  try {
    // Not 'close': what it leaves in the background may hold the pipes for ever.
    const code = await new Promise<number | string>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code, killedBy) => resolve(code ?? killedBy ?? 'nothing'))
    })
    if (code === 0) return
    await sleep(OUTPUT_MS)
    throw new Error(signal.aborted ? 'it took too long' : `exit ${code}${said() === '' ? '' : `: ${said()}`}`)
  } finally {
    signal.removeEventListener('abort', kill)
    child.stdout?.destroy()
    child.stderr?.destroy()
  }
}

/** Node passes arguments as UTF-8 alone. xargs passes bytes, here from a file without a name. */
function spawnWithBytes(program: string, args: readonly string[], path: Buffer): ChildProcess {
  const directory = mkdtempSync(join(tmpdir(), 'syncline-'))
  const file = join(directory, 'arguments')
  const fd = openSync(file, 'wx+', 0o600)
  try {
    rmSync(directory, { recursive: true })
    const argument = (one: string) =>
      one.split('{path}').map((part, i) => (i === 0 ? [Buffer.from(part)] : [path, Buffer.from(part)]))
    writeSync(fd, Buffer.concat(args.flatMap((one) => [...argument(one).flat(), Buffer.from([0])])))
    const stdio: ('pipe' | number)[] = ['pipe', 'pipe', 'pipe', fd]
    return spawn('xargs', ['-0', '-x', '-a', '/dev/fd/3', program], { stdio, detached: true })
  } finally {
    closeSync(fd)
  }
}

/** The beginning of what a program says, on one line. */
function collect(child: ChildProcess): () => string {
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      if (said.length < OUTPUT_MAX) said += chunk.toString('latin1').slice(0, OUTPUT_MAX)
    })
  return () => printable(said.trim())
}

async function post(url: string, body: string, signal: AbortSignal): Promise<void> {
  let response: Response
  try {
    response = await fetch(url, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
      redirect: 'error',
      signal,
    })
  } catch (error) {
    const { cause } = error as { cause?: Error }
    throw new Error(cause?.message || (error as Error).message)
  }
  await response.body?.cancel()
  if (!response.ok) throw new Error(`the answer is ${response.status}`)
}

/** Sends bytes over a connection of their own; resolves with the beginning of the answer, when the peer ends it. */
function exchange(
  to: { host: string; port: number },
  bytes: Buffer,
  signal: AbortSignal,
  answers = true,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.host, port: to.port, signal })
    let answer = ''
    socket.on('data', (chunk) => {
      if (answer.length < OUTPUT_MAX) answer += chunk.toString('latin1')
    })
    socket.once('error', reject)
    socket.once('close', () => resolve(answer))
    socket.once('connect', () => socket.end(bytes))
    // Whoever only listens may keep the connection for as long as it likes.
    if (!answers) socket.once('finish', () => resolve(''))
  })
}

/** The URL of what has changed; undefined when the expression does not match. */
export function urlOf({ base, match }: Refresh, { path, relative }: Change): string | undefined {
  if (match === undefined) return `${base}${escapeUrl(relative === '' ? '' : `/${relative}`)}`
  const matcher = RE2JS.compile(Buffer.from(match).toString('latin1'), RE2JS.DOTALL).matcher(path)
  if (!matcher.find()) return undefined
  const group = matcher.groupCount() > 0 ? (matcher.group(1) ?? '') : ''
  return `${base}${escapeUrl(`${group}${path.slice(matcher.end())}`)}`
}

/** As sersync writes it, but that no name can add a parameter or a line. */
function refreshRequest({ host, user, password }: Refresh, url: string, directory: boolean): Buffer {
  const what = directory ? `dirs=${url}/` : `urls=${url}`
  const [name, secret] = [user, password].map(encodeURIComponent)
  return Buffer.from(
    `HEAD /index.jsp?user=${name}&pswd=${secret}&ok=ok&${what} HTTP/1.0\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
  )
}

/** Each byte that has a meaning in a URL, or none, as %XX. */
const escapeUrl = (path: string) =>
  path.replace(
    /[^A-Za-z0-9/._~!$'()*,;:@-]/g,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  )
