import { FileError, isDirectory, type RawPath } from '@syncline/rsync'
import type { Logger } from 'pino'
import { type Action, ActionQueue } from './actions.js'
import type { SourceView } from './delivery.js'

/** Of a larger directory whoever is told has to find the rest. */
const TOLD_MAX = 5_000

/** Tells the actions of a source what has changed. */
export class Teller {
  readonly #queues: ActionQueue[]

  constructor(
    readonly source: RawPath,
    actions: readonly Action[],
    readonly view: Pick<SourceView, 'source' | 'filter' | 'links'>,
    log: Logger,
  ) {
    this.#queues = actions.map((action) => new ActionQueue(action, source, log))
  }

  /** Whether there is nobody to tell. */
  get idle(): boolean {
    return this.#queues.length === 0
  }

  async close(): Promise<void> {
    await Promise.all(this.#queues.map((queue) => queue.close()))
  }

  /** A directory that appeared, and what is in it: not each of its names had an event of its own. */
  tellTree(top: RawPath): void {
    this.tell(top)
    const open = [top]
    const keep = (path: RawPath, directory: boolean) => !this.view.filter.excludes(path, directory)
    let told = 0
    try {
      this.view.source.enter()
    } catch {
      return // whoever sees to a root that is gone has been told
    }
    try {
      for (let dir = open.pop(); dir !== undefined && told < TOLD_MAX; dir = open.pop()) {
        for (const { path, mode } of this.view.source.list(dir, keep, () => undefined) ?? []) {
          if (isDirectory(mode)) open.push(path)
          if (told++ < TOLD_MAX) this.tell(path)
        }
      }
    } catch (error) {
      if (!(error instanceof FileError)) throw error
    } finally {
      this.view.source.leave()
    }
  }

  /** One change. */
  tell(relative: RawPath): void {
    const found = this.view.links.look(relative)
    const directory = found !== null && isDirectory(found.mode)
    const path = (this.source === '/' ? `/${relative}` : `${this.source}/${relative}`) as RawPath
    for (const queue of this.#queues)
      queue.add({ path, relative, kind: found === null ? 'deleted' : 'changed', directory })
  }
}
