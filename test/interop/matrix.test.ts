import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { after, test } from 'node:test'
import { Stage } from '../support/stage.js'
import type { Case } from './case.js'
import { Bench, type Outcome, type Pair } from './cell.js'
import { assertDocumented } from './document.js'
import { memory } from './memory.js'
import { type Block, blocks, stockPair, title } from './plan.js'
import { CURRENT, Daemons } from './sides.js'
import { firstDifference } from './state.js'

/** What was left out of a run cannot be claimed in a document. */
const selected = new RegExp(process.env.INTEROP ?? '')
/** Two for each processor: stock programs sleep a good part of their time. */
const jobs = Number(process.env.INTEROP_JOBS ?? 2 * availableParallelism())

process.umask(0o022)
assert.equal(process.getuid!(), 0, 'the interop matrix makes devices and owners: run it as root')
process.env.TMPDIR ??= memory()
const stage = new Stage()
const bench = new Bench(stage, new Daemons(stage))
after(() => stage.close())
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

/** Of how many cells of a block that could be said. */
const equal = new Map<string, number>()

for (const block of blocks()) {
  const cells = block.cells.filter(({ id }) => selected.test(id))
  if (cells.length === 0) continue
  test(`${title(block.role, block, block.peer)}: ${cells.length} cases end as with stock rsync`, async () => {
    const failures: string[] = []
    await inParallel(cells, async ({ one, id }) => {
      const failure = await failureOf(one, block)
      if (failure !== null) failures.push(`${id}\n    ${failure}`)
    })
    equal.set(title(block.role, block, block.peer), cells.length - failures.length)
    if (failures.length > 0) assert.fail(`${failures.length} of ${cells.length} cells differ\n${failures.join('\n')}`)
  })
}

if (process.env.INTEROP === undefined && process.env.INTEROP_OURS === undefined) {
  test('docs/protocol.md lists what was run, all of which ended as with stock rsync', () => {
    assertDocumented(blocks().map((block) => ({ block, equal: equal.get(title(block.role, block, block.peer)) ?? 0 })))
  })
}

/**
 * Nearly always all stock versions agree, so the current one with itself is asked first. What differs from that must be
 * as the very stock programs of this cell leave it.
 */
async function failureOf(one: Case, block: Block): Promise<string | null> {
  const ours = await bench.run(one, block)
  const current = { ...stockPair(block), client: CURRENT, server: CURRENT, protocol: 32 }
  if (problem(await reference(one, current), ours) === null) return null
  const found = problem(await reference(one, stockPair(block)), ours)
  return found === null ? null : `${found}\n    ${ours.command}`
}

const references = new Map<Case, Map<string, Promise<Outcome>>>()

function reference(one: Case, pair: Pair): Promise<Outcome> {
  const key = [pair.transport, pair.client.name, pair.server.name, pair.direction, pair.protocol].join(' ')
  const known = references.get(one) ?? new Map<string, Promise<Outcome>>()
  references.set(one, known)
  const outcome = known.get(key) ?? bench.run(one, pair)
  known.set(key, outcome)
  return outcome
}

/** The first thing that is not as stock left it. */
function problem(stock: Outcome, ours: Outcome): string | null {
  if (stock.exit !== ours.exit)
    return [`exit ${ours.exit}, stock: ${stock.exit}`, ...ours.text.split('\n')].join('\n    ')
  const difference = firstDifference(stock.state, ours.state)
  if (difference !== null) return difference
  const missing = stock.printed.find((line, i) => line !== ours.printed[i])
  const extra = ours.printed.find((line, i) => line !== stock.printed[i])
  if (missing === undefined && extra === undefined) return null
  return `prints ${JSON.stringify(extra ?? null)}, stock: ${JSON.stringify(missing ?? null)}`
}

async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values()
  const worker = async () => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: jobs }, worker))
}
