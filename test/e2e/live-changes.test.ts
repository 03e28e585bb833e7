import { after, afterEach, before, describe, test } from 'node:test'
import { CHANGES } from '../support/changes.js'
import { comparesNanoseconds, Daemon, EVERY_RSYNC, versionOf } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { makeEverything } from '../support/sample.js'
import { Stage } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

for (const rsync of EVERY_RSYNC) {
  describe(`with rsync ${versionOf(rsync)} at the destination`, () => {
    let stage: Stage
    let syncline: Syncline
    let failed = true

    before(async () => {
      stage = new Stage()
      makeEverything(stage.dir('source'))
      if (!comparesNanoseconds(rsync)) await sleep(1100)
      const daemon = await Daemon.start(stage, { rsync, modules: { m: stage.path('module') } })
      syncline = await Syncline.start(stage, stage.path('source'), daemon.url('m'))
      await syncline.equal(stage.path('source'), stage.path('module'))
    })
    afterEach(() => {
      if (failed) console.error(stage.testimony())
    })
    after(() => stage.close())

    for (const [name, change] of Object.entries(CHANGES)) {
      test(`${name}: arrives`, async () => {
        failed = true
        change(stage.path('source'), stage.dir('outside'))
        await syncline.equal(stage.path('source'), stage.path('module'))
        failed = false
      })
    }
  })
}
