import assert from 'node:assert/strict'
import { appendFileSync, linkSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon, EVERY_RSYNC, versionOf } from '../support/daemon.js'
import { until } from '../support/eventually.js'
import { served } from '../support/rsyncd.js'
import { content } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

const FILES = 3000

/** Large directories, one within the other, with everything among the files that needs a session of its own kind. */
function makeLarge(top: string): void {
  for (const dir of [top, `${top}/inner`]) {
    mkdirSync(dir)
    for (let i = 0; i < FILES; i++) writeFileSync(`${dir}/file-${i}`, content(100 + (i % 2000), i))
    linkSync(`${dir}/file-7`, `${dir}/file-7-too`)
    linkSync(`${dir}/file-${FILES - 1}`, `${dir}/zz-another name`)
    symlinkSync('file-1', `${dir}/symlink`)
    writeFileSync(`${dir}/large`, content(9 << 20, 1))
    mkdirSync(`${dir}/empty`)
  }
}

async function mirrored(stage: Stage, rsync: string): Promise<{ daemon: Daemon; syncline: Syncline; source: string }> {
  const source = stage.dir('source')
  writeFileSync(`${source}/kept`, 'kept')
  const daemon = await Daemon.start(stage, {
    rsync,
    modules: { m: stage.path('module') },
    global: { 'transfer logging': true, 'log format': 'got %f' },
  })
  const syncline = await Syncline.start(stage, source, daemon.url('m'))
  return { daemon, syncline, source }
}

for (const rsync of EVERY_RSYNC) {
  test(
    `a large directory that is new is filled by two sessions at once (rsync ${versionOf(rsync)})`,
    staged(async (stage) => {
      makeLarge(stage.path('made'))
      const { daemon, syncline, source } = await mirrored(stage, rsync)
      await until('one is ready, and two to spare', () => served(daemon.port) >= 3)
      renameSync(stage.path('made'), `${source}/made`)
      await syncline.equal(source, stage.path('module'))
      const sessions = new Set<string>()
      for (const line of daemon.log().split('\n')) {
        const session = /\[(\d+)\] got .*made\/file-/.exec(line)?.[1]
        if (session !== undefined) sessions.add(session)
      }
      assert.ok(sessions.size >= 2, `the directory was filled by ${sessions.size} session(s)`)
      assert.equal(daemon.logged('rsync error'), 0)
    }),
  )
}

test(
  'a large directory that changes while it is being filled arrives as it is in the end',
  staged(async (stage) => {
    makeLarge(stage.path('made'))
    const { syncline, source } = await mirrored(stage, 'rsync')
    renameSync(stage.path('made'), `${source}/made`)
    for (let i = 0; i < FILES; i += 50) {
      appendFileSync(`${source}/made/file-${i}`, 'more')
      renameSync(`${source}/made/inner/file-${i}`, `${source}/made/file-${i}-moved`)
      await new Promise((resolve) => setImmediate(resolve))
    }
    renameSync(`${source}/made`, `${source}/renamed`)
    await syncline.equal(source, stage.path('module'))
  }),
)

test(
  'a large directory whose daemon is killed while it is being filled arrives whole later',
  staged(async (stage) => {
    makeLarge(stage.path('made'))
    const { daemon, syncline, source } = await mirrored(stage, 'rsync')
    renameSync(stage.path('made'), `${source}/made`)
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 150))
      await daemon.kill()
      await daemon.start()
    }
    await syncline.equal(source, stage.path('module'))
  }),
)
