import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Daemon } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { History } from '../support/history.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

/**
 * One history, mirrored while it happens. To repeat a failed one, perhaps shorter:
 * `HISTORY_SEED=… HISTORY_OPERATIONS=… node --test test/dist/e2e/random-history.test.js`
 */
interface Plan {
  seed: number
  operations: number
  /** Start working before the first full sync is over. */
  early: boolean
  /** A rest of a millisecond after so many operations; 0 for none. */
  restEvery: number
  entriesMax: number
}

const { HISTORY_SEED, HISTORY_OPERATIONS = '150' } = process.env
const repeated = HISTORY_SEED === undefined ? undefined : Number(HISTORY_SEED)

test('a random history of operations over hostile names ends in equal trees', async () => {
  const plans = fc.record<Plan>({
    seed: repeated === undefined ? fc.nat(0xffffffff) : fc.constant(repeated),
    operations: fc.constant(Number(HISTORY_OPERATIONS)),
    early: fc.boolean(),
    restEvery: fc.constantFrom(0, 1, 5, 40),
    entriesMax: fc.constantFrom(20, 100, 600),
  })
  // A history is timing, so that a shorter one proves nothing: no shrinking. The seed and the log say what happened.
  await fc.assert(fc.asyncProperty(plans, mirrored), {
    numRuns: 20,
    endOnFailure: true,
    includeErrorInReport: true,
  })
})

test('a random history of 20,000 operations at full speed ends in equal trees', async () => {
  await mirrored({
    seed: repeated ?? Math.floor(Math.random() * 0xffffffff),
    operations: HISTORY_SEED === undefined ? 20_000 : Number(HISTORY_OPERATIONS),
    early: false,
    restEvery: 200, // the program needs a moment only because the history runs in the same process as its output
    entriesMax: 1500,
  })
})

async function mirrored(plan: Plan): Promise<void> {
  const history: { log: string[] } = { log: [] }
  try {
    await staged((stage) => mirror(stage, plan, history))()
  } catch (error) {
    const file = join(tmpdir(), `syncline-history-${plan.seed}.log`)
    writeFileSync(file, `${history.log.join('\n')}\n`)
    throw new Error(`history ${JSON.stringify(plan)}, log in ${file}: ${(error as Error).message}`, { cause: error })
  }
}

async function mirror(stage: Stage, plan: Plan, kept: { log: string[] }): Promise<void> {
  const source = stage.dir('source')
  const module = stage.path('module')
  const history = new History({ ...plan, source, outside: stage.path('outside') })
  kept.log = history.log
  history.run(plan.early ? 100 : 20)
  // Something that stays, so that a small history does not look like a source that was emptied.
  mkdirSync(`${source}/kept`)
  for (let i = 0; i < 20; i++) writeFileSync(`${source}/kept/${i}`, `${i}`)
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: plan.early })
  for (let i = 0; i < plan.operations; i++) {
    history.step()
    if (plan.restEvery > 0 && i % plan.restEvery === plan.restEvery - 1) await sleep(1)
  }
  await syncline.mirroring()
  await syncline.equal(source, module, { patienceMs: 60_000 })
}
