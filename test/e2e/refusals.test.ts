import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon, writeSecret } from '../support/daemon.js'
import { makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { type Outcome, run, Syncline } from '../support/syncline.js'
import { snapshot } from '../support/tree.js'

interface Scene {
  source: string
  daemon: Daemon
  stage: Stage
}

interface Refusal {
  /** The command line, without `--state-dir` and `--http`. */
  parameters: (scene: Scene) => string[]
  env?: Record<string, string>
  code: number
  /** What its one line must name. */
  says: RegExp
}

const REFUSALS: Record<string, Refusal> = {
  'a source that does not exist': {
    parameters: ({ source, daemon }) => [`${source}/nosuch`, daemon.url('m')],
    code: 3,
    says: /nosuch/,
  },
  'a source that is a file': {
    parameters: ({ source, daemon }) => [`${source}/one`, daemon.url('m')],
    code: 3,
    says: /one.*directory/i,
  },
  'a destination without a module': {
    parameters: ({ source, daemon }) => [source, `rsync://127.0.0.1:${daemon.port}/`],
    code: 1,
    says: /module/i,
  },
  'a destination whose port is no number': {
    parameters: ({ source }) => [source, 'rsync://127.0.0.1:port/m'],
    code: 1,
    says: /127\.0\.0\.1:port/,
  },
  'a destination without a host': { parameters: ({ source }) => [source, '::m'], code: 1, says: /::m/ },
  'no destination': { parameters: ({ source }) => [source], code: 1, says: /DEST|destination/i },
  'no argument at all': { parameters: () => [], code: 1, says: /SRC|source|usage/i },
  'an unknown option': {
    parameters: ({ source, daemon }) => ['--no-such-option', source, daemon.url('m')],
    code: 1,
    says: /--no-such-option/,
  },
  'an option with a value that is no rate': {
    parameters: ({ source, daemon }) => ['--bwlimit=fast', source, daemon.url('m')],
    code: 1,
    says: /bwlimit.*fast|fast.*bwlimit/,
  },
  'a remote shell with a quotation mark that is not closed': {
    parameters: ({ source }) => ["--rsh=ssh -o 'User x", source, 'host:/path'],
    code: 1,
    says: /--rsh=.*Missing trailing-'/,
  },
  'a wrong password': {
    parameters: ({ source, daemon }) => [source, daemon.url('locked', '', 'user')],
    env: { RSYNC_PASSWORD: 'wrong' },
    code: 5,
    says: /auth.*locked/i,
  },
  'an unknown user': {
    parameters: ({ source, daemon }) => [source, daemon.url('locked', '', 'stranger')],
    env: { RSYNC_PASSWORD: 'right' },
    code: 5,
    says: /auth.*locked/i,
  },
  'no password for a module that wants one': {
    parameters: ({ source, daemon }) => [source, daemon.url('locked', '', 'user')],
    code: 5,
    says: /password/i,
  },
  'an unknown module': {
    parameters: ({ source, daemon }) => [source, daemon.url('nosuch')],
    code: 5,
    says: /nosuch/,
  },
  'a module that is read only': {
    parameters: ({ source, daemon }) => [source, daemon.url('readonly')],
    code: 1,
    says: /read.only/i,
  },
  'a password file that does not exist': {
    parameters: ({ source, daemon, stage }) => [
      `--password-file=${stage.path('nosuch')}`,
      source,
      daemon.url('locked', '', 'user'),
    ],
    code: 1,
    says: /nosuch/,
  },
  'a password file that others can read': {
    parameters: ({ source, daemon, stage }) => [
      `--password-file=${writeSecret(stage.path('open'), 'right', 0o644)}`,
      source,
      daemon.url('locked', '', 'user'),
    ],
    code: 1,
    says: /open.*(0?600|mode|other)/i,
  },
  'a file of patterns that does not exist': {
    parameters: ({ source, daemon, stage }) => [`--exclude-from=${stage.path('nosuch')}`, source, daemon.url('m')],
    code: 1,
    says: /nosuch/,
  },
}

async function makeScene(stage: Stage): Promise<Scene> {
  const source = stage.dir('source')
  makeSmall(source)
  const secrets = writeSecret(stage.path('secrets'), 'user:right')
  const daemon = await Daemon.start(stage, {
    modules: {
      m: stage.path('destination/m'),
      readonly: { path: stage.path('destination/readonly'), 'read only': true },
      locked: { path: stage.path('destination/locked'), 'auth users': 'user', 'secrets file': secrets },
    },
  })
  for (const name of ['m', 'readonly', 'locked']) {
    mkdirSync(stage.path('destination', name, 'directory'))
    writeFileSync(stage.path('destination', name, 'here before'), 'here before')
  }
  return { source, daemon, stage }
}

describe('is refused with the right exit code and one clear line, and changes nothing:', () => {
  for (const [what, { parameters, env, code, says }] of Object.entries(REFUSALS)) {
    test(
      what,
      staged(async (stage) => {
        const scene = await makeScene(stage)
        const everything = () => snapshot(stage.path('destination')) + snapshot(scene.source)
        const before = everything()
        const outcome = await run([`--state-dir=${stage.path('state')}`, '--http=off', ...parameters(scene)], env)
        assertOneLine(outcome)
        assert.match(outcome.stderr, says)
        assert.equal(outcome.code, code, outcome.stderr)
        assert.equal(outcome.stdout, '')
        assert.equal(everything(), before)
      }),
    )
  }
})

function assertOneLine({ stderr }: Outcome): void {
  assert.match(stderr, /^syncline: [^\n]+\n$/)
}

test(
  'the right password from the environment is accepted',
  staged(async (stage) => {
    const { source, daemon } = await makeScene(stage)
    const syncline = await Syncline.start(stage, source, daemon.url('locked', '', 'user'), {
      env: { RSYNC_PASSWORD: 'right' },
    })
    await syncline.equal(source, stage.path('destination/locked'))
  }),
)

test(
  'the right password from a file is accepted, and appears in no output and on no command line',
  staged(async (stage) => {
    const { source, daemon } = await makeScene(stage)
    const file = writeSecret(stage.path('password'), 'right')
    const syncline = await Syncline.start(stage, source, daemon.url('locked', '', 'user'), {
      options: [`--password-file=${file}`, '-v'],
    })
    await syncline.equal(source, stage.path('destination/locked'))
    assert.ok(!`${syncline.stdout}${syncline.stderr}`.includes('right'))
  }),
)

test(
  'a daemon that cannot be reached is no reason to end',
  staged(async (stage) => {
    const { source, daemon } = await makeScene(stage)
    await daemon.stop()
    const syncline = await Syncline.start(stage, source, daemon.url('m'), { early: true })
    const target = await syncline.reaches('backing off', ({ state }) => state === 'backing-off')
    assert.match(target.lastError ?? '', /refused/i)
    await daemon.start()
    await syncline.mirroring()
    await syncline.equal(source, stage.path('destination/m'))
  }),
)

test(
  'a module that becomes read only while mirroring is owed the changes, and gets them when it is writable again',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = { path: stage.path('module'), 'read only': false }
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await daemon.stop()
    module['read only'] = true
    await daemon.start()
    writeFileSync(`${source}/new`, 'new')
    await syncline.reaches('it is shown', ({ owed, lastError }) => owed > 0 && /read.only/i.test(lastError ?? ''))
    assert.ok(syncline.running)
    await daemon.stop()
    module['read only'] = false
    await daemon.start()
    await syncline.equal(source, module.path)
  }),
)
