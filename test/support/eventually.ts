import { setTimeout as sleep } from 'node:timers/promises'

/** Generous: it only decides how long a failing test takes. */
export const PATIENCE_MS = Number(process.env.E2E_PATIENCE_MS ?? 30_000)

/**
 * Polls until `look` gives something other than undefined. Between two looks it rests at least twice as long as the
 * look took, so that watching does not starve what is watched. `problem` says what was still wrong at the end.
 */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | Promise<T | undefined>,
  { patienceMs = PATIENCE_MS, problem }: { patienceMs?: number; problem?: () => string } = {},
): Promise<T> {
  const deadline = Date.now() + patienceMs
  for (;;) {
    const began = performance.now()
    const seen = await look()
    if (seen !== undefined) return seen
    if (Date.now() > deadline) {
      throw new Error(`after ${patienceMs / 1000} s still not: ${what}${problem ? `\n${problem()}` : ''}`)
    }
    await sleep(Math.max(20, 2 * (performance.now() - began)))
  }
}

/** Polls until `holds` is true. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  options: { patienceMs?: number; problem?: () => string } = {},
): Promise<void> {
  await eventually(what, async () => ((await holds()) ? true : undefined), options)
}

export { sleep }
