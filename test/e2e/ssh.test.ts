import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { userInfo } from 'node:os'
import { test } from 'node:test'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { confxml, scene } from '../support/sersync.js'
import { Sshd } from '../support/sshd.js'
import { staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

// HOST:/PATH: the stock rsync's server at the far end of a real sshd.

test(
  'a directory by ssh: equal, each change as it happens, and a single login for all of it',
  staged(async (stage) => {
    const sshd = await Sshd.start(stage)
    const source = stage.dir('source')
    makeSmall(source)
    const there = stage.path("a place with 'quotes', $(touch EXECUTED) and * in it")
    fs.mkdirSync(there)
    const syncline = await Syncline.start(stage, source, `127.0.0.1:${there}/`, {
      options: ['-e', `${sshd.rsh} -o 'ServerAliveInterval 30'`],
    })
    await syncline.equal(source, there)
    for (let i = 0; i < 60; i++) {
      fs.writeFileSync(`${source}/$(touch EXECUTED) ${i}`, content(3000, i))
      if (i % 3 === 0) fs.rmSync(`${source}/$(touch EXECUTED) ${i}`)
      await sleep(10)
    }
    fs.renameSync(`${source}/sub`, `${source}/sub renamed`)
    fs.writeFileSync(`${source}/large`, content(20 << 20))
    await syncline.equal(source, there)
    assert.equal(sshd.logins, 1)
    assert.ok(!fs.readdirSync(there).includes('EXECUTED') && !fs.existsSync('EXECUTED'))
    assert.equal(await syncline.stop(), 0)
    const left = () => spawnSync('pgrep', ['-f', `ssh.*-p ${sshd.port} `], { encoding: 'utf8' }).stdout
    await until('no ssh is left behind', () => left() === '', { problem: left }) // by itself one would stay for 2 minutes
  }),
)

test(
  'the connection is cut: it is made anew, and nothing is lost',
  staged(async (stage) => {
    const sshd = await Sshd.start(stage)
    const source = stage.dir('source')
    makeSmall(source)
    const there = stage.dir('there')
    const user = userInfo().username
    const syncline = await Syncline.start(stage, source, `${user}@127.0.0.1:${there}`, { options: ['-e', sshd.rsh] })
    for (let round = 0; round < 3; round++) {
      fs.writeFileSync(`${source}/large`, content(8 << 20, round))
      await sleep(30)
      sshd.cut()
      fs.writeFileSync(`${source}/while it was cut ${round}`, 'x')
      await syncline.equal(source, there)
    }
  }),
)

test(
  'a key that is refused, no rsync there, a shell that prints: one line each, and the code for it',
  staged(async (stage) => {
    const sshd = await Sshd.start(stage)
    const chatty = await Sshd.start(stage, ['ForceCommand echo hello; sleep 1'], 'chatty')
    const without = await Sshd.start(stage, ['ForceCommand sh -c "rsync-is-not-here --server"'], 'without')
    const source = stage.dir('source')
    const refused = sshd.rsh.replace(/-i \S+/, '-i /dev/null -o IdentitiesOnly=yes')
    for (const [rsh, said] of [
      [refused, /^syncline: ssh 127\.0\.0\.1: .*Permission denied/],
      [without.rsh, /^syncline: ssh 127\.0\.0\.1: .*not found/],
      [chatty.rsh, /does a start-up file of the shell there print something/],
    ] as const) {
      const { code, stderr } = await run([
        `--state-dir=${stage.path('state')}`,
        '-e',
        rsh,
        source,
        `127.0.0.1:${stage.root}/x`,
      ])
      assert.match(stderr, said)
      assert.ok([2, 5].includes(code ?? 0), `exit ${code}: ${stderr}`)
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
    }
  }),
)

test(
  "sersync's ssh mode: name is a path",
  scene(async (at) => {
    const sshd = await Sshd.start(at.stage)
    const file = confxml(at, { remotes: [at.stage.dir('there')] })
    const text = fs.readFileSync(file, 'utf8').replace('<ssh start="false"/>', '<ssh start="true"/>')
    fs.writeFileSync(file, text.replace(/port="\d+"\/><!-- port/, `port="${sshd.port}"/><!-- port`))
    const bin = at.stage.dir('bin') // its ssh has no place for the options that get us in
    fs.writeFileSync(`${bin}/ssh`, `#!/bin/sh\nexec /usr/bin/${sshd.rsh.replace(/ -p \d+/, '')} "$@"\n`, {
      mode: 0o755,
    })
    const env = { PATH: `${bin}:${process.env.PATH}` }
    const there = at.stage.path('there')
    const syncline = await Syncline.startFrom(at.stage, file, [`127.0.0.1:${there}`], { sersync: ['-r'], env })
    await syncline.equal(at.source, there)
    fs.writeFileSync(`${at.source}/new`, 'new')
    await until('it arrives', () => fs.existsSync(`${there}/new`))
    assert.equal(sshd.logins, 1)
    assert.match((await run(['import', file])).stdout, new RegExp(`rsh: ssh -p ${sshd.port}`))
    assert.equal(await syncline.stop(), 0)
  }),
)
