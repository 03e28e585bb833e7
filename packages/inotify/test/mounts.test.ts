// Whatever the root is on: what suits it is chosen, and nothing is missed.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { bound, image, makeLarge, overlaid, subvolumeOf, tmpfs } from './filesystems.js'
import { torture } from './torture.js'
import { eventually, temporaryDirectory, watching } from './watching.js'

const skip = process.geteuid?.() !== 0 && 'only root may'
const SECONDS = 2

const PLACES: Record<string, [place: (t: TestContext) => string, backend: 'fanotify' | 'inotify']> = {
  tmpfs: [tmpfs, 'fanotify'],
  ext4: [(t) => image(t, 'ext4'), 'fanotify'],
  xfs: [(t) => image(t, 'xfs'), 'fanotify'],
  btrfs: [(t) => image(t, 'btrfs'), 'fanotify'],
  'a bind mount': [bound, 'fanotify'],
  'a btrfs subvolume': [(t) => subvolumeOf(image(t, 'btrfs')), 'inotify'],
  overlayfs: [(t) => overlaid(t), 'inotify'],
}

for (const [name, [place, backend]] of Object.entries(PLACES)) {
  test(`torture of a large tree on ${name}: by ${backend}, nothing is missed`, { skip }, async (t) => {
    const outside = place(t)
    mkdirSync(join(outside, 'root'))
    makeLarge(join(outside, 'root'))
    const watcher = await torture(t, outside, { backend: 'auto', seconds: SECONDS })
    assert.equal(watcher.choice.backend, backend)
  })
}

for (const backend of ['fanotify', 'inotify'] as const) {
  test(`torture while a filesystem comes and goes below the root: by ${backend}, nothing is missed`, {
    skip,
  }, async (t) => {
    const beside = async (root: string) => {
      const point = join(root, 'mounted')
      mkdirSync(point)
      for (let i = 0; i < 8; i++) {
        execFileSync('mount', ['-t', 'tmpfs', 'none', point])
        writeNamed(join(point, 'above'))
        await sleep(50)
        writeNamed(join(point, 'above', 'later'))
        if (i === 7) return
        execFileSync('umount', [point])
        writeNamed(join(point, `below-${i}`))
        await sleep(50)
      }
    }
    await torture(t, temporaryDirectory(t), { backend, seconds: SECONDS, beside })
  })
}

test('on FUSE: by polling, also what others change behind it; when its server dies the root is gone, and nothing in it', {
  skip,
}, async (t) => {
  const [behind, root] = [temporaryDirectory(t), temporaryDirectory(t)]
  mkdirSync(join(behind, 'a/b'), { recursive: true })
  const serve = async () => {
    const server = spawn('bindfs', ['-f', behind, root], { stdio: 'ignore' })
    await eventually('it is mounted', () => existsSync(join(root, 'a')))
    return server
  }
  const server = await serve()
  const { watcher, hints, heard } = await watching(t, root, { backend: 'auto' })
  assert.equal(watcher.choice.backend, 'poll')
  assert.match(watcher.choice.reason, /on FUSE/)
  writeFileSync(join(behind, 'a/b/by-others'), 'x')
  writeFileSync(join(root, 'a/by-us'), 'x')
  await heard({ kind: 'entry', path: 'a/b/by-others' })
  await heard({ kind: 'entry', path: 'a/by-us' })
  server.kill('SIGKILL')
  await heard({ kind: 'root', state: 'gone' })
  execFileSync('umount', ['-l', root])
  const again = await serve()
  t.after(() => again.kill())
  await heard({ kind: 'tree', path: '' })
  assert.ok(!hints.some((hint) => hint.kind === 'entry' && hint.gone), 'nothing is said to be deleted')
  const since = hints.length
  writeFileSync(join(behind, 'a/later'), 'x')
  await heard({ kind: 'entry', path: 'a/later' }, since)
})

test('FUSE below the root: said to be looked at from time to time, and no deletion when its server dies', {
  skip,
}, async (t) => {
  const [behind, root, polled] = [temporaryDirectory(t), temporaryDirectory(t), temporaryDirectory(t)]
  for (const place of [root, polled]) mkdirSync(join(place, 'shared'))
  writeFileSync(join(behind, 'f'), 'x')
  const servers = [root, polled].map((place) =>
    spawn('bindfs', ['-f', behind, join(place, 'shared')], { stdio: 'ignore' }),
  )
  t.after(() => servers.map((server) => server.kill('SIGKILL')))
  await eventually('they are mounted', () => [root, polled].every((place) => existsSync(join(place, 'shared/f'))))
  const { watcher, notices } = await watching(t, root, { backend: 'inotify' })
  assert.equal(watcher.stats.blind, 1)
  assert.match(notices.join('\n'), /shared is on FUSE, .* looked at every 30 s/)
  const slow = await watching(t, polled, { backend: 'poll' })
  for (const server of servers) server.kill('SIGKILL')
  await eventually('it cannot be listed', () => slow.watcher.stats.blind === 1)
  assert.match(slow.notices.join('\n'), /cannot list .*shared: ENOTCONN/)
  assert.ok(!slow.hints.some((hint) => hint.kind === 'entry' && hint.gone), 'nothing is said to be deleted')
  execFileSync('umount', ['-l', join(root, 'shared')])
  await eventually('nothing is left that is not watched', () => watcher.stats.blind === 0)
})

/** A file whose name says when it was begun. */
function writeNamed(directory: string): void {
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, `${performance.timeOrigin + performance.now()}-mounts`), 'x')
}
