import { readFileSync, writeSync } from 'node:fs'
import type { Output } from './client-log.js'
import { RERR } from './wire/constants.js'

/** Text is latin1, one char a byte. Pipes may be slow and may be closed: a reader who has gone ends us as SIGPIPE would. */
const output: Output = {
  out: (text) => write(1, text),
  err: (text) => write(2, text),
}

function write(fd: number, text: string): void {
  const bytes = Buffer.from(text, 'latin1')
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EAGAIN') continue
      if (fd === 1) process.exit(RERR.STREAMIO)
      return
    }
  }
}

/** `syncline rsync ARGS...`: sets the process's exit code. Arguments are taken as bytes of UTF-8. */
export async function rsyncCommand(args: readonly string[]): Promise<void> {
  const raw = rawArguments(args)
  if (raw.includes('--server')) return serverCommand(raw)
  if (raw.includes('--daemon')) {
    const { daemonCommand } = await import('./daemon/daemon.js')
    process.exitCode = await daemonCommand(raw, output)
    return
  }
  const { runClient } = await import('./client.js')
  const abort = new AbortController()
  let signals = 0
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      if (++signals > 1) process.exit(RERR.SIGNAL)
      abort.abort()
    })
  await exitWith(runClient(raw, output, abort.signal))
}

async function exitWith(ending: Promise<number>): Promise<void> {
  process.once('exit', (code) => {
    // Node ends with 0 when nothing is left that could happen: what is not done must not look as if it were.
    if (code !== 0 || process.exitCode !== undefined) return
    output.err('rsync error: it waits for something that cannot happen any more\n')
    process.exitCode = RERR.STREAMIO
  })
  process.exit(await ending)
}

/** Node has decoded them as UTF-8; what was none cannot be had back but from the kernel. */
function rawArguments(args: readonly string[]): string[] {
  if (!args.some((arg) => arg.includes('\ufffd'))) return args.map((arg) => Buffer.from(arg).toString('latin1'))
  return commandLine().slice(-args.length)
}

function commandLine(): string[] {
  return readFileSync('/proc/self/cmdline', 'latin1').split('\0').slice(0, -1)
}

/** `rsync --server ...`: the other end of a remote shell, on standard input and output. */
async function serverCommand(args: readonly string[]): Promise<void> {
  const { serveShell } = await import('./shell-server.js')
  await exitWith(serveShell(args))
}
