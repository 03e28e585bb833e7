// A process of its own that watches a tree, and says when all of it is watched: watcher.js ROOT BACKEND.
const [root = '', backend = 'auto'] = process.argv.slice(2)
const index = new URL('../../packages/inotify/dist/src/index.js', import.meta.url).href
const { TreeWatcher }: typeof import('@syncline/inotify') = await import(index)

await TreeWatcher.open(root, {
  backend: backend as 'auto',
  onHints: () => undefined,
  onError: (error) => {
    throw error
  },
})
console.log('ready')
setInterval(() => undefined, 60_000)
