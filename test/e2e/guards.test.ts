import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { test } from 'node:test'
import { sleep, until } from '../support/eventually.js'
import { type Stage, staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

async function guarding(stage: Stage, guard: string) {
  const config = stage.path('guards.yaml')
  fs.writeFileSync(config, `guards: [${guard}]`)
  const syncline = await Syncline.startFrom(stage, config, [], { early: true, stateDir: stage.dir('state') })
  await until('it guards', () => syncline.stdout.includes('guarding'), { problem: () => syncline.stderr })
  const said = (pattern: RegExp) =>
    until(`${pattern}`, () => pattern.test(syncline.stderr), { problem: () => syncline.stderr })
  return { config, syncline, said }
}

const etc = (stage: Stage) => {
  const dir = stage.dir('etc')
  fs.writeFileSync(`${dir}/passwd`, 'root:x:0:0\n', { mode: 0o644 })
  fs.writeFileSync(`${dir}/other`, 'not guarded')
  return dir
}

test(
  'each change of a guarded file is logged once, and a command hears of it with the change as JSON; others are not',
  staged(async (stage) => {
    const dir = etc(stage)
    const heard = stage.path('heard')
    const run = `{run: [sh, -c, 'cat >> ${heard}; echo "$1" >> ${heard}', sh, '{path}']}`
    const { said } = await guarding(stage, `{paths: [${dir}/passwd], actions: [${run}]}`)
    // Of what changes again before the command was run it hears once.
    const told = (changes: number) =>
      until(
        `the command heard of ${changes}`,
        () => fs.existsSync(heard) && fs.readFileSync(heard, 'utf8').split('\n').length > 2 * changes,
      )
    fs.writeFileSync(`${dir}/other`, 'changed')
    fs.appendFileSync(`${dir}/passwd`, 'evil:x:0:0\n')
    await said(/guarded: .*passwd was changed/)
    await told(1)
    fs.rmSync(`${dir}/passwd`)
    await said(/guarded: .*passwd was deleted/)
    await told(2)
    fs.writeFileSync(`${dir}/passwd`, 'new')
    await said(/guarded: .*passwd was created/)
    await told(3)
    fs.chmodSync(`${dir}/passwd`, 0o666)
    await told(4)
    const text = fs.readFileSync(heard, 'utf8')
    assert.equal(JSON.parse(text.split('\n')[0]).path, `${dir}/passwd`)
    assert.ok(text.includes('"kind":"deleted"') && !text.includes('other'))
  }),
)

test(
  'restore: content, mode and the file itself come back; somebody who insists is reported and left alone; accept takes what is there',
  staged(async (stage) => {
    const dir = etc(stage)
    const { syncline, said } = await guarding(stage, `{paths: [${dir}/passwd], restore: true}`)
    const back = () =>
      until('it is put back', () => fs.existsSync(`${dir}/passwd`) && text() === 'root:x:0:0\n' && mode() === 0o644)
    const text = () => fs.readFileSync(`${dir}/passwd`, 'utf8')
    const mode = () => fs.statSync(`${dir}/passwd`).mode & 0o777
    fs.appendFileSync(`${dir}/passwd`, 'evil')
    await back()
    fs.rmSync(`${dir}/passwd`)
    await back()
    // In one step, for in between it might be put back.
    fs.symlinkSync(`${dir}/other`, stage.path('link'))
    fs.renameSync(stage.path('link'), `${dir}/passwd`)
    await until('it is a file again', () => !fs.lstatSync(`${dir}/passwd`).isSymbolicLink())
    assert.equal(fs.readFileSync(`${dir}/other`, 'utf8'), 'not guarded', 'nothing was written through the link')
    const isLeft = () => /left alone now/.test(syncline.stderr)
    for (let i = 0; i < 4 && !isLeft(); i++) {
      fs.writeFileSync(`${dir}/passwd`, `evil ${i}`)
      await until('it is put back, or left alone', () => isLeft() || text() === 'root:x:0:0\n')
    }
    await said(/left alone now/)
    await sleep(300)
    fs.writeFileSync(`${dir}/passwd`, 'approved')
    await sleep(200)
    const { code, stdout } = await run(['accept', `--state-dir=${syncline.stateDir}`])
    assert.deepEqual([code, stdout], [0, `accepted ${dir}/passwd\n`])
    fs.writeFileSync(`${dir}/passwd`, 'evil')
    await until('the approved one is back', () => text() === 'approved')
  }),
)

test(
  'what changed while nobody guarded is found at the next start, and put back; a tree, too',
  staged(async (stage) => {
    const tree = stage.dir('tree/sub')
    fs.writeFileSync(`${tree}/a\xff "b"`, 'good')
    fs.mkdirSync(`${tree}/deep`)
    fs.writeFileSync(`${tree}/deep/file`, 'good, too')
    fs.symlinkSync('deep/file', `${tree}/link`)
    const { config, syncline } = await guarding(stage, `{paths: [${stage.path('tree')}], restore: true}`)
    assert.equal(await syncline.stop(), 0)
    fs.writeFileSync(`${tree}/a\xff "b"`, 'bad')
    fs.rmSync(`${tree}/deep`, { recursive: true })
    fs.rmSync(`${tree}/link`)
    fs.writeFileSync(`${tree}/intruder`, 'reported, and left')
    const next = await Syncline.startFrom(stage, config, [], { early: true, stateDir: syncline.stateDir })
    const good = () =>
      fs.readFileSync(`${tree}/a\xff "b"`, 'utf8') === 'good' &&
      fs.existsSync(`${tree}/deep/file`) &&
      fs.existsSync(`${tree}/link`) &&
      fs.readFileSync(`${tree}/link`, 'utf8') === 'good, too'
    await until('it is as it was', good, { problem: () => next.stderr })
    await until('the intruder is reported', () => /intruder was created/.test(next.stderr))
    assert.ok(fs.existsSync(`${tree}/intruder`))
    fs.writeFileSync(`${tree}/deep/file`, 'bad again')
    await until('it is put back', () => fs.readFileSync(`${tree}/deep/file`, 'utf8') === 'good, too')
    assert.equal(await next.stop(), 0)
  }),
)
