import { mkdirSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { comparesNanoseconds, Daemon, EVERY_RSYNC, versionOf } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { makeEverything, makeSmall } from '../support/sample.js'
import { staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

describe('the first full sync', () => {
  for (const rsync of EVERY_RSYNC) {
    for (const chroot of [false, true]) {
      const peer = `rsync ${versionOf(rsync)} ${chroot ? 'with' : 'without'} chroot`
      test(
        `brings every type of file with every attribute to ${peer}`,
        staged(async (stage) => {
          const source = stage.dir('source')
          makeEverything(source, { outward: chroot })
          const module = stage.path('module')
          if (!comparesNanoseconds(rsync)) await sleep(1100)
          const daemon = await Daemon.start(stage, { rsync, modules: { m: module }, global: { 'use chroot': chroot } })
          const syncline = await Syncline.start(stage, source, daemon.url('m'))
          await syncline.equal(source, module)
        }),
      )
    }
  }

  test(
    'removes what only the destination has, and replaces what has another type there',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.dir('module')
      mkdirSync(`${module}/extra/full`, { recursive: true })
      writeFileSync(`${module}/extra/full/file`, 'extra')
      mkdirSync(`${module}/one/was/a/directory`, { recursive: true })
      writeFileSync(`${module}/sub`, 'was a file')
      mkdirSync(`${module}/link`)
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const syncline = await Syncline.start(stage, source, daemon.url('m'))
      await syncline.equal(source, module)
    }),
  )

  test(
    'goes into a directory of the module when the destination names one',
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.dir('module')
      mkdirSync(`${module}/a b/c`, { recursive: true })
      writeFileSync(`${module}/a b/bystander`, 'stays')
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const syncline = await Syncline.start(stage, source, daemon.url('m', 'a b/c'))
      await syncline.equal(source, `${module}/a b/c`)
      writeFileSync(`${source}/sub/later`, 'later')
      await syncline.equal(source, `${module}/a b/c`)
    }),
  )

  test(
    'misses nothing that changes while it runs',
    staged(async (stage) => {
      const source = stage.dir('source')
      for (let d = 0; d < 50; d++) {
        mkdirSync(`${source}/d${d}`)
        for (let f = 0; f < 40; f++) writeFileSync(`${source}/d${d}/f${f}`, `${d} ${f}`)
      }
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: module } })
      const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
      for (let i = 0; syncline.running && !syncline.stdout.includes('mirroring'); i++) {
        writeFileSync(`${source}/d${i % 50}/f${i % 40}`, `changed ${i}`)
        writeFileSync(`${source}/d${(i * 7) % 50}/new ${i % 100}`, `new ${i}`)
        await new Promise((resolve) => setTimeout(resolve, 2))
        if (i > 20_000) throw new Error('never mirroring')
      }
      await syncline.equal(source, module)
    }),
  )
})
