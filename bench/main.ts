// `npm run bench` measures everything; `npm run bench -- latency peer/small` a part of it.
import { cpus, loadavg, release, totalmem } from 'node:os'
import { batch } from './batch.js'
import { delta } from './delta.js'
import { events } from './events.js'
import type { Benchmark, Figure } from './figure.js'
import { history } from './history.js'
import { idle } from './idle.js'
import { latency } from './latency.js'
import { peer } from './peer.js'
import { watch } from './ready.js'
import { rename } from './rename.js'
import { restart } from './restart.js'
import { STOCK, Stage, versionOf } from './support.js'
import { targets } from './targets.js'

const BENCHMARKS: Record<string, Benchmark> = {
  latency,
  batch,
  delta,
  targets,
  idle,
  history,
  rename,
  restart,
  ...peer,
  ...watch,
  ...events,
}

// A machine may have Node parse a file of certificates at every start: 40 ms that no rsync needs.
delete process.env.NODE_EXTRA_CA_CERTS

const asked = process.argv.slice(2)
const covers = (name: string, benchmark: string) => benchmark === name || benchmark.startsWith(`${name}/`)
const unknown = asked.filter((name) => !Object.keys(BENCHMARKS).some((each) => covers(name, each)))
if (unknown.length > 0) {
  console.error(`bench: no benchmark called ${unknown.join(', ')}; there are ${Object.keys(BENCHMARKS).join(', ')}`)
  process.exit(1)
}

console.log(machine())
const figures: Figure[] = []
for (const [name, benchmark] of Object.entries(BENCHMARKS)) {
  if (asked.length === 0 || asked.some((each) => covers(each, name))) figures.push(...(await run(name, benchmark)))
}
console.log(`\n${table(figures)}`)
process.exit(figures.some(({ met }) => met === false) ? 1 : 0)

async function run(name: string, benchmark: Benchmark): Promise<Figure[]> {
  const stage = new Stage()
  try {
    return await benchmark(stage, (progress) => console.error(`${name}: ${progress}`))
  } catch (error) {
    console.error(error, `\n${stage.testimony()}`)
    return [{ what: name, value: (error as Error).message.split('\n')[0], goal: 'completes', met: false }]
  } finally {
    await stage.close()
  }
}

function machine(): string {
  const memory = Math.round(totalmem() / 2 ** 30)
  const load = loadavg()[0].toFixed(2)
  return [
    `${cpus().length} × ${cpus()[0].model}, ${memory} GiB, load ${load}`,
    `Linux ${release()}, Node.js ${process.version}, rsync ${versionOf(STOCK)} at both ends of what is compared`,
  ].join('\n')
}

function table(rows: readonly Figure[]): string {
  const verdict = (met: boolean | undefined) => (met === undefined ? '' : met ? 'pass' : 'FAIL')
  const cells = rows.map(({ what, value, goal = '', met }) => [what, value, goal, verdict(met)])
  const lines = [['figure', 'measured', 'goal', ''], ...cells]
  const widths = [0, 1, 2].map((column) => Math.max(...lines.map((line) => line[column].length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
