import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { FAN, FanotifyGroup, type FilesystemEvent, IN, InotifyGroup } from '../src/index.js'
import { eventually, temporaryDirectory } from './watching.js'

const skip = process.geteuid?.() !== 0 && 'only root may'

test('inotify: events in the order of the kernel, until it is closed', async (t) => {
  const directory = temporaryDirectory(t)
  const group = InotifyGroup.open()
  const wd = group.add(directory, IN.CREATE | IN.DELETE)
  fs.writeFileSync(join(directory, 'a'), '')
  fs.rmSync(join(directory, 'a'))
  const seen: string[] = []
  for await (const event of group) {
    assert.equal(event.wd, wd)
    seen.push(`${event.mask} ${event.name}`)
    if (seen.length === 2) break
  }
  assert.deepEqual(seen, [`${IN.CREATE} a`, `${IN.DELETE} a`])
  const again = InotifyGroup.open()
  const other = again.add(directory, IN.CREATE)
  assert.equal(again.remove(other), true)
  assert.equal(again.remove(99), false)
  await again.close()
  const left = []
  for await (const event of again) left.push(event)
  assert.ok(left.length <= 1) // IN_IGNORED, when it was read before the end
})

test('inotify: what cannot be watched is said with the reason', (t) => {
  const group = InotifyGroup.open()
  t.after(() => group.close())
  assert.throws(() => group.add('/there is none', IN.CREATE), {
    code: 'CANNOT_WATCH',
    message: 'cannot watch /there is none: No such file or directory',
  })
})

test('inotify: a reader who takes his time loses nothing that the queue can hold', async (t) => {
  const directory = temporaryDirectory(t)
  const group = InotifyGroup.open()
  group.add(directory, IN.CREATE)
  const count = 15_000 // below the kernel's own limit of 16,384, which a group leaves as it is
  for (let i = 0; i < count; i++) fs.closeSync(fs.openSync(join(directory, `${i}`), 'w'))
  let seen = 0
  for await (const { name, mask } of group) {
    assert.equal(mask, IN.CREATE)
    assert.equal(name, `${seen}`)
    if (++seen % 2_000 === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    if (seen === count) break
  }
})

test('fanotify: names with their paths, renames with both, and none of elsewhere', { skip }, async (t) => {
  const place = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', place])
  const root = join(place, 'root')
  fs.mkdirSync(join(root, 'd'), { recursive: true })
  const group = FanotifyGroup.open(root, FAN.CREATE | FAN.RENAME | FAN.ONDIR)
  fs.writeFileSync(join(place, 'elsewhere'), '')
  fs.writeFileSync(join(root, 'd/f'), '')
  fs.renameSync(join(root, 'd/f'), join(root, 'g'))
  fs.mkdirSync(join(root, 'e'))
  const seen: FilesystemEvent[] = []
  for await (const event of group) if (seen.push(event) === 4) break
  assert.deepEqual(seen, [
    { mask: FAN.CREATE, path: undefined, from: undefined, isDirectory: false, itself: false },
    { mask: FAN.CREATE, path: join(root, 'd/f'), from: undefined, isDirectory: false, itself: false },
    { mask: FAN.RENAME, path: join(root, 'g'), from: join(root, 'd/f'), isDirectory: false, itself: false },
    { mask: FAN.CREATE | FAN.ONDIR, path: join(root, 'e'), from: undefined, isDirectory: true, itself: false },
  ])
})

test('fsnotifywait -S: a filesystem, by absolute paths', { skip }, async (t) => {
  const place = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', place])
  const main = fileURLToPath(new URL('../src/commands/main.js', import.meta.url))
  const program = join(temporaryDirectory(t), 'fsnotifywait')
  fs.symlinkSync(main, program)
  const child = spawn(process.execPath, [program, '-m', '-S', '-e', 'create,delete,move,attrib', place])
  t.after(() => child.kill('SIGKILL'))
  let [out, err] = ['', '']
  child.stdout.on('data', (text) => {
    out += text
  })
  child.stderr.on('data', (text) => {
    err += text
  })
  await eventually('the watches', () => err === 'Setting up filesystem watches.\nWatches established.\n')
  const acts: [() => void, ...string[]][] = [
    [() => fs.mkdirSync(join(place, 'd')), '/ CREATE,ISDIR d'],
    [() => fs.writeFileSync(join(place, 'd/f'), ''), '/d/ CREATE f'],
    [() => fs.renameSync(join(place, 'd/f'), join(place, 'g')), '/d/ MOVED_FROM f', '/ MOVED_TO g'],
    [() => fs.chmodSync(join(place, 'd'), 0o700), '/d/ ATTRIB,ISDIR '],
    [() => fs.renameSync(join(place, 'd'), join(place, 'e')), '/ MOVED_FROM,ISDIR d', '/ MOVED_TO,ISDIR e'],
    [() => fs.writeFileSync(join(place, 'e/h'), ''), '/e/ CREATE h'],
  ]
  let expected = ''
  for (const [act, ...lines] of acts) {
    act() // one after the other: what waits together is told together
    expected += lines.map((line) => `${place}${line}\n`).join('')
    await eventually('the events', () => out.length >= expected.length)
  }
  assert.equal(out, expected)
})
