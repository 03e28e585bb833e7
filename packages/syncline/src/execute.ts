import { ConnectError, ProtocolError, printable, RERR, RemoteError, TimeoutError } from '@syncline/rsync'
import { type Command, CommanderError } from 'commander'
import { ConfigError } from './errors.js'

const LINE_MAX = 2_000

/**
 * Runs the program that `make` describes; its actions hand over what they began. Ends the process with the exit code,
 * and says in one line what went wrong.
 */
export async function execute(name: string, make: (run: (code: Promise<number>) => void) => Command): Promise<never> {
  // Whoever read what we print may go; that is no reason to stop mirroring.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
  process.exitCode = await codeOf(name, make)
  // A connection that lingers, or a read of the kernel's queue, must not keep a finished program alive.
  process.exit()
}

async function codeOf(name: string, make: (run: (code: Promise<number>) => void) => Command): Promise<number> {
  try {
    let result: Promise<number> | undefined
    const command = make((code) => {
      result = code
    })
    for (const one of [command, ...command.commands])
      one.exitOverride().configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    command.parse()
    return (await result) ?? 0
  } catch (error) {
    const [line, code] = explain(error)
    const text = printable(Buffer.from(line.trimEnd()).toString('latin1'))
    if (code !== 0) console.error(`${name}: ${text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}…` : text}`)
    return code
  }
}

/** One line that says what is wrong and what to do, and the code for it. */
function explain(error: unknown): [line: string, code: number] {
  if (error instanceof CommanderError)
    return [error.message.replace(/^error: /, ''), error.exitCode === 0 ? 0 : RERR.SYNTAX]
  if (error instanceof ConfigError) return [error.message, error.exitCode]
  if (error instanceof RemoteError) return [`${error.message}${mend(error)}`, error.exitCode]
  if (error instanceof TimeoutError) return [error.message, RERR.TIMEOUT]
  if (error instanceof ConnectError) return [error.message, RERR.SOCKETIO]
  if (error instanceof ProtocolError) return [error.message, RERR.PROTOCOL]
  throw error // ours to mend: a stack trace helps whoever does
}

function mend(error: RemoteError): string {
  switch (error.reason) {
    case 'auth':
      return error.message.includes('--password-file')
        ? ''
        : " (check user and password; the daemon's log says which is wrong)"
    case 'unknown-module':
      return " (check its name in DEST; the daemon's rsyncd.conf lists its modules in brackets)"
    case 'read-only':
      return ' (set "read only = false" for it in the daemon\'s rsyncd.conf)'
    case 'denied':
      return ' (check "hosts allow" and "hosts deny" in the daemon\'s rsyncd.conf)'
    case 'refused':
    case 'max-connections':
    case 'failed':
      return ''
  }
}
