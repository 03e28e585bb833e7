import { readdirSync, readFileSync } from 'node:fs'

const POLL_MS = 50

/** The most memory that a process and all its descendants have held, each at its own peak. */
export class PeakMemory {
  readonly #peaks = new Map<number, number>()
  readonly #timer: NodeJS.Timeout

  constructor(readonly pid: number) {
    this.#look()
    this.#timer = setInterval(() => this.#look(), POLL_MS)
  }

  /** Ends the watch; megabytes. What processes share is counted for each of them. */
  stop(): number {
    this.#look()
    clearInterval(this.#timer)
    return [...this.#peaks.values()].reduce((sum, peak) => sum + peak, 0) / 1e6
  }

  #look(): void {
    for (const pid of family(this.pid)) {
      const peak = peakBytes(pid)
      if (peak > 0) this.#peaks.set(pid, peak)
    }
  }
}

function family(pid: number): number[] {
  const found = [pid]
  for (const parent of found) found.push(...children(parent))
  return found
}

/** None where the process has gone meanwhile. */
function children(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    )
  } catch {
    return []
  }
}

function peakBytes(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}
