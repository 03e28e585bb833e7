import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { freeze } from '../support/mount.js'
import { makeSmall } from '../support/sample.js'
import { confxml, scene } from '../support/sersync.js'
import { staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

test(
  'YAML: several sources, each with targets and options of their own, in one process',
  scene(async ({ stage, source, module, daemon }) => {
    const second = stage.dir('second')
    writeFileSync(`${second}/s`, 'second')
    writeFileSync(`${module}/extra`, 'only here')
    mkdirSync(stage.path('other', 'sub'))
    writeFileSync(stage.path('other', 'sub', 'extra'), 'only here')
    const config = stage.path('syncline.yaml')
    writeFileSync(
      config,
      `sources:
  - path: ${source}
    exclude: ['*.tmp']
    targets: ['${daemon.url('m')}']
  - path: ${second}
    targets:
      - to: ${daemon.url('n', 'sub')}
        delete: false
        bwlimit: 10M
        sessions: 1
`,
    )
    const urls = [daemon.url('m'), daemon.url('n', 'sub')]
    const syncline = await Syncline.startFrom(stage, config, urls)
    writeFileSync(`${source}/new`, 'new')
    writeFileSync(`${second}/new`, 'new too')
    writeFileSync(`${source}/not.tmp`, 'left out')
    await syncline.equal(source, module, { ignore: (path) => path === 'not.tmp' })
    await until('the second arrives', () => existsSync(stage.path('other/sub/new')))
    assert.ok(!existsSync(`${module}/extra`) && !existsSync(`${module}/not.tmp`))
    assert.ok(existsSync(stage.path('other', 'sub', 'extra')), 'delete: false')
    assert.deepEqual((await syncline.status()).map(({ name }) => name).sort(), [...urls].sort())
  }),
)

test(
  'YAML: a scheduled full sync mends what was changed at the target',
  scene(async ({ stage, source, module, daemon }) => {
    const config = stage.path('syncline.yaml')
    writeFileSync(config, `sources: [{path: ${source}, full-sync: every 1s, targets: ['${daemon.url('m')}']}]`)
    const syncline = await Syncline.startFrom(stage, config, [daemon.url('m')])
    await syncline.equal(source, module)
    writeFileSync(`${module}/intruder`, 'somebody wrote this at the target')
    await syncline.equal(source, module)
  }),
)

test(
  "sersync2 -r: one file of sersync's is enough, dot files and special files included",
  scene(async (set) => {
    const { stage, source, module } = set
    const syncline = await Syncline.startFrom(stage, confxml(set), ['m'], { sersync: ['-r', '-n', '8'] })
    await syncline.equal(source, module)
    writeFileSync(`${source}/.hidden`, 'dot')
    writeFileSync(`${source}/name~`, 'tilde')
    writeFileSync(`${source}/4913`, 'vim')
    symlinkSync('4913', `${source}/symlink`)
    mkdirSync(`${source}/deep/er`, { recursive: true })
    writeFileSync(`${source}/deep/er/file`, 'deep')
    await syncline.equal(source, module)
    rmSync(`${source}/deep`, { recursive: true })
    await syncline.equal(source, module)
  }),
)

test(
  'sersync2 without -r compares nothing at the start; with several remotes each gets every change',
  scene(async (set) => {
    const { stage, source, module } = set
    const other = stage.path('other')
    const file = confxml(set, { remotes: ['m', 'n'] })
    await Syncline.startFrom(stage, file, ['m', 'n'], { sersync: [] })
    writeFileSync(`${source}/new`, 'new')
    await until('it arrives at both', () => existsSync(`${module}/new`) && existsSync(`${other}/new`))
    assert.ok(!existsSync(`${module}/one`), 'what was there before is not sent')
  }),
)

test(
  "sersync's filter has one meaning at start-up, at run time and in full syncs, and protects the target",
  scene(async (set) => {
    const { stage, source, module } = set
    for (const base of [source, module]) {
      mkdirSync(`${base}/logs`)
      mkdirSync(`${base}/sub`, { recursive: true })
      writeFileSync(`${base}/logs/only-${base === source ? 'here' : 'there'}`, base)
      writeFileSync(`${base}/sub/${base === source ? 'a' : 'b'}.svn`, base)
    }
    writeFileSync(`${module}/sub/extra`, 'deleted by the full sync')
    mkdirSync(`${module}/gone/inner`, { recursive: true })
    writeFileSync(`${module}/gone/inner/file`, 'deleted with its directory')
    mkdirSync(`${module}/holds`)
    writeFileSync(`${module}/holds/x.svn`, 'protected, and so is its directory')
    const file = confxml(set, { filter: ['(.*)\\.svn', 'logs'] })
    const syncline = await Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'] })
    const ignore = (path: string) => ['logs', 'holds'].includes(path) || path.endsWith('.svn')
    await syncline.equal(source, module, { ignore })
    assert.ok(!existsSync(`${module}/sub/extra`) && !existsSync(`${module}/gone`))
    writeFileSync(`${source}/later.svn`, 'left out at run time')
    writeFileSync(`${source}/logs/later`, 'left out at run time')
    writeFileSync(`${source}/sub/later`, 'sent')
    await syncline.equal(source, module, { ignore })
    for (const kept of ['logs/only-there', 'sub/b.svn', 'holds/x.svn']) assert.ok(existsSync(`${module}/${kept}`), kept)
    for (const hidden of ['logs/only-here', 'logs/later', 'sub/a.svn', 'later.svn'])
      assert.ok(!existsSync(`${module}/${hidden}`), hidden)
  }),
)

test(
  "sersync's switches: delete, attrib and modify",
  scene(async (set) => {
    const { stage, source, module } = set
    const file = confxml(set, { switches: { delete: false, modify: true } })
    const syncline = await Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'] })
    await syncline.equal(source, module)
    chmodSync(`${source}/one`, 0o600)
    rmSync(`${source}/sub/two`)
    // Written without a pause: it arrives before it is closed.
    const writing = setInterval(() => writeFileSync(`${source}/busy`, '.', { flag: 'a' }), 50)
    const fd = openSync(`${source}/open`, 'w')
    const writingOpen = setInterval(() => writeSync(fd, '.'), 50)
    try {
      await until('a file that is never closed arrives', () => existsSync(`${module}/open`), { patienceMs: 20_000 })
    } finally {
      clearInterval(writing)
      clearInterval(writingOpen)
      closeSync(fd)
    }
    await syncline.reaches('nothing is owed', (target) => target.owed === 0)
    assert.ok(existsSync(`${module}/sub/two`), 'delete is off')
    assert.notEqual(statSync(`${module}/one`).mode & 0o777, 0o600, 'attrib is off')
  }),
)

test(
  'the fail log lists what is owed, readable to nobody else, and goes when all is well',
  scene(async (set) => {
    const { stage, source, module } = set
    const failLog = stage.path('rsync_fail_log.sh')
    const file = confxml(set, { failLog })
    const syncline = await Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'] })
    await syncline.equal(source, module)
    await set.daemon.stop()
    const fail = "quoted'`name`\n"
    writeFileSync(`${source}/${fail}`, 'x'.repeat(10))
    chmodSync(`${source}/${fail}`, 0o644)
    await set.daemon.start()
    await syncline.equal(source, module)
    await until('nothing is listed', () => !existsSync(failLog))
    writeFileSync(`${module}/busy`, 'nobody may change it')
    const thaw = freeze(stage, `${module}/busy`)
    writeFileSync(`${source}/busy`, 'a file')
    await until(
      'the failure is written down',
      () => existsSync(failLog) && readFileSync(failLog, 'utf8').includes('busy'),
    )
    assert.equal(statSync(failLog).mode & 0o777, 0o600)
    const [target, path, reason] = JSON.parse(readFileSync(failLog, 'utf8').split('\n')[0]) as string[]
    assert.match(`${target} ${path} ${reason}`, /m busy .+/)
    thaw()
    await syncline.equal(source, module)
    await until('the list is gone', () => !existsSync(failLog))
  }),
)

/** Node writes no GBK; these two characters are all that is needed. */
function inGbk(text: string): Buffer {
  const bytes = text.replace('监听地址', '').replaceAll('数据', '\xca\xfd\xbe\xdd')
  return Buffer.from(bytes, 'latin1')
}

test(
  'GBK, UTF-8 and a declaration that says ISO-8859-1: the path is read as it was meant',
  staged(async (stage) => {
    const source = stage.dir('数据')
    const daemon = await Daemon.start(stage, { modules: { m: stage.path('module') } })
    for (const encoding of ['UTF-8', 'ISO-8859-1', 'GBK']) {
      const file = confxml({ stage, source, daemon, module: '' }, { encoding })
      if (encoding === 'GBK') writeFileSync(file, inGbk(readFileSync(file, 'utf8')))
      const { code, stdout, stderr } = await run(['check', file])
      assert.equal(code, 0, stderr)
      assert.ok(stdout.includes('数据'), `${encoding}: ${stdout}`)
    }
  }),
)

test(
  'check and import: a file and its import mean the same',
  scene(async (set) => {
    const file = confxml(set, {
      filter: ['(.*)\\.gz', '^static/*'],
      params: '-artuz --bwlimit=200 --exclude=&quot;*.log&quot;',
    })
    const imported = await run(['import', file])
    assert.equal(imported.code, 0, imported.stderr)
    assert.match(imported.stdout, /^# .*dot|^# -u in params/m)
    const yaml = set.stage.path('imported.yaml')
    writeFileSync(yaml, imported.stdout)
    const words = async (name: string) =>
      (await run(['check', name])).stdout
        .split('\n')
        .filter((line) => line !== '' && !/^Note|is valid|^The status/.test(line))
    const meant = await words(file)
    assert.ok(meant.length > 5)
    assert.deepEqual(await words(yaml), meant)
  }),
)

const MISTAKES: Record<string, { wrong: [string | RegExp, string]; says: RegExp }> = {
  'an element that is not closed': { wrong: ['</rsync>', ''], says: /:\d+:\d+: .*rsync/ },
  'a switch that is neither true nor false': {
    wrong: ['<ssh start="false"', '<ssh start="no"'],
    says: /:\d+:\d+: <ssh>: start="no"/,
  },
  'no remote': { wrong: [/<remote ip="127[^>]*>/, ''], says: /:\d+:\d+: <localpath>: .*remote/ },
  'a remote without an address': { wrong: ['ip="127.0.0.1" ', ''], says: /:\d+:\d+: <remote>: ip=/ },
  'a directory that is not there': { wrong: ['watch="/', 'watch="/nosuch/'], says: /:\d+:\d+: <localpath>: .*nosuch/ },
  'an rsync option that we do not know': { wrong: ['-az', '-az --foo=1'], says: /:\d+:\d+: <commonParams>: .*--foo/ },
  'a port that is none': { wrong: [/port="\d+"\/>/, 'port="99999"/>'], says: /:\d+:\d+: <userDefinedPort>: .*99999/ },
  'a switch without which nothing would arrive': {
    wrong: ['<closeWrite start="true"', '<closeWrite start="false"'],
    says: /:\d+:\d+: <closeWrite>: /,
  },
  'an element that is written wrong': {
    wrong: ['<delete ', '<Delete '],
    says: /:\d+:\d+: <Delete>: .*known are delete/,
  },
  'a time-out out of bounds': {
    wrong: ['-az', '-az --timeout=99999999999'],
    says: /:\d+:\d+: <commonParams>: --timeout=/,
  },
  'an expression that is none': {
    wrong: ['<filter start="false">', '<filter start="true"><exclude expression="*.gz"/>'],
    says: /:\d+:\d+: <exclude>: .*\*\.gz/,
  },
}

for (const [what, { wrong, says }] of Object.entries(MISTAKES)) {
  test(
    `confxml.xml with ${what} is refused with file, line and column`,
    scene(async (set) => {
      const file = confxml(set)
      const text = readFileSync(file, 'utf8')
      const changed = text.replace(wrong[0], wrong[1])
      assert.notEqual(changed, text)
      writeFileSync(file, changed)
      const { code, stderr } = await run(['check', file])
      assert.notEqual(code, 0)
      assert.match(stderr, says)
      assert.ok(stderr.includes(file))
      assert.equal(stderr.trimEnd().split('\n').length, 1)
    }),
  )
}

const YAML_MISTAKES: Record<string, { yaml: string; says: RegExp }> = {
  'an unknown key': {
    yaml: 'sources:\n  - path: SRC\n    targets: [a::m]\n    exclud: [x]\n',
    says: /:4:\d+: sources\[0\]\.exclud/,
  },
  'an unknown key of a target': {
    yaml: 'sources:\n  - path: SRC\n    targets:\n      - to: a::m\n        delte: false\n',
    says: /:5:\d+: sources\[0\]\.targets\[0\]\.delte/,
  },
  'no target': { yaml: 'sources:\n  - path: SRC\n    targets: []\n', says: /:3:\d+: sources\[0\]\.targets/ },
  'a destination that is none': {
    yaml: 'sources:\n  - path: SRC\n    targets: [a]\n',
    says: /:3:\d+: sources\[0\]\.targets\[0\]: /,
  },
  'a schedule that is none': {
    yaml: 'sources:\n  - path: SRC\n    full-sync: sometimes\n    targets: [a::m]\n',
    says: /:3:\d+: sources\[0\]\.full-sync: .*sometimes/,
  },
  'the same target twice': {
    yaml: 'sources:\n  - path: SRC\n    targets: [a::m, a::m]\n',
    says: /a::m and a::m are the same place/,
  },
  'two sources that go to one place': {
    yaml: 'sources:\n  - path: SRC\n    targets: [127.0.0.1::m/a]\n  - path: /etc\n    targets: ["rsync://127.0.0.1:873/m"]\n',
    says: /same place/,
  },
  'a password from two places': {
    yaml: 'sources:\n  - path: SRC\n    targets: [{to: a::m, password-env: A, password-credential: b}]\n',
    says: /:3:\d+: .*give one of/,
  },
  'an environment variable that is none': {
    yaml: 'sources:\n  - path: SRC\n    targets: [{to: a::m, password-env: __proto__}]\n',
    says: /:3:\d+: .*__proto__/,
  },
  'a schedule that never comes': {
    yaml: 'sources:\n  - path: SRC\n    full-sync: 0 0 30 2 *\n    targets: [a::m]\n',
    says: /:3:\d+: .*never/,
  },
  'a tag that nobody knows': { yaml: 'sources: !!js/function x\n', says: /:1:\d+: / },
  'no content': { yaml: '', says: /:1:1: / },
  'broken syntax': { yaml: 'sources:\n - path: SRC\n    targets: [a::m]\n', says: /:2:\d+: / },
  'aliases without end': {
    yaml: `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`,
    says: /./,
  },
}

for (const [what, { yaml, says }] of Object.entries(YAML_MISTAKES)) {
  test(
    `YAML with ${what} is refused with file, line and column`,
    staged(async (stage) => {
      const file = stage.path('syncline.yaml')
      writeFileSync(file, yaml.replaceAll('SRC', stage.dir('source')))
      const { code, stderr } = await run(['check', file])
      assert.equal(code, 1, stderr)
      assert.match(stderr, says)
      assert.ok(stderr.includes(file))
      assert.equal(stderr.trimEnd().split('\n').length, 1)
    }),
  )
}

test(
  'a password comes from the environment or from a systemd credential, for each target its own',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const secrets = stage.path('secrets')
    writeFileSync(secrets, 'one:first\ntwo:second\n', { mode: 0o600 })
    const module = (user: string) => ({ path: stage.path(user), 'auth users': user, 'secrets file': secrets })
    const daemon = await Daemon.start(stage, { modules: { a: module('one'), b: module('two') } })
    const credentials = stage.dir('credentials')
    writeFileSync(`${credentials}/backup`, 'second\n', { mode: 0o440 })
    const config = stage.path('syncline.yaml')
    writeFileSync(
      config,
      `sources:
  - path: ${source}
    targets:
      - {to: '${daemon.url('a', '', 'one')}', password-env: FIRST}
      - {to: '${daemon.url('b', '', 'two')}', password-credential: backup}
`,
    )
    const env = { FIRST: 'first', CREDENTIALS_DIRECTORY: credentials }
    const syncline = await Syncline.startFrom(stage, config, ['a', 'b'], { env })
    await syncline.equal(source, stage.path('one'))
    await syncline.equal(source, stage.path('two'), { target: 1 })
  }),
)

test(
  'a configuration that is no file is refused at once, and import refuses YAML',
  staged(async (stage) => {
    const fifo = stage.path('fifo')
    execFileSync('mkfifo', [fifo])
    for (const file of ['/dev/zero', fifo, stage.root]) {
      const { code, stderr } = await run(['check', file])
      assert.equal(code, 1)
      assert.match(stderr, /not a file|directory/)
    }
    const yaml = stage.path('syncline.yaml')
    writeFileSync(yaml, `sources: [{path: ${stage.dir('source')}, targets: [a::m]}]`)
    assert.equal((await run(['import', yaml])).code, 1)
  }),
)

test(
  'a file name cannot make an expression of the filter take long',
  scene(async (set) => {
    const { stage, source, module } = set
    const file = confxml(set, { filter: ['(.*a)*b'] })
    const syncline = await Syncline.startFrom(stage, file, ['m'], { sersync: ['-r'] })
    writeFileSync(`${source}/${'a'.repeat(200)}c`, 'x')
    writeFileSync(`${source}/after`, 'x')
    await syncline.equal(source, module)
  }),
)

test(
  'SIGHUP with a log file whose directory is gone ends nothing; nor is another file taken for a pid file',
  scene(async ({ stage, source, module, daemon }) => {
    const log = stage.dir('log')
    const pid = stage.path('pid')
    const config = stage.path('syncline.yaml')
    writeFileSync(config, `sources: [{path: ${source}, targets: ['${daemon.url('m')}']}]\nlog-file: ${log}/log\n`)
    const syncline = await Syncline.startFrom(stage, config, ['m'], { options: [`--pid-file=${pid}`] })
    rmSync(log, { recursive: true })
    syncline.signal('SIGHUP')
    writeFileSync(`${source}/new`, 'new')
    await syncline.equal(source, module)
    assert.equal(await syncline.stop(), 0)
    assert.ok(!existsSync(pid))
    stage.dir('log')
    const { code, stderr } = await run(['-c', config, `--pid-file=${config}`, `--state-dir=${stage.dir('state')}`])
    assert.equal(code, 1)
    assert.match(stderr, /holds no process id/)
    assert.ok(readFileSync(config, 'utf8').includes('sources'))
  }),
)

test(
  'update: what is newer at the target stays, also when a change arrives alone',
  scene(async ({ stage, source, module, daemon }) => {
    const config = stage.path('syncline.yaml')
    writeFileSync(config, `sources: [{path: ${source}, targets: [{to: '${daemon.url('m')}', update: true}]}]`)
    const syncline = await Syncline.startFrom(stage, config, ['m'])
    await syncline.equal(source, module)
    writeFileSync(`${module}/one`, 'newer at the target')
    utimesSync(`${module}/one`, 2_000_000_000, 2_000_000_000)
    writeFileSync(`${source}/one`, 'changed at the source')
    await sleep(200) // alone, so that it could go ahead of its request
    writeFileSync(`${source}/after`, 'x')
    await until('the next one arrives', () => existsSync(`${module}/after`))
    await syncline.reaches('nothing is owed', ({ owed }) => owed === 0)
    assert.equal(readFileSync(`${module}/one`, 'utf8'), 'newer at the target')
  }),
)
