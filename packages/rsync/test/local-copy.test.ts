import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Channel } from '../src/channel.js'
import { runClient } from '../src/client.js'
import { temporaryDirectory } from './stage.js'

// A sender, a generator and a receiver in one process, with nothing else to wake it: what none of them hears of ends it.

/** One copy by the command, which must succeed. */
async function copy(...args: string[]): Promise<void> {
  let said = ''
  const output = {
    out: () => undefined,
    err: (text: string) => {
      said += text
    },
  }
  const code = await runClient(args, output, new AbortController().signal)
  assert.equal(code, 0, said)
}

test('whatever the turns in which the three do their work, none waits for ever', async (t) => {
  const stage = temporaryDirectory(t)
  const source = `${stage}/source`
  fs.mkdirSync(`${source}/sub/deep`, { recursive: true })
  fs.writeFileSync(`${source}/sub/deep/three`, 't'.repeat(701))
  const { rest } = Channel.prototype
  t.after(() => {
    Channel.prototype.rest = rest
  })
  for (let i = 0; i < 500; i++) {
    const share = [0.02, 0.1, 0.3, 0.5, 0.9][i % 5]!
    Channel.prototype.rest = () => (Math.random() < share ? nextTurn() : undefined)
    const destination = `${stage}/copy-${i}`
    fs.mkdirSync(`${destination}/sub`, { recursive: true })
    await copy('-aR', `${source}/./sub/deep/three`, `${destination}/`)
    assert.equal(fs.readFileSync(`${destination}/sub/deep/three`, 'latin1').length, 701)
  }
})

test('a copy leaves no descriptor open', async (t) => {
  const stage = temporaryDirectory(t)
  const source = `${stage}/source`
  fs.mkdirSync(source)
  fs.writeFileSync(`${source}/f`, 'f')
  const open = () => fs.readdirSync('/proc/self/fd').length
  await copy('-a', `${source}/`, `${stage}/copy/`)
  const before = open()
  for (let i = 0; i < 10; i++) await copy('-a', `${source}/`, `${stage}/copy/`)
  assert.equal(open(), before)
})
