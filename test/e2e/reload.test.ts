import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { type Scene, scene } from '../support/sersync.js'
import { Syncline } from '../support/syncline.js'
import { differences } from '../support/tree.js'

async function started(at: Scene, yaml: string, targets: string[]) {
  const config = at.stage.path('syncline.yaml')
  fs.writeFileSync(config, yaml)
  const syncline = await Syncline.startFrom(at.stage, config, targets)
  let times = 0
  const reload = async (next: string) => {
    fs.writeFileSync(config, next)
    syncline.signal('SIGHUP')
    times++
    const said = () => syncline.stderr.match(/was read again|nothing was changed by SIGHUP/g)?.length ?? 0
    await until('it is read again', () => said() >= times, { problem: () => syncline.stderr })
  }
  return { syncline, reload }
}

test(
  'SIGHUP: a target that is added is synced, one that is removed is left alone, and the one that stays is not touched',
  scene(async (at) => {
    const { source, module, daemon } = at
    const other = at.stage.path('other')
    const yaml = (...targets: string[]) =>
      `sources: [{path: ${source}, targets: [${targets.map((one) => `'${one}'`)}]}]`
    const [m, n] = [daemon.url('m'), daemon.url('n')]
    const { syncline, reload } = await started(at, yaml(m), [m])
    await syncline.equal(source, module)
    fs.writeFileSync(`${module}/intruder`, 'a full sync would remove it')
    await reload(yaml(m, n))
    await until('the new one is equal', () => differences(source, other).length === 0)
    assert.ok(fs.existsSync(`${module}/intruder`), 'the other was not compared again')
    fs.rmSync(`${module}/intruder`)
    fs.writeFileSync(`${source}/to both`, 'x')
    await until('it is at both', () => fs.existsSync(`${module}/to both`) && fs.existsSync(`${other}/to both`))
    await reload(yaml(n))
    fs.writeFileSync(`${source}/to one`, 'x')
    await until('it is there', () => fs.existsSync(`${other}/to one`))
    await sleep(200)
    assert.ok(!fs.existsSync(`${module}/to one`))
    assert.deepEqual(
      (await syncline.status()).map(({ name }) => name),
      [n],
    )
  }),
)

test(
  'SIGHUP: another limit for a target takes effect without a full sync, and nothing is lost meanwhile',
  scene(async (at) => {
    const { source, module, daemon } = at
    const m = daemon.url('m')
    const yaml = (keys: string) => `sources: [{path: ${source}, targets: [{to: '${m}'${keys}}]}]`
    const { syncline, reload } = await started(at, yaml(''), [m])
    await syncline.equal(source, module)
    fs.writeFileSync(`${module}/intruder`, 'a full sync would remove it')
    let writing = true
    const writer = (async () => {
      for (let i = 0; writing; i++) {
        fs.writeFileSync(`${source}/f${i % 50}`, content(2000, i))
        if (i % 7 === 0) fs.rmSync(`${source}/f${(i * 3) % 50}`, { force: true })
        await sleep(2)
      }
    })()
    for (const keys of [', sessions: 2', ', compress: true', ', timeout: 30', '']) {
      await reload(yaml(keys))
      await sleep(200)
    }
    writing = false
    await writer
    assert.ok(fs.existsSync(`${module}/intruder`))
    fs.rmSync(`${module}/intruder`)
    await syncline.equal(source, module)
  }),
)

test(
  'SIGHUP: sources come and go; a file that is wrong changes nothing',
  scene(async (at) => {
    const { source, module, daemon } = at
    const second = at.stage.dir('second')
    makeSmall(second)
    const [m, n] = [daemon.url('m'), daemon.url('n')]
    const one = `{path: ${source}, targets: ['${m}']}`
    const two = `{path: ${second}, targets: ['${n}']}`
    const { syncline, reload } = await started(at, `sources: [${one}]`, [m])
    await reload(`sources: [${one}, ${two}]`)
    await until('the second is equal', () => differences(second, at.stage.path('other')).length === 0)
    await reload(`sources: [${one}, {path: /no/such/directory, targets: ['${n}']}]`)
    assert.match(syncline.stderr, /no\/such\/directory.*there is no such directory.*nothing was changed/)
    fs.writeFileSync(`${second}/still`, 'x')
    await until('it goes on', () => fs.existsSync(at.stage.path('other/still')))
    await reload(`sources: [${two}]`)
    fs.writeFileSync(`${source}/not sent`, 'x')
    await reload(`sources: [${two}, {path: ${source}, exclude: ['*.tmp'], targets: ['${m}']}]`)
    await syncline.equal(source, module, { target: 1 })
    assert.equal(await syncline.stop(), 0)
  }),
)
