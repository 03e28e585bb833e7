import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { confxml, type Scene, type Sersync, scene } from '../support/sersync.js'
import { staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

// What sersync2 does wrong, and lsyncd: docs/sersync.md has the table. Each runs from sersync's own file.

function fault(title: string, body: (set: Scene & { syncline: Syncline }) => Promise<void>, set: Sersync = {}): void {
  test(
    title,
    scene(async (all) => {
      const names = set.remotes ?? ['m']
      const syncline = await Syncline.startFrom(all.stage, confxml(all, set), names, { sersync: ['-r'] })
      await syncline.equal(all.source, all.module)
      await body({ ...all, syncline })
    }),
  )
}

fault('1: a backtick or a quote in a file name runs nothing', async ({ stage, source, module, syncline }) => {
  const ran = stage.path('ran')
  mkdirSync(`${source}/d`)
  for (const name of ['`touch ran`', '"$(touch ran)"', "';touch ran;'", '"', '`'])
    for (const dir of [source, `${source}/d`]) writeFileSync(`${dir}/${name}`, name)
  await syncline.equal(source, module)
  for (const name of readdirSync(`${source}/d`)) unlinkSync(`${source}/d/${name}`)
  await syncline.equal(source, module)
  assert.ok(!existsSync(ran) && !existsSync('ran'))
})

fault('2: ";" or "$()" in a name runs nothing', async ({ stage, source, module, syncline }) => {
  for (const name of [';touch ran;', '$(touch ran)', '|touch ran', '&touch ran&', '\ntouch ran\n', '-e touch ran'])
    writeFileSync(`${source}/${name}`, name)
  await syncline.equal(source, module)
  assert.ok(!existsSync(stage.path('ran')) && !existsSync('ran'))
})

fault('3: a backslash in a name', async ({ source, module, syncline }) => {
  for (const name of ['back\\slash', '\\', '\\n', 'end\\', '\\*']) writeFileSync(`${source}/${name}`, name)
  await syncline.equal(source, module)
  for (const name of ['back\\slash', '\\', '\\*']) unlinkSync(`${source}/${name}`)
  await syncline.equal(source, module)
})

for (const [number, name] of [
  [4, '*'],
  [5, '--exclude=zzz'],
] as const) {
  fault(`${number}: a file called ${name} is removed: nothing else is`, async ({ source, module, syncline }) => {
    writeFileSync(`${source}/${name}`, 'x')
    writeFileSync(`${source}/other`, 'x')
    await syncline.equal(source, module)
    writeFileSync(`${module}/only at the target`, 'precious')
    unlinkSync(`${source}/${name}`)
    unlinkSync(`${source}/other`)
    await until('it is gone', () => !existsSync(`${module}/${name}`) && !existsSync(`${module}/other`))
    await syncline.reaches('nothing is owed', ({ owed }) => owed === 0)
    assert.equal(readFileSync(`${module}/only at the target`, 'utf8'), 'precious')
  })
}

fault('6: dot files travel, and a rename to one is not a deletion', async ({ source, module, syncline }) => {
  writeFileSync(`${source}/.htaccess`, 'deny')
  renameSync(`${source}/one`, `${source}/.one`)
  await syncline.equal(source, module)
  assert.ok(existsSync(`${module}/.one`))
})

fault('7: symlinks, hard links and FIFOs are sent by their own event', async ({ source, module, syncline }) => {
  symlinkSync('one', `${source}/symlink`)
  linkSync(`${source}/one`, `${source}/hard link`)
  execFileSync('mkfifo', [`${source}/fifo`])
  await syncline.equal(source, module)
})

fault(
  '8: an upload, and a deletion while it runs, leave no file behind',
  async ({ source, module, syncline }) => {
    for (let i = 0; i < 3; i++) {
      writeFileSync(`${source}/upload`, content(3_000_000, i))
      await sleep(300)
      unlinkSync(`${source}/upload`)
      await syncline.equal(source, module)
    }
    assert.ok(!existsSync(`${module}/upload`))
  },
  { params: '-a --bwlimit=4M' },
)

fault(
  '9: a slow upload of one version, then another moved over it: the newer one wins',
  async ({ source, module, syncline }) => {
    writeFileSync(`${source}/v`, content(4_000_000, 1))
    await sleep(200)
    writeFileSync(`${source}/v2`, 'the new version')
    renameSync(`${source}/v2`, `${source}/v`)
    await syncline.equal(source, module)
    await sleep(500)
    assert.equal(readFileSync(`${module}/v`, 'utf8'), 'the new version')
  },
  { params: '-a --bwlimit=4M' },
)

fault('10: a file restored with an older time travels; with -u check says that it does not', async (set) => {
  const { source, module, syncline } = set
  writeFileSync(`${source}/restored`, 'new')
  await syncline.equal(source, module)
  writeFileSync(`${source}/backup`, 'old')
  utimesSync(`${source}/backup`, 1_000_000_000, 1_000_000_000)
  renameSync(`${source}/backup`, `${source}/restored`)
  await syncline.equal(source, module)
  const { stdout } = await run(['check', confxml(set, { params: '-artuz' })])
  assert.match(stdout, /Note: -u .*never sent/)
})

const SYSCTL = '/proc/sys/fs/inotify'

/** Lowers a limit of the kernel for the time of a test. Whoever is not root cannot raise it again. */
function lowered(stage: Scene['stage'], name: string, value: number): void {
  const before = readFileSync(`${SYSCTL}/${name}`, 'utf8')
  stage.defer(() => writeFileSync(`${SYSCTL}/${name}`, before))
  writeFileSync(`${SYSCTL}/${name}`, `${value}`)
}

const NOBODY = 65_534

/** Not as root, who would raise the limit: the files are that user's, and so is the state. */
async function asNobody(set: Scene): Promise<Syncline> {
  const { stage, source } = set
  execFileSync('chmod', ['755', stage.root])
  execFileSync('chown', ['-hR', `${NOBODY}:${NOBODY}`, source])
  chownSync(stage.dir('state'), NOBODY, NOBODY)
  const file = confxml(set, { switches: { attrib: true } })
  return Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'], user: NOBODY })
}

test(
  "11: the kernel's queue overflows: everything is looked at, nothing is lost",
  scene(async (set) => {
    lowered(set.stage, 'max_queued_events', 100)
    const { source, module } = set
    const syncline = await asNobody(set)
    await syncline.equal(source, module)
    syncline.signal('SIGSTOP')
    for (let i = 0; i < 1000; i++) writeFileSync(`${source}/f${i}`, `${i}`)
    for (let i = 0; i < 500; i++) unlinkSync(`${source}/f${i}`)
    execFileSync('chown', ['-hR', `${NOBODY}:${NOBODY}`, source])
    syncline.signal('SIGCONT')
    await syncline.equal(source, module)
    assert.equal(syncline.stderr.match(/queue was full/g)?.length, 1, syncline.stderr)
  }),
)

fault('12: mkdir, fill and rename at once', async ({ source, module, syncline }) => {
  for (let i = 0; i < 50; i++) {
    mkdirSync(`${source}/new-${i}/inner`, { recursive: true })
    for (let k = 0; k < 5; k++) writeFileSync(`${source}/new-${i}/inner/${k}`, `${k}`)
    renameSync(`${source}/new-${i}`, `${source}/renamed-${i}`)
    writeFileSync(`${source}/renamed-${i}/later`, 'later')
  }
  await syncline.equal(source, module)
})

fault('13: rm -rf and a new directory of the same name: no stale files', async ({ source, module, syncline }) => {
  for (let i = 0; i < 20; i++) {
    rmSync(`${source}/d`, { recursive: true, force: true })
    mkdirSync(`${source}/d`)
    writeFileSync(`${source}/d/${i}`, `${i}`)
    await sleep(i % 3)
  }
  await syncline.equal(source, module)
})

test(
  '14: the limit of watches is reached: the log and the status say so with the mend, and what is not watched is polled',
  scene(async (set) => {
    const { source, module } = set
    for (let i = 0; i < 60; i++) mkdirSync(`${source}/d${i}`)
    lowered(set.stage, 'max_user_watches', 40)
    const syncline = await asNobody(set)
    await syncline.equal(source, module)
    assert.match(syncline.stderr, /max_user_watches/)
    const { stdout } = await run(['status', `--state-dir=${syncline.stateDir}`])
    assert.match(stdout, /WARNING \d+ directories could not be watched/)
    for (let i = 0; i < 60; i++) writeFileSync(`${source}/d${i}/f`, `${i}`)
    execFileSync('chown', ['-hR', `${NOBODY}:${NOBODY}`, source])
    await syncline.equal(source, module, { patienceMs: 90_000 })
  }),
)

test(
  '15: what changes while the full sync runs is not lost',
  scene(async (set) => {
    const { stage, source, module } = set
    for (let i = 0; i < 2000; i++) writeFileSync(`${source}/f${i}`, content(2000, i))
    const syncline = await Syncline.startFrom(stage, confxml(set), ['m'], { sersync: ['-r'], early: true })
    for (let i = 0; i < 200; i++) {
      writeFileSync(`${source}/f${i * 10}`, 'changed')
      mkdirSync(`${source}/d${i}`)
      writeFileSync(`${source}/d${i}/new`, 'new')
      await sleep(5)
    }
    await syncline.mirroring()
    await syncline.equal(source, module)
  }),
)

fault('16: the root is deleted and made again: it halts, says so, and goes on when told', async (set) => {
  const { source, module, syncline } = set
  renameSync(source, `${source}.old`) // in one step: a slow removal would be so many deletions before
  rmSync(`${source}.old`, { recursive: true })
  mkdirSync(source)
  await syncline.reaches('it is halted', ({ state }) => state === 'halted')
  assert.ok(existsSync(`${module}/one`), 'the target keeps what it has')
  writeFileSync(`${source}/afresh`, 'new')
  await syncline.resume()
  await syncline.equal(source, module)
  writeFileSync(`${source}/later`, 'new')
  await syncline.equal(source, module)
})

test(
  '17: one slow target of two delays the other by nothing',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const slow = await Daemon.start(stage, { modules: { m: stage.path('slow') } })
    const quick = await Daemon.start(stage, { modules: { m: stage.path('quick') } })
    const file = stage.path('syncline.yaml')
    writeFileSync(file, `sources: [{path: ${source}, targets: ['${slow.url('m')}', '${quick.url('m')}']}]`)
    const syncline = await Syncline.startFrom(stage, file, ['m', 'm'])
    await syncline.equal(source, stage.path('slow'))
    slow.pause()
    for (let i = 0; i < 100; i++) writeFileSync(`${source}/f${i}`, `${i}`)
    await syncline.equal(source, stage.path('quick'), { target: 1 })
    slow.resume()
    await syncline.equal(source, stage.path('slow'))
  }),
)

