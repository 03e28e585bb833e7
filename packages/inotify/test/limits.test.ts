import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { eventually, temporaryDirectory, watching } from './watching.js'

test('an overflow is one look everywhere, and everything is watched afterwards', async (t) => {
  const root = temporaryDirectory(t)
  const outside = temporaryDirectory(t)
  for (const name of ['a', 'b', 'gone', 'moved', 'away/x']) fs.mkdirSync(join(root, name), { recursive: true })
  const drainedAtMs: number[] = []
  const { watcher, hints, heard, settled } = await watching(t, root)
  const deliver = hints.push.bind(hints)
  hints.push = (...some) => {
    if (some.some((hint) => hint.kind === 'tree' && hint.overflow)) drainedAtMs.push(watcher.drainedAtMs)
    return deliver(...some)
  }
  await settled()
  const beganAtMs = Date.now()
  const limit = Number(fs.readFileSync('/proc/sys/fs/inotify/max_queued_events', 'latin1'))
  // The main thread is busy here, so nobody reads the queue. Two directories in turn: equal neighbours would be merged.
  for (let i = 0; i <= limit / 2 + 10; i++) {
    fs.utimesSync(join(root, 'a'), i, i)
    fs.utimesSync(join(root, 'b'), i, i)
  }
  fs.mkdirSync(join(root, 'new', 'deep'), { recursive: true })
  fs.rmdirSync(join(root, 'gone'))
  fs.renameSync(join(root, 'moved'), join(root, 'a', 'moved'))
  fs.renameSync(join(root, 'away'), join(outside, 'away'))
  await heard({ kind: 'tree', path: '', overflow: true })
  await settled()
  assert.equal(watcher.stats.overflows, 1)
  assert.ok(drainedAtMs.length === 1 && drainedAtMs[0]! <= beganAtMs, 'when it is told, it is known since when')
  assert.ok(watcher.drainedAtMs > beganAtMs)
  assert.equal(hints.filter((hint) => hint.kind === 'tree' && hint.path === '').length, 1)
  await eventually('the watches agree with the disk', () => watcher.stats.watches === 6)
  for (const path of ['new/deep/f', 'a/moved/f']) {
    fs.writeFileSync(join(root, path), '')
    await heard({ kind: 'entry', path })
  }
})

test('more new directories than can wait are one look everywhere', async (t) => {
  const root = temporaryDirectory(t)
  const { watcher, hints, errors, settled } = await watching(t, root)
  // The main thread is busy until all are there, and then reads faster than it can look.
  const made = spawnSync('sh', ['-c', 'cd "$1" && seq 150000 | xargs mkdir', 'sh', root])
  assert.equal(made.status, 0, String(made.stderr))
  await settled()
  assert.deepEqual(errors, [])
  assert.equal(watcher.stats.watches, 150_001)
  assert.ok(hints.some((hint) => hint.kind === 'tree' && hint.path === '' && hint.overflow))
})

test('a refused watch limit leaves no directory unnoticed: counted, told with its mend', (t) => {
  const root = temporaryDirectory(t)
  for (let i = 0; i < 50; i++) fs.mkdirSync(join(root, `${i}`))
  fs.chmodSync(root, 0o777)
  // In its own user namespace, so that nobody else's watches are touched; and so that it cannot raise its limit, that is only to be
  // written at another place.
  const limits = temporaryDirectory(t)
  const script = join(limits, 'limited.mjs')
  fs.mkdirSync(join(limits, 'user'))
  fs.writeFileSync(
    script,
    `import fs from 'node:fs'
    import { TreeWatcher } from ${JSON.stringify(pathToFileURL(join(import.meta.dirname, '../src/index.js')).href)}
    const [, , root, limit] = process.argv
    fs.writeFileSync(limit, '20')
    const notices = []
    const watcher = await TreeWatcher.open(root, {
      onHints: () => {}, onError: (error) => { throw error }, onNotice: (line) => notices.push(line) })
    const before = { ...watcher.stats }
    fs.writeFileSync(limit, '1000')
    for (let i = 0; i < 50; i++) fs.chmodSync(root + '/' + i, 0o755)
    while (watcher.stats.blind > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    const after = { ...watcher.stats }
    await watcher.close()
    fs.writeFileSync(limit, '0')
    const refused = await TreeWatcher.open(root, { onHints() {}, onError() {} }).catch((error) => error)
    console.log(JSON.stringify({ notices, before, after, code: refused.code, message: refused.message }))`,
  )
  const place = join(limits, 'user')
  const mount = `mount --bind /proc/sys/user ${place} && mount --bind -o ro /proc/sys/user /proc/sys/user && exec "$@"`
  const args = [process.execPath, script, root, join(place, 'max_inotify_watches')]
  const run = spawnSync('unshare', ['-Urm', 'sh', '-c', mount, 'sh', ...args], { encoding: 'utf8', timeout: 20_000 })
  if (run.status !== 0 && /unshare/.test(run.stderr)) return t.skip(`no user namespaces here: ${run.stderr}`)
  assert.equal(run.status, 0, run.stderr)
  const { notices, before, after, code, message } = JSON.parse(run.stdout)
  assert.deepEqual([before.watches, before.blind], [20, 31])
  assert.deepEqual([after.watches, after.blind], [51, 0])
  assert.equal(notices.length, 2, notices.join('\n'))
  assert.match(notices[0], /\(user\.max_inotify_watches is 20\).* sysctl -w user\.max_inotify_watches=1048576/)
  assert.match(notices[1], /every directory is watched now/)
  assert.equal(code, 'WATCH_LIMIT')
  assert.match(message, /sysctl -w/)
})

test('many watchers do not starve the thread pool', async (t) => {
  const all = await Promise.all(Array.from({ length: 12 }, () => watching(t)))
  for (const { root, heard } of all) {
    await fs.promises.writeFile(join(root, 'f'), '')
    await heard({ kind: 'entry', path: 'f' })
  }
})
