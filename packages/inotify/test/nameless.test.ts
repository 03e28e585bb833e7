import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Directories } from '../src/fanotify/directories.js'
import { NamelessFiles } from '../src/fanotify/nameless.js'
import { FAN, type Handle } from '../src/fanotify/records.js'
import * as kernel from '../src/kernel.js'
import { fromBytes } from '../src/raw-path.js'
import { eventually, temporaryDirectory } from './watching.js'

const DIRECTORIES = 300
const SLOWLY_MS = 5

test('what is told of while a search is under way is found, all of it, and one search does not end another', async (t) => {
  const root = temporaryDirectory(t)
  for (let i = 0; i < DIRECTORIES; i++) {
    fs.mkdirSync(join(root, `${i}`))
    fs.writeFileSync(join(root, `${i}/f`), '')
  }
  // A handle is the path here.
  const identity = (handle: Handle) => {
    const fd = fs.openSync(join(root, handle), 'r')
    const found = kernel.identityOf(fd)
    fs.closeSync(fd)
    return found
  }
  const directories = { root: fromBytes(Buffer.from(root)), exclude: undefined, fileOf: identity }
  const found = new Map<string, number>()
  const looked = new Map<string, number>()
  const files = new NamelessFiles(directories as unknown as Directories, {
    skips: (path) => {
      if (!path.endsWith('/f')) looked.set(path, (looked.get(path) ?? 0) + 1)
      for (const untilMs = performance.now() + SLOWLY_MS; performance.now() < untilMs; );
      return false
    },
    onFound: (path, mask) => found.set(path, (found.get(path) ?? 0) | mask),
    onTurn: () => undefined,
    onLost: () => assert.fail('nothing is lost'),
    onError: (thrown) => assert.fail(String(thrown)),
  })
  t.after(() => files.close())
  const beganAtMs = Date.now()
  files.add('0/f' as Handle, FAN.MODIFY, beganAtMs)
  files.add(`${DIRECTORIES - 1}/f` as Handle, FAN.MODIFY, beganAtMs)
  assert.equal(files.foundAtMs, beganAtMs)
  await eventually('a search', () => looked.size > 0)
  for (let i = 100; i < 110; i++) {
    files.add(`${i}/f` as Handle, FAN.CLOSE_WRITE, Date.now())
    await sleep(150)
  }
  await eventually('the first two', () => found.size >= 2)
  assert.deepEqual([found.get('0/f'), found.get(`${DIRECTORIES - 1}/f`)], [FAN.MODIFY, FAN.MODIFY])
  assert.ok(
    [...looked.values()].every((times) => times === 1),
    'one search',
  )
  assert.ok(files.foundAtMs > beganAtMs, 'up to what is to be found next')
  await eventually('the others', () => found.size === 12)
  await eventually('nothing is left', () => files.foundAtMs === Number.POSITIVE_INFINITY)
  assert.ok(
    [...looked.values()].every((times) => times === 2),
    'and another one',
  )
})