test(
  '18: what was queued survives kill -9 and a start without a full sync',
  scene(async (set) => {
    const { stage, source, module, daemon } = set
    const file = confxml(set)
    const first = await Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'] })
    await first.equal(source, module)
    await daemon.stop()
    for (let i = 0; i < 100; i++) writeFileSync(`${source}/f${i}`, `${i}`)
    unlinkSync(`${source}/one`)
    await first.reaches('all is noticed', ({ owed }) => owed >= 101)
    await first.kill()
    await daemon.start()
    const second = await Syncline.startFrom(stage, file, ['m'], { sersync: [], stateDir: first.stateDir })
    await second.equal(source, module)
  }),
)

fault('19: 200 deletions, and 30 writes to one file, take few sessions', async (set) => {
  const { source, module, daemon, syncline } = set
  for (let i = 0; i < 200; i++) writeFileSync(`${source}/f${i}`, `${i}`)
  await syncline.equal(source, module)
  const before = daemon.logged('receiving file list')
  for (let i = 0; i < 200; i++) unlinkSync(`${source}/f${i}`)
  for (let i = 0; i < 30; i++) writeFileSync(`${source}/busy`, `${i}`)
  await syncline.equal(source, module)
  const sessions = daemon.logged('receiving file list') - before
  assert.ok(sessions <= 60, `${sessions} sessions for 230 changes`)
})

