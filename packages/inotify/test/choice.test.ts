import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryDirectory, watching } from './watching.js'

const skip = process.geteuid?.() !== 0 && 'only root may'

/** More directories than inotify is taken for. */
function makeLarge(root: string): void {
  for (let i = 0; i < 42; i++)
    for (let k = 0; k < 100; k++) fs.mkdirSync(join(root, `${i}`, `${k}`), { recursive: true })
}

/** How a tree is watched by itself, and that a change in it is told. */
async function chosen(t: TestContext, root: string) {
  const { watcher, heard } = await watching(t, root, { backend: 'auto' })
  fs.writeFileSync(join(root, 'f'), '')
  await heard({ kind: 'entry', path: 'f' })
  const { choice } = watcher
  await watcher.close()
  return choice
}

/** A filesystem in a file, mounted. */
function image(t: TestContext, type: 'ext4' | 'xfs' | 'btrfs'): string {
  const place = temporaryDirectory(t)
  const file = join(place, 'image')
  fs.closeSync(fs.openSync(file, 'w'))
  fs.truncateSync(file, 400 << 20)
  execFileSync(`mkfs.${type}`, type === 'ext4' ? ['-q', '-F', file] : ['-q', file])
  const root = join(place, 'root')
  fs.mkdirSync(root)
  execFileSync('mount', ['-o', 'loop', file, root])
  return root
}

test('a small tree: inotify', { skip }, async (t) => {
  const choice = await chosen(t, temporaryDirectory(t))
  assert.deepEqual(choice, { backend: 'inotify', reason: 'there are at most 4096 directories' })
})

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  test(`a large tree on ${type}: fanotify`, { skip }, async (t) => {
    const root = image(t, type)
    makeLarge(root)
    assert.equal((await chosen(t, root)).backend, 'fanotify')
  })
}

test('a large tree of which most is left out: inotify', { skip }, async (t) => {
  const root = temporaryDirectory(t)
  makeLarge(join(root, 'cache'))
  const { watcher } = await watching(t, root, { backend: 'auto', exclude: (path) => path === 'cache' })
  assert.equal(watcher.choice.backend, 'inotify')
})

test('a large tree on a btrfs subvolume, or on overlayfs: inotify, and why', { skip }, async (t) => {
  const place = image(t, 'btrfs')
  execFileSync('btrfs', ['-q', 'subvolume', 'create', join(place, 'sub')])
  makeLarge(join(place, 'sub'))
  const subvolume = await chosen(t, join(place, 'sub'))
  assert.equal(subvolume.backend, 'inotify')
  assert.match(subvolume.reason, /fanotify_mark .* EXDEV \(a btrfs subvolume\)/)

  const stage = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', stage])
  for (const name of ['lower', 'upper', 'work', 'root']) fs.mkdirSync(join(stage, name))
  makeLarge(join(stage, 'lower'))
  const layers = ['lower', 'upper', 'work'].map((name) => `${name}dir=${join(stage, name)}`).join(',')
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', layers, join(stage, 'root')])
  const overlay = await chosen(t, join(stage, 'root'))
  assert.equal(overlay.backend, 'inotify')
  assert.match(overlay.reason, /cannot watch .* by fanotify/)
})

test('a large tree without privileges: inotify, and what it would take', { skip }, (t) => {
  const root = temporaryDirectory(t)
  makeLarge(root)
  fs.chmodSync(root, 0o755)
  const index = fileURLToPath(new URL('../src/index.js', import.meta.url))
  const script = `const { TreeWatcher } = await import(${JSON.stringify(index)})
    const watcher = await TreeWatcher.open(${JSON.stringify(root)}, { onHints() {}, onError(error) { throw error } })
    console.log(JSON.stringify(watcher.choice)); await watcher.close()`
  const unprivileged = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '--input-type=module']
  const said = execFileSync('setpriv', [...unprivileged, '-e', script], { encoding: 'utf8' })
  const choice = JSON.parse(said)
  assert.equal(choice.backend, 'inotify')
  assert.match(choice.reason, /EPERM; it takes CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH/)
})
