import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * One test's private world: a scratch directory, and everything that was started or mounted for it. What was set up
 * last is torn down first. When the test fails, the witnesses (logs of the programs involved) are printed.
 */
export class Stage {
  readonly root = mkdtempSync(join(tmpdir(), 'syncline-e2e-'))
  readonly #cleanups: (() => Promise<void> | void)[] = []
  readonly #witnesses: { name: string; tell: () => string }[] = []

  /** A path below the scratch directory; nothing is created. */
  path(...names: string[]): string {
    return join(this.root, ...names)
  }

  /** A directory below the scratch directory, made if it is missing. */
  dir(...names: string[]): string {
    const path = this.path(...names)
    mkdirSync(path, { recursive: true })
    return path
  }

  defer(cleanup: () => Promise<void> | void): void {
    this.#cleanups.push(cleanup)
  }

  witness(name: string, tell: () => string): void {
    this.#witnesses.push({ name, tell })
  }

  /** What the programs on this stage had to say, the last lines of each. */
  testimony(): string {
    const tail = (text: string) => text.trimEnd().split('\n').slice(-TAIL_LINES).join('\n')
    return this.#witnesses.map(({ name, tell }) => `--- ${name}\n${tail(tell())}`).join('\n')
  }

  async close(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).reverse()) await cleanup()
    // Not fs.rmSync(): it reads names as UTF-8 and fails on those that are not.
    if (process.env.SYNCLINE_KEEP === undefined) spawnSync('rm', ['-rf', '--', this.root])
  }
}

const TAIL_LINES = 25

/** Runs `body` on a fresh stage: `test('…', staged(async (stage) => { … }))`. */
export function staged(body: (stage: Stage) => Promise<void>): () => Promise<void> {
  return async () => {
    const stage = new Stage()
    try {
      await body(stage)
    } catch (error) {
      console.error(stage.testimony())
      throw error
    } finally {
      await stage.close()
    }
  }
}