fault('lsyncd: a name with a wildcard and a backslash', async ({ source, module, syncline }) => {
  for (const name of ['a\\*b', '[x]\\?', '*\\', '\\[a-z]*']) writeFileSync(`${source}/${name}`, name)
  await syncline.equal(source, module)
})

fault('lsyncd: exit 23 is not dropped in silence', async ({ source, module, syncline }) => {
  writeFileSync(`${module}/stuck`, 'nobody may change it')
  execFileSync('chattr', ['+i', `${module}/stuck`])
  try {
    writeFileSync(`${source}/stuck`, 'changed')
    writeFileSync(`${source}/beside`, 'not held up')
    const { failures } = await syncline.reaches('the failure is shown', (target) => target.failures.length > 0)
    assert.equal(failures[0].path, 'stuck')
    await until('the other is there', () => existsSync(`${module}/beside`))
  } finally {
    execFileSync('chattr', ['-i', `${module}/stuck`])
  }
  await syncline.equal(source, module)
})

fault('lsyncd: an error that nobody knows ends nothing', async ({ source, module, daemon, syncline }) => {
  await daemon.stop()
  const strange = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.resume()
    socket.end('@RSYNCD: 31.0 sha512 md5\n@ERROR: the moon is in the wrong phase (code 77)\n')
  }).listen(daemon.port, '127.0.0.1')
  try {
    writeFileSync(`${source}/new`, 'new')
    await syncline.reaches('the error is shown', (target) => /moon/.test(target.lastError ?? ''))
  } finally {
    await new Promise((resolve) => strange.close(resolve))
  }
  await daemon.start()
  await syncline.equal(source, module)
})
