import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Wanted } from './poller.js'
import type { Stage } from './support.js'

/** Another process that waits until a path is complete at the destination. */
export class Poller {
  readonly #child: ChildProcess = fork(fileURLToPath(new URL('poller.js', import.meta.url)))

  constructor(stage: Stage) {
    // It may be waiting for something that never comes.
    stage.defer(() => void this.#child.kill('SIGKILL'))
  }

  /** Starts to wait; resolves with the time at which `destination` had the mtime of `source`, and all its entries. */
  async arrival(source: string, destination: string, entries?: number): Promise<bigint> {
    const { mtimeNs } = lstatSync(source, { bigint: true })
    const wanted: Wanted = {
      path: destination,
      mtimeNs: String(mtimeNs),
      ...(entries === undefined ? {} : { entries }),
    }
    this.#child.send(wanted)
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS)
    const said = await Promise.race([once(this.#child, 'message'), once(this.#child, 'exit')])
    clearTimeout(timer)
    if (typeof said[0] !== 'string' || said[0] === 'SIGKILL') throw new Error(`${destination} is not complete`)
    return BigInt(said[0])
  }
}

const PATIENCE_MS = 60_000

/** The wall time of `rsync -a` with these arguments, in milliseconds, from its start to its end. */
export async function rsyncMs(...parameters: string[]): Promise<number> {
  const began = process.hrtime.bigint()
  const [code] = await once(spawn('rsync', ['-a', ...parameters], { stdio: 'inherit' }), 'exit')
  if (code !== 0) throw new Error(`rsync -a ${parameters.join(' ')}: exit ${code}`)
  return elapsedMs(began)
}

export const elapsedMs = (sinceNs: bigint, untilNs = process.hrtime.bigint()) => Number(untilNs - sinceNs) / 1e6
