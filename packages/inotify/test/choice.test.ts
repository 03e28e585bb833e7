import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { image, makeLarge, overlaid, subvolumeOf } from './filesystems.js'
import { temporaryDirectory, watching } from './watching.js'

const skip = process.geteuid?.() !== 0 && 'only root may'

/** How a tree is watched by itself, and that a change in it is told. */
async function chosen(t: TestContext, root: string) {
  const { watcher, heard } = await watching(t, root, { backend: 'auto' })
  fs.writeFileSync(join(root, 'f'), '')
  await heard({ kind: 'entry', path: 'f' })
  const { choice } = watcher
  await watcher.close()
  return choice
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

test('a small tree that NFS exports: fanotify', { skip }, (t) => {
  const root = join(temporaryDirectory(t), 'with space')
  fs.mkdirSync(root)
  const index = fileURLToPath(new URL('../src/index.js', import.meta.url))
  const script = `const { TreeWatcher } = await import(${JSON.stringify(index)})
    const watcher = await TreeWatcher.open(${JSON.stringify(root)}, { onHints() {}, onError(error) { throw error } })
    console.log(JSON.stringify(watcher.choice)); await watcher.close()`
  const choice = (exported: string) => {
    const etab = `${exported.replaceAll(' ', '\\040')}\t*(rw,sync,no_subtree_check)\n`
    const inNamespace = `mount -t tmpfs none /var/lib; mkdir /var/lib/nfs; cat > /var/lib/nfs/etab; exec "$@"`
    const command = ['-m', 'sh', '-c', inNamespace, 'sh', process.execPath, '--input-type=module', '-e', script]
    return JSON.parse(execFileSync('unshare', command, { input: etab, encoding: 'utf8' }))
  }
  const why = 'it is exported by NFS, and inotify is not told of all that clients change'
  for (const exported of [root, join(root, 'below'), tmpdir(), '/'])
    assert.deepEqual(choice(exported), { backend: 'fanotify', reason: why })
  for (const exported of ['/elsewhere', `${root}2`]) assert.equal(choice(exported).backend, 'inotify')
})

test('a large tree of which most is left out: inotify', { skip }, async (t) => {
  const root = temporaryDirectory(t)
  makeLarge(join(root, 'cache'))
  const { watcher } = await watching(t, root, { backend: 'auto', exclude: (path) => path === 'cache' })
  assert.equal(watcher.choice.backend, 'inotify')
})

test('a large tree on a btrfs subvolume, or on overlayfs: inotify, and why', { skip }, async (t) => {
  const sub = subvolumeOf(image(t, 'btrfs'))
  makeLarge(sub)
  const subvolume = await chosen(t, sub)
  assert.equal(subvolume.backend, 'inotify')
  assert.match(subvolume.reason, /cannot watch \/.*\/sub by fanotify: fanotify_mark: EXDEV \(a btrfs subvolume\)/)

  const overlay = await chosen(t, overlaid(t, makeLarge))
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
