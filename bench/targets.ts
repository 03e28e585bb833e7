import { atMost, type Benchmark, beside, median } from './figure.js'
import { measure, Observer } from './latency.js'
import { Daemon, Syncline } from './support.js'

/** Two targets, one of them stopped with SIGSTOP: what the other notices of it. */
export const targets: Benchmark = async (stage, tell) => {
  const [source, a, b] = [stage.dir('source'), stage.dir('a'), stage.dir('b')]
  const running = await Daemon.start(stage, { modules: { m: a } })
  const stopped = await Daemon.start(stage, { modules: { m: b } })
  const syncline = await Syncline.start(stage, source, [running.url('m'), stopped.url('m')])
  const observer = await Observer.start(stage, a)
  tell('200 changes, both targets running')
  const before = await measure(observer, source, { count: 200, perSecond: 20 })
  stopped.pause()
  tell('200 changes, one target stopped')
  const meanwhile = await measure(observer, source, { count: 200, perSecond: 20 })
  stopped.resume()
  const began = performance.now()
  await syncline.equal(source, a)
  await syncline.equal(source, b, { target: 1 })
  return [
    beside('two targets running: p50', median(before), 'ms'),
    beside('one of them stopped: p50 of the other', median(meanwhile), 'ms'),
    atMost('one of them stopped: change of the p50', median(meanwhile) / median(before), 1.5, '×'),
    { what: 'the stopped one, continued', value: `equal after ${seconds(began)} s`, goal: 'converges', met: true },
  ]
}

const seconds = (beganMs: number) => ((performance.now() - beganMs) / 1000).toFixed(1)
