import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { ConnectError, RemoteError, TransferError } from './errors.js'
import { close, socketPair } from './kernel.js'
import { printable } from './raw-path.js'
import { RERR } from './wire/constants.js'

/** How long the connection is kept when no session uses it, seconds: also after a crash of ours. */
const PERSIST_SEC = 120
const ALIVE_SEC = 15
const COMPLAINT_MAX = 2_000
const DIRECTORY_MAX = 25

/** A machine that is reached by way of a remote shell. */
export interface ShellOptions {
  host: string
  port?: number | undefined
  user?: string | undefined
  /** The program and its first arguments; `ssh` by itself. */
  command: readonly string[]
}

/**
 * main.c do_cmd(): words between spaces; quotes of either kind keep them, and stand for themselves when doubled. Throws
 * TransferError.
 */
export function shellWords(command: string): string[] {
  const quoted = /^(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|[^ "'])+/
  const words: string[] = []
  for (let rest = command.trim(); rest !== ''; rest = rest.trimStart()) {
    const word = quoted.exec(rest)?.[0]
    if (word === undefined) throw new TransferError(`Missing trailing-${rest[0]} in remote-shell command.`, RERR.SYNTAX)
    words.push(
      word.replace(/"((?:[^"]|"")*)"|'((?:[^']|'')*)'/g, (_, double?: string, single?: string) =>
        double !== undefined ? double.replaceAll('""', '"') : (single ?? '').replaceAll("''", "'"),
      ),
    )
    rest = rest.slice(word.length)
  }
  return words
}

const connected = new Set<string>()
const waiting = new Map<string, Promise<unknown>>()

/**
 * Runs `open` when a connection that it can share is there, or else alone: several at once would each log in for
 * themselves.
 */
export async function sharingConnection<T>(
  { host, port, user, command }: ShellOptions,
  open: () => Promise<T>,
): Promise<T> {
  const key = [...command, host, port, user].join('\0')
  const run = async () => {
    try {
      const opened = await open()
      connected.add(key)
      return opened
    } catch (error) {
      connected.delete(key)
      throw error
    }
  }
  if (connected.has(key)) return run()
  const turn = (waiting.get(key) ?? Promise.resolve()).then(run, run)
  waiting.set(key, turn)
  return turn
}

/** The masters that were opened, so that they end when we do. */
const masters = new Map<string, string[]>()
let controlDirectory: string | undefined

/**
 * Runs `rsync --server` with these arguments at the other end of a remote shell. With ssh there is one connection to a
 * machine, which all sessions share: only the first of them logs in. `complaint` tells what was said on standard error,
 * as an error: RemoteError when nothing but the operator can mend it.
 */
export function openShell(shell: ShellOptions, args: readonly string[]): { socket: Socket; complaint: () => Error } {
  const [program, ...given] = shell.command
  const [ours, theirs] = socketPair()
  const target = [...(shell.port === undefined ? [] : ['-p', `${shell.port}`]), ...userOf(shell), '--', shell.host]
  const options = basename(program) === 'ssh' ? sharedConnection(program, given, target) : []
  // The far side's shell reads one line: every argument in quotes.
  const line = ['rsync', ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(' ')
  const child = spawn(program, [...given, ...options, ...target, line], { stdio: [theirs, theirs, 'pipe'] })
  close(theirs)
  const socket = new Socket({ fd: ours, readable: true, writable: true })
  let said = ''
  let status: number | string | null = null
  child.stderr?.on('data', (chunk: Buffer) => {
    if (said.length < COMPLAINT_MAX) said += chunk.toString('latin1')
  })
  child.once('error', (error) => {
    said = error.message
    socket.destroy()
  })
  child.once('exit', (code, signal) => {
    status = code ?? signal
  })
  socket.once('close', () => child.kill('SIGKILL')) // what it was for is over, and it may hang
  const complaint = () => {
    const text = printable(said.trim().split('\n').slice(-3).join('; ')) || `it ended with ${status ?? 'nothing said'}`
    const message = `${basename(program)} ${shell.host}: ${text}`
    // What a login that is refused, or an rsync that is missing, says is the same tomorrow.
    const permanent = /Permission denied|Host key verification failed|not found|No such file/.test(said)
    return permanent ? new RemoteError('refused', message, RERR.STARTCLIENT) : new ConnectError(message)
  }
  return { socket, complaint }
}

const userOf = ({ user }: ShellOptions) => (user === undefined ? [] : ['-l', user])

function sharedConnection(program: string, given: readonly string[], target: readonly string[]): string[] {
  if (controlDirectory === undefined) {
    // A socket's path holds 107 bytes, and ssh adds to it while it makes one.
    const parent = tmpdir().length <= DIRECTORY_MAX ? tmpdir() : '/tmp'
    controlDirectory = mkdtempSync(join(parent, 'syncline-ssh-'))
    process.once('exit', endMasters)
  }
  const path = ['-o', `ControlPath=${controlDirectory}/%C`]
  masters.set([...given, ...target].join('\0'), [program, ...given, ...path, '-O', 'exit', ...target])
  const settings = [
    'ControlMaster=auto',
    `ControlPersist=${PERSIST_SEC}`,
    'BatchMode=yes',
    `ServerAliveInterval=${ALIVE_SEC}`,
  ]
  return [...path, ...settings.flatMap((one) => ['-o', one])]
}

function endMasters(): void {
  for (const [program, ...args] of masters.values())
    spawnSync(program, args, { stdio: 'ignore', timeout: 2_000, killSignal: 'SIGKILL' })
  if (controlDirectory !== undefined) rmSync(controlDirectory, { recursive: true, force: true })
}
