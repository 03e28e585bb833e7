import { closeSync, copyFileSync, openSync, utimesSync, writeFileSync, writeSync } from 'node:fs'
import { elapsedMs, Poller, rsyncMs } from './arrival.js'
import { atMost, type Benchmark, beside, median } from './figure.js'
import { content, Daemon, differences, Syncline, sleep, TcpProxy, urlOf } from './support.js'

const MIB = 1024 * 1024
const SIZE_MIB = 256
const ROUNDS = 5

/** One byte changed in a large file: the time, and the bytes that a proxy before the daemon counted. */
export const delta: Benchmark = async (stage, tell) => {
  const [source, module, outside] = [stage.dir('source'), stage.dir('module'), stage.dir('outside')]
  tell(`a file of ${SIZE_MIB} MiB`)
  for (let i = 0; i < SIZE_MIB; i++) writeFileSync(`${outside}/large`, content(MIB, i), { flag: 'a' })
  copyFileSync(`${outside}/large`, `${source}/large`)
  const daemon = await Daemon.start(stage, { modules: { m: module, plain: stage.dir('plain') } })
  const proxy = await TcpProxy.start(stage, daemon.port)
  const plain = urlOf(proxy.port, 'plain', '')
  const syncline = await Syncline.start(stage, source, urlOf(proxy.port, 'm'))
  await rsyncMs(`${outside}/large`, plain)
  await syncline.equal(source, module)
  const poller = new Poller(stage)
  const bytes = () => proxy.bytes.up + proxy.bytes.down
  const ours = { ms: [] as number[], bytes: [] as number[] }
  const theirs = { ms: [] as number[], bytes: [] as number[] }
  for (let round = 0; round < ROUNDS; round++) {
    tell(`round ${round + 1} of ${ROUNDS}: one byte changed`)
    changeOneByte(`${outside}/large`, round)
    // Its quick check looks at whole seconds only.
    utimesSync(`${outside}/large`, 1e9 + round, 1e9 + round)
    let before = bytes()
    theirs.ms.push(await rsyncMs(`${outside}/large`, plain))
    theirs.bytes.push(bytes() - before)
    await sleep(500)

    before = bytes()
    const closed = changeOneByte(`${source}/large`, round)
    const arrived = await poller.arrival(`${source}/large`, `${module}/large`)
    ours.ms.push(elapsedMs(closed, arrived))
    await sleep(500) // whatever ends the session counts too
    ours.bytes.push(bytes() - before)
  }
  const found = differences(source, module)
  if (found.length > 0) throw new Error(found.join('\n'))
  return [
    beside('1 byte in 256 MiB: median', median(ours.ms), 'ms'),
    beside('rsync -a of the same: median', median(theirs.ms), 'ms'),
    atMost('1 byte in 256 MiB: time against rsync -a', median(ours.ms) / median(theirs.ms), 1.2, '×'),
    beside('1 byte in 256 MiB: on the wire', median(ours.bytes), 'bytes'),
    beside('rsync -a of the same: on the wire', median(theirs.bytes), 'bytes'),
    atMost('1 byte in 256 MiB: bytes against rsync -a', median(ours.bytes) / median(theirs.bytes), 1.1, '×'),
  ]
}

/** Returns the time just after the close. */
function changeOneByte(path: string, round: number): bigint {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.from([round + 1]), 0, 1, (round * 53 + 17) * MIB + 12_345)
  closeSync(file)
  return process.hrtime.bigint()
}
