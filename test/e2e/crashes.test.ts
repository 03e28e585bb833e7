import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { History } from '../support/history.js'
import { Random } from '../support/random.js'
import { staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

/** More of them: `CRASHES=200 node --test test/dist/e2e/crashes.test.js`; HISTORY_SEED repeats a run, but for its timing. */
const { CRASHES = '40', HISTORY_SEED } = process.env
const EARLIEST_MS = 50
const LATEST_MS = 1_500

test(
  `kill -9 at ${CRASHES} random moments under load: equal trees in the end`,
  staged(async (stage) => {
    const seed = HISTORY_SEED === undefined ? Math.floor(Math.random() * 0xffffffff) : Number(HISTORY_SEED)
    console.error(`seed ${seed}`)
    const random = new Random(seed)
    const source = stage.dir('source')
    const module = stage.path('module')
    const history = new History({ seed, source, outside: stage.path('outside'), entriesMax: 400 })
    history.run(100)
    mkdirSync(`${source}/kept`)
    for (let i = 0; i < 20; i++) writeFileSync(`${source}/kept/${i}`, `${i}`)
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const stateDir = stage.dir('state')
    for (let i = 0; i < Number(CRASHES); i++) {
      const syncline = await Syncline.start(stage, source, daemon.url('m'), { stateDir, early: true })
      const untilMs = Date.now() + EARLIEST_MS + random.below(LATEST_MS - EARLIEST_MS)
      while (Date.now() < untilMs) {
        history.run(random.below(20))
        await sleep(random.below(5))
      }
      await syncline.kill()
    }
    const last = await Syncline.start(stage, source, daemon.url('m'), { stateDir })
    await last.equal(source, module, { patienceMs: 60_000 })
  }),
)
