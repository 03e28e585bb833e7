// Where the kernel's queue is short and may not be made longer.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { temporaryDirectory } from './watching.js'

const LIMIT = '/proc/sys/fs/inotify/max_queued_events'
const skip = process.geteuid?.() !== 0 && 'only root may'

/** Runs Node with a queue of this length, in a mount namespace in which nobody can change it. */
function withQueueOf(t: TestContext, length: number, args: string[], env: NodeJS.ProcessEnv = {}) {
  const before = readFileSync(LIMIT)
  t.after(() => writeFileSync(LIMIT, before))
  writeFileSync(LIMIT, String(length))
  const script = 'mount --bind -o ro /proc/sys/fs/inotify /proc/sys/fs/inotify && exec "$@"'
  const { NODE_TEST_CONTEXT: _, ...ours } = process.env
  return spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', process.execPath, ...args], {
    encoding: 'utf8',
    env: { ...ours, ...env },
    maxBuffer: 2 ** 26,
    timeout: 60_000,
  })
}

for (const name of ['hints', 'root', 'torture']) {
  test(`a queue that a thread empties: ${name}`, { skip }, (t) => {
    const file = join(import.meta.dirname, `${name}.test.js`)
    const run = withQueueOf(t, 16_384, [file], { TORTURE_STALL_MS: '50' })
    assert.equal(run.status, 0, run.stdout + run.stderr)
  })
}

test('nothing is lost while the main thread is busy, though the queue is short', { skip }, (t) => {
  const root = temporaryDirectory(t)
  for (const name of ['a', 'b']) mkdirSync(join(root, name))
  const script = join(root, 'busy.mjs')
  writeFileSync(
    script,
    `import { spawn } from 'node:child_process'
    import { TreeWatcher } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../src/index.js')).href)}
    const seen = new Set()
    const watcher = await TreeWatcher.open(process.argv[2], {
      backend: 'inotify', onError: (error) => { throw error },
      onHints: (hints) => { for (const { path } of hints) seen.add(path) } })
    // A thread that gets no processor for a moment is not too late; what comes in a busy second is far too much still.
    const rest = '[ $((i % 500)) -ne 0 ] || sleep 0.05'
    const names = 'for i in $(seq 20000); do : > "$1/a/$i"; : > "$1/b/$i"; ' + rest + '; done'
    const child = spawn('sh', ['-c', names, 'sh', process.argv[2]])
    const busy = setInterval(() => { for (const end = performance.now() + 1000; performance.now() < end; ); }, 1)
    await new Promise((resolve) => child.once('exit', resolve))
    clearInterval(busy)
    const now = Date.now()
    while (watcher.drainedAtMs <= now) await new Promise((resolve) => setTimeout(resolve, 5))
    console.log(JSON.stringify({ seen: seen.size, ...watcher.stats }))
    await watcher.close()`,
  )
  const run = withQueueOf(t, 8192, [script, root])
  assert.equal(run.status, 0, run.stderr)
  const { seen, overflows } = JSON.parse(run.stdout)
  assert.deepEqual({ seen, overflows }, { seen: 40_000, overflows: 0 })
})

test('a process that exits without closing is not held up', { skip }, (t) => {
  const root = temporaryDirectory(t)
  const script = join(root, 'exit.mjs')
  writeFileSync(
    script,
    `import { TreeWatcher } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../src/index.js')).href)}
    await TreeWatcher.open(process.argv[2], { backend: 'inotify', onHints() {}, onError() {} })
    await new Promise((resolve) => setTimeout(resolve, 300)) // by then the thread waits in the kernel
    process.exit(7)`,
  )
  assert.equal(withQueueOf(t, 2000, [script, root]).status, 7)
})

test('where there are no threads to be had, the main thread reads', { skip }, (t) => {
  const root = temporaryDirectory(t)
  const script = join(root, 'alone.mjs')
  writeFileSync(
    script,
    `import { writeFileSync } from 'node:fs'
    import { TreeWatcher } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../src/index.js')).href)}
    const notices = []
    let found
    const watcher = await TreeWatcher.open(process.argv[2], {
      backend: 'inotify', onError: (error) => { throw error }, onNotice: (line) => notices.push(line),
      onHints: (hints) => { found ||= hints.some(({ path }) => path === 'name') } })
    writeFileSync(process.argv[2] + '/name', '')
    while (!found) await new Promise((resolve) => setTimeout(resolve, 5))
    await watcher.close()
    console.log(JSON.stringify(notices))`,
  )
  const permission = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission'
  const allowed = [permission, '--allow-addons', '--allow-fs-read=*', '--allow-fs-write=*']
  const run = withQueueOf(t, 2000, [...allowed, script, root])
  assert.equal(run.status, 0, run.stderr)
  assert.match(JSON.parse(run.stdout).join('\n'), /no thread can empty the inotify queue .* sysctl -w/)
})
