import { renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Logger } from 'pino'
import type { MirrorStatus } from './mirror.js'

const LOOK_MS = 1_000

/**
 * A file, mode 0600, that lists what has failed and is still owed: for people and their monitoring, in the place where
 * sersync kept commands to run. It is there only while something is owed, and replaced as a whole.
 */
export class FailureFile {
  readonly #timer: NodeJS.Timeout
  /** Undefined until the first look: what an earlier run has left may be there. */
  #written: string | undefined
  #complained = false

  constructor(
    readonly path: string,
    readonly status: () => MirrorStatus,
    readonly log: Logger,
  ) {
    this.#look()
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }

  /** What is still owed stays written down. */
  close(): void {
    clearInterval(this.#timer)
    this.#look()
  }

  #look(): void {
    const text = describe(this.status())
    if (text === this.#written) return
    try {
      if (text === '') rmSync(this.path, { force: true })
      else {
        // Beside it and then renamed: whatever is at the path, a symlink too, is replaced and not written through.
        const beside = `${this.path}.${process.pid}`
        rmSync(beside, { force: true })
        writeFileSync(beside, text, { mode: 0o600, flag: 'wx' })
        renameSync(beside, this.path)
      }
      this.#written = text
      this.#complained = false
    } catch (error) {
      if (!this.#complained) this.log.warn(`the list of failures cannot be written: ${(error as Error).message}`)
      this.#complained = true
    }
  }
}

/** One line for each path: target, path and reason, as JSON strings, so that no name can look like something else. */
function describe({ targets }: MirrorStatus): string {
  return targets
    .flatMap(({ name, failures }) =>
      failures.map(({ path, reason, attempts }) => `${JSON.stringify([name, path, reason, `${attempts} attempts`])}\n`),
    )
    .join('')
}
