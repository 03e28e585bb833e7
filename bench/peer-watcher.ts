// A process of its own that watches a tree by a library of npm, and says when it is ready: peer-watcher.js ROOT PEER DIRECTORY.
import { createRequire } from 'node:module'

const [root = '', peer = '', directory = ''] = process.argv.slice(2)
const found = createRequire(`${directory}/index.js`).resolve(peer)

if (peer === 'chokidar') {
  const chokidar = await import(found)
  await new Promise((resolve, reject) => {
    const watcher = chokidar.watch(root, { ignoreInitial: true })
    watcher.once('ready', resolve).once('error', reject)
  })
} else {
  const { default: watcher } = await import(found)
  await watcher.subscribe(root, () => undefined)
}
console.log('ready')
setInterval(() => undefined, 60_000)
