import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { RemoteError, SessionPool } from '../src/index.js'
import { listAll, openTree, temporaryDirectory } from './stage.js'
import { openSession, StockDaemon } from './stock.js'

test('a pool opens few sessions at once, keeps as many as asked for, and gives them back in peace', async (t) => {
  const daemon = await StockDaemon.start(t, 'stock')
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), 'x')
  const source = openTree(t, root)
  let opening = 0
  let most = 0
  let opened = 0
  const pool = new SessionPool(
    async () => {
      most = Math.max(most, ++opening)
      try {
        return await openSession(daemon, `${opened++}`)
      } finally {
        opening--
      }
    },
    6,
    source,
  )
  for (let i = 0; i < 10; i++) {
    const session = await pool.acquire()
    const { errors, sent } = await session.transfer({ source, entries: listAll(source) })
    assert.deepEqual([errors, sent], [[], 1])
  }
  for (let tries = 0; opened < 16 && tries < 500; tries++) await sleep(10)
  await sleep(300)
  assert.equal(opened, 16, 'ten were used, six are ready')
  assert.ok(most <= 4, `${most} at once; the daemon's backlog is 5`)
  await pool.close()
  await assert.rejects(pool.acquire(), /closed/)
  await sleep(100)
  assert.doesNotMatch(daemon.log(), /error|unexpectedly/i)
})

test('a pool that is refused tells every waiting caller, and tries again only after a pause', async (t) => {
  let attempts = 0
  const source = openTree(t, temporaryDirectory(t))
  const pool = new SessionPool(
    () => {
      attempts++
      return Promise.reject(new RemoteError('auth', 'auth failed', 5))
    },
    4,
    source,
  )
  const waiting = Array.from({ length: 3 }, () => assert.rejects(pool.acquire(), /auth failed/))
  await Promise.all(waiting)
  const first = attempts
  assert.ok(first <= 4)
  assert.ok(pool.retryAtMs > Date.now())
  await sleep(200)
  assert.equal(attempts, first)
  await pool.close()
})
