import { spawn } from 'node:child_process'

const MARKER = 'SYNCLINE_DETACHED'

export const isDetached = () => process.env[MARKER] === '1' && process.send !== undefined

/**
 * Starts this program again in the background and waits until it has got past everything that could make it refuse
 * to start. Resolves with the exit code for the foreground: 0 when the child runs on.
 */
export function detach(argv: readonly string[]): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...argv], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, [MARKER]: '1' },
  })
  return new Promise((resolve) => {
    child.once('message', () => {
      child.disconnect()
      child.unref()
      resolve(0)
    })
    child.once('exit', (code) => resolve(code ?? 1))
    child.once('error', (error) => {
      console.error(`syncline: cannot start in the background: ${error.message}`)
      resolve(1)
    })
  })
}

/** Told by the child once it runs: the foreground may go, and takes the terminal with it. */
export function reportStarted(): void {
  process.send?.('started')
  process.disconnect?.()
}
