// A process of its own that watches a tree, and says by IPC what it was told and what that took: event-watcher.js ROOT BACKEND.
const [root = '', backend = ''] = process.argv.slice(2)
const index = new URL('../../packages/inotify/dist/src/index.js', import.meta.url).href
const { TreeWatcher }: typeof import('@syncline/inotify') = await import(index)

/** When everything that had happened before the question was handed over. */
export interface Account {
  events: number
  overflows: number
  /** Microseconds, user and system, since the start. */
  cpu: number
  /** When each name was told of first: CLOCK_MONOTONIC, ns. */
  names: [name: string, at: string][]
}

const NAMES_MAX = 50_000
const names = new Map<string, bigint>()
const watcher = await TreeWatcher.open(root, {
  backend: backend as 'inotify',
  onHints: (hints) => {
    const now = process.hrtime.bigint()
    for (const hint of hints) {
      if (!('path' in hint)) continue
      const name = hint.path.slice(hint.path.lastIndexOf('/') + 1)
      if (names.size < NAMES_MAX && !names.has(name)) names.set(name, now)
    }
  },
  onError: (error) => {
    throw error
  },
})
process.on('message', () => {
  const asked = Date.now()
  const look = () => {
    if (watcher.drainedAtMs <= asked) return void setTimeout(look, 1)
    const { user, system } = process.cpuUsage()
    const { events, overflows } = watcher.stats
    const told = [...names].map(([name, at]): [string, string] => [name, String(at)])
    process.send?.({ events, overflows, cpu: user + system, names: told } satisfies Account)
  }
  look()
})
process.send?.('ready')
