import { mkdirSync, writeFileSync } from 'node:fs'
import { type Benchmark, beside } from './figure.js'
import { Daemon, differences, History, Syncline } from './support.js'

const OPERATIONS = 20_000

/** The random history of the tests at full speed, and the time until both trees are equal. */
export const history: Benchmark = async (stage, tell) => {
  const seed = Number(process.env.HISTORY_SEED ?? Math.floor(Math.random() * 0xffffffff))
  const [source, module] = [stage.dir('source'), stage.dir('module')]
  mkdirSync(`${source}/kept`)
  for (let i = 0; i < 20; i++) writeFileSync(`${source}/kept/${i}`, `${i}`)
  const daemon = await Daemon.start(stage, { modules: { m: module } })
  const syncline = await Syncline.start(stage, source, daemon.url('m'))
  const random = new History({ seed, source, outside: stage.path('outside'), entriesMax: 1500 })
  tell(`${OPERATIONS} operations, seed ${seed}`)
  const began = performance.now()
  random.run(OPERATIONS)
  const worked = performance.now()
  await syncline.equal(source, module, { patienceMs: 120_000 })
  const equal = performance.now()
  const [status] = await syncline.status()
  const found = differences(source, module)
  return [
    {
      what: `${OPERATIONS} random operations, seed ${seed}`,
      value: `${found.length} differences, ${status.failures.length} failures, ${status.owed} owed`,
      goal: 'none',
      met: found.length + status.failures.length + status.owed === 0,
    },
    beside('the operations, at full speed', (OPERATIONS * 1000) / (worked - began), 'a second'),
    beside('from the last of them to equality', (equal - worked) / 1000, 's'),
  ]
}
