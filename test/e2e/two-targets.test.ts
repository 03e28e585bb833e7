import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { content, makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { differences } from '../support/tree.js'

async function twoDaemons(stage: Stage): Promise<{ a: Daemon; b: Daemon; source: string }> {
  const source = stage.dir('source')
  makeSmall(source)
  const a = await Daemon.start(stage, { modules: { m: stage.path('a') } })
  const b = await Daemon.start(stage, { modules: { m: stage.path('b') } })
  return { a, b, source }
}

test(
  'every target gets every change',
  staged(async (stage) => {
    const { a, b, source } = await twoDaemons(stage)
    const syncline = await Syncline.start(stage, source, [a.url('m'), b.url('m')])
    for (let i = 0; i < 50; i++) writeFileSync(`${source}/f${i}`, content(1000, i))
    await syncline.equal(source, stage.path('a'), { target: 0 })
    await syncline.equal(source, stage.path('b'), { target: 1 })
  }),
)

test(
  'a target that stands still delays no other, and catches up when it goes on',
  staged(async (stage) => {
    const { a, b, source } = await twoDaemons(stage)
    const syncline = await Syncline.start(stage, source, [a.url('m'), b.url('m')])
    await syncline.equal(source, stage.path('a'))
    await syncline.equal(source, stage.path('b'), { target: 1 })
    a.pause()
    for (let i = 0; i < 200; i++) writeFileSync(`${source}/f${i % 50}`, content(5000, i))
    await syncline.equal(source, stage.path('b'), { target: 1 })
    const [stopped] = await syncline.status()
    assert.ok(stopped.owed > 0, 'the stopped target is owed the changes')
    assert.ok(differences(source, stage.path('a'), { limit: 1 }).length > 0)
    a.resume()
    await syncline.equal(source, stage.path('a'))
  }),
)

test(
  'a target that cannot be reached at the start delays no other, and is mirrored once it is there',
  staged(async (stage) => {
    const { a, b, source } = await twoDaemons(stage)
    await a.stop()
    const syncline = await Syncline.start(stage, source, [a.url('m'), b.url('m')], { early: true })
    await syncline.reaches('the second target is mirroring', (target) => target.state === 'mirroring', 1)
    writeFileSync(`${source}/new`, 'new')
    await syncline.equal(source, stage.path('b'), { target: 1 })
    await a.start()
    await syncline.mirroring()
    await syncline.equal(source, stage.path('a'))
  }),
)

test(
  'a target that refuses stops no other, and its status says why',
  staged(async (stage) => {
    const { a, b, source } = await twoDaemons(stage)
    const syncline = await Syncline.start(stage, source, [a.url('nosuch'), b.url('m')], { early: true })
    await syncline.reaches('the second target is mirroring', (target) => target.state === 'mirroring', 1)
    const refused = await syncline.reaches('the first is refused', (target) => target.state === 'refused')
    assert.match(`${refused.reason ?? ''} ${refused.lastError ?? ''}`, /nosuch/)
    writeFileSync(`${source}/new`, 'new')
    await syncline.equal(source, stage.path('b'), { target: 1 })
  }),
)

test(
  'two modules of one daemon are two targets',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const daemon = await Daemon.start(stage, { modules: { one: stage.path('one'), two: stage.path('two') } })
    const syncline = await Syncline.start(stage, source, [daemon.url('one'), daemon.url('two')])
    writeFileSync(`${source}/new`, 'new')
    await syncline.equal(source, stage.path('one'))
    await syncline.equal(source, stage.path('two'), { target: 1 })
  }),
)
