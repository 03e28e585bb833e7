import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { parseOperand } from '../src/operand.js'
import { OPTIONS } from '../src/option-table.js'
import { formatHas, parseInvocation, UsageError } from '../src/options.js'
import { Refusals } from '../src/refuse.js'
import { serverArguments } from '../src/server-options.js'
import { helpText, versionText } from '../src/usage.js'
import { temporaryDirectory } from './stage.js'
import { RSYNCS, VERSIONS } from './stock.js'

const run = promisify(execFile)
const words = (line: string) => line.split(' ').filter((word) => word !== '')
const read = (line: string, env: NodeJS.ProcessEnv = {}) => parseInvocation(words(line), env)
const settings = (line: string) => read(`${line} src dst`).settings

/** What our client says to a command line that makes no sense, and how it ends. */
function complaint(args: readonly string[]): { said: string; status: number } {
  try {
    parseInvocation(args, {})
    return { said: '', status: 0 }
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    return { said: error.message.trimEnd(), status: error.exitCode }
  }
}

test('command lines that make no sense: same text and status as stock rsync', () => {
  const long = (option: string, length: number) => `${option}=${'x'.repeat(length)} a b`
  const lines = [
    '--foo a b',
    '--verbos a b',
    '--no-a a b',
    '--no-L a b',
    '-Y a b',
    '-aY a b',
    '-a--foo a b',
    '--partial=x a b',
    '--del=1 a b',
    '-B',
    '-aB',
    '--port',
    '--max-delete=x a b',
    '--max-delete x b',
    '--timeout=5s a b',
    '--timeout=0x a b',
    '--timeout=09 a b',
    '--timeout=99999999999 a b',
    '-@x a b',
    '-B x a b',
    '-B1g a b',
    '--block-size=200k a b',
    '--max-size=x a b',
    '--max-size=1.5.5 a b',
    '--max-size=5m-2 a b',
    '--max-size=+1 a b',
    '--max-size=-1 a b',
    '--min-size=-5k a b',
    '--min-size=- a b',
    '--min-size=5kx a b',
    '--min-size=99999999999999p a b',
    '--bwlimit=x a b',
    '--bwlimit=511b a b',
    '--bwlimit=0.1 a b',
    '--cc=foo a b',
    '--cc=md5, a b',
    '--cc=, a b',
    '--cc=foo,md5 a b',
    '--zc=foo a b',
    '--info=foo a b',
    '--info=9 a b',
    '--info=progress,2 a b',
    '--crtimes a b',
    '-N a b',
    '--delete a b',
    '-d --no-d --delete-excluded a b',
    '-r --delete-after --delete-before a b',
    '-r --del --delete-before a b',
    '-b --suffix= a b',
    '-b --suffix=a/b a b',
    '--backup-dir=. a b',
    long('--backup-dir', 3970),
    long('--temp-dir', 4090),
    '--append -W a b',
    '--inplace --partial-dir=x a b',
    '--append --partial-dir=x a b',
    '--inplace --delay-updates a b',
    '--link-dest=a --copy-dest=b a b',
    `${'--link-dest=x '.repeat(21)} a b`,
    '--fake-super -XX a b',
    '--chmod=bad a b',
    '--chmod= a b',
    '-s --old-args a b',
    '-Mx a b',
    '--files-from=:x a b',
    '--files-from=g:x a b',
    '--files-from=g:x a h:b',
    '--daemon --foo',
    '--daemon --port=x',
    '--config=x',
    '--no-detach',
    '--server --foo . x',
    '--server --chmod=bad . x',
    '--server --files-from=h:x . x',
  ]
  const ours: Record<string, unknown> = {}
  const stock: Record<string, unknown> = {}
  for (const line of lines) {
    const run = spawnSync(RSYNCS.stock, words(line), { encoding: 'utf8', timeout: 10_000, cwd: '/' })
    const said = run.stderr.split('\n').filter((text) => !/^rsync error: |^rsync: connection unexpectedly/.test(text))
    ours[line] = complaint(words(line))
    stock[line] = { said: said.join('\n').trimEnd(), status: run.status }
  }
  assert.deepEqual(ours, stock)
})

test('too few words, and too many with --files-from: the usage, status 1', () => {
  for (const line of ['--sender a b', '--files-from=x a', '--files-from=x a b c']) {
    const { said, status } = complaint(words(line))
    assert.match(said, /^Usage: rsync \[OPTION\]/m)
    assert.equal(status, 1)
  }
})

test('what rsync knows and we do not is refused as rsync refuses it', () => {
  assert.match(complaint(['-aU', 'a', 'b']).said, /^rsync: This rsync does not support --atimes \(-U\)$/)
  assert.match(complaint(['--iconv=utf8', 'a', 'b']).said, /does not support --iconv$/)
  assert.match(
    complaint(['--server', '-logDtprUe.LsfxCIvu', '.', 'x']).said,
    /^rsync: The server does not support --atimes/,
  )
  assert.deepEqual(complaint(['--zc=zstd', 'a', 'b']), { said: 'unknown compress name: zstd', status: 4 })
  assert.deepEqual(complaint(['--protocol=29', 'a', 'b']), {
    said: '--protocol must be at least 30 on the Client.',
    status: 2,
  })
  assert.deepEqual(complaint(['--server', '--protocol=33', '.', 'b']), {
    said: '--protocol must be no more than 32 on the Server.',
    status: 2,
  })
})

test('the last word on a subject counts', () => {
  const a = settings('-a')
  assert.deepEqual(
    [a.recursive, a.links, a.perms, a.times, a.group, a.owner, a.devices, a.specials, a.hardLinks],
    [true, true, true, true, true, true, true, true, false],
  )
  assert.equal(settings('-a --no-perms').perms, false)
  assert.equal(settings('--no-perms -a').perms, true)
  assert.equal(settings('-a --no-D').devices, false)
  assert.equal(settings('-a --no-recursive -d').dirs, true)
  assert.equal(settings('-vv --no-v -v').verbose, 1)
  assert.equal(settings('--super --fake-super').superUser, false)
  assert.equal(settings('-rtB 4k --no-t').blockSize, 4096)
})

test('words: clusters, values in the same word or the next, operands anywhere, -- ends options', () => {
  assert.deepEqual(read('a -rB700 b -e ssh --temp-dir /x -- -c').operands, ['a', 'b', '-c'])
  const { settings: s, rsh } = read('-rB=700 -e=ssh - b')
  assert.deepEqual([s.recursive, s.blockSize, rsh], [true, 700, 'ssh'])
  assert.deepEqual(read('- b').operands, ['-', 'b'])
  assert.deepEqual(parseInvocation(['--suffix=', '--backup-dir', 'a b', '', 'x'], {}).operands, ['', 'x'])
})

test('what one option says of another', () => {
  assert.deepEqual([settings('-r --delete').deleteWhen, settings('-r --delete').said.deleteWhen], ['during', false])
  assert.equal(settings('-r --delete-delay').deleteWhen, 'delay')
  assert.equal(settings('-r --delete-excluded').deleteWhen, 'during')
  assert.deepEqual([settings('-P').partial, settings('-P').progress], [true, 'file'])
  assert.deepEqual([settings('--append').inplace, settings('--append-verify').append], [true, 'verify'])
  assert.equal(settings('--inplace --partial').partial, false)
  assert.deepEqual([settings('--partial-dir=.x').partial, settings('--delay-updates').partialDir], [true, '.~tmp~'])
  assert.deepEqual([settings('-A').acls, settings('-A').perms], [true, true])
  assert.deepEqual([settings('-b').suffix, settings('-b').omitDirTimes], ['~', true])
  const dir = settings('--backup-dir=./old')
  assert.deepEqual([dir.backup, dir.backupDir, dir.suffix, dir.omitDirTimes], [true, 'old', '', false])
  const list = settings('-a --files-from=x')
  assert.deepEqual([list.recursive, list.dirs, list.relative, list.impliedDirs], [false, true, true, true])
  assert.equal(settings('-r --files-from=x').recursive, true)
  assert.equal(settings('--files-from=x --no-R').relative, false)
  assert.equal(settings('').impliedDirs, false)
  assert.deepEqual(
    [settings('-z').compress, settings('--zl=0').compress, settings('-zz').compressChoice],
    [true, false, 'zlibx'],
  )
  assert.deepEqual(settings('--cc=XXHASH,md5').checksumChoice, ['xxh64', 'md5'])
  assert.equal(settings('--cc=none').wholeFile, true)
  assert.equal(settings('--max-delete=-1').maxDelete, 0)
  assert.equal(settings('--timeout=7').timeoutMs, 7000)
  assert.deepEqual(settings('--link-dest=a --link-dest=b').alternates, { kind: 'link', dirs: ['a', 'b'] })
  assert.deepEqual([read('src').settings.listOnly, read('src').settings.dirs], [true, true])
  assert.equal(settings('').humanReadable, 1)
  assert.equal(settings('-hh').humanReadable, 3)
})

test('filter rules: in order, with those that options imply', () => {
  const rules = (line: string) => settings(line).filterArguments.map(({ option, text }) => ({ option, text }))
  assert.deepEqual(rules('-FF --exclude=a -f -_b --include-from=c -rb --delete'), [
    { option: 'filter', text: ': /.rsync-filter' },
    { option: 'filter', text: '- .rsync-filter' },
    { option: 'exclude', text: 'a' },
    { option: 'filter', text: '-_b' },
    { option: 'include-from', text: 'c' },
    { option: 'filter', text: 'P *~' },
  ])
  assert.deepEqual(rules('--old-dirs'), [{ option: 'filter', text: '- /*/*' }])
})

test('output: -v, -i, --progress, --stats and --info agree on levels and formats', () => {
  const level = (line: string, flag: 'NAME' | 'STATS' | 'PROGRESS' | 'FLIST' | 'NONREG') =>
    settings(line).info.get(flag) ?? 0
  assert.deepEqual([level('', 'NONREG'), level('-v', 'NAME'), level('-vv', 'NAME'), level('-v', 'STATS')], [1, 1, 2, 1])
  assert.deepEqual(
    [level('--stats', 'STATS'), level('-vv --stats', 'STATS'), level('--stats --info=stats0', 'STATS')],
    [2, 3, 0],
  )
  assert.deepEqual(
    [level('--progress', 'NAME'), level('--progress -i', 'NAME'), level('--progress', 'FLIST')],
    [1, 0, 2],
  )
  assert.equal(settings('--info=progress2').progress, 'total')
  assert.equal(settings('--progress --info=progress2').progress, 'total')
  assert.equal(settings('--progress --info=progress0').progress, null)
  assert.equal(settings('').outFormat, null)
  assert.equal(settings('-v').outFormat, '%n%L')
  assert.equal(settings('-v --info=name0').outFormat, null)
  assert.deepEqual([settings('-i').outFormat, settings('-i').itemize, settings('-ii').itemize], ['%i %n%L', 1, 2])
  assert.deepEqual([settings('--out-format=%i').itemize, settings('-ii --out-format=%n').itemize], [1, 0])
  assert.equal(settings('--log-file=x').logFileFormat, '%i %n%L')
  assert.deepEqual(
    ["%'10i", '%-5i', '%%i', '%n', '%i%%'].map((format) => formatHas(format, 'i')),
    [true, true, false, false, true],
  )
})

test('environment: RSYNC_RSH, RSYNC_PARTIAL_DIR, RSYNC_OLD_ARGS, RSYNC_PROTECT_ARGS; a server heeds none', () => {
  const env = { RSYNC_RSH: 'ssh -q', RSYNC_PARTIAL_DIR: '.p', RSYNC_OLD_ARGS: '2', RSYNC_PROTECT_ARGS: '1' }
  assert.equal(read('a b', env).rsh, 'ssh -q')
  assert.equal(read('-e rsh a b', env).rsh, 'rsh')
  assert.equal(read('-P a b', env).settings.partialDir, '.p')
  assert.equal(read('a b', env).settings.partialDir, null)
  assert.equal(read('a b', env).settings.oldArgs, 2)
  assert.deepEqual([read('-s a b', env).settings.oldArgs, read('-s a b', env).settings.secludedArgs], [0, true])
  assert.equal(read('a b', { RSYNC_PROTECT_ARGS: '1' }).settings.secludedArgs, true)
  assert.equal(read('--no-s a b', { RSYNC_PROTECT_ARGS: '1' }).settings.secludedArgs, false)
  const server = read('--server -e.Lsf --partial . x', env)
  assert.deepEqual([server.rsh, server.settings.partialDir, server.settings.secludedArgs], [null, null, false])
})

test('help and version', () => {
  assert.equal(read('--help --foo').help, 'rsync')
  assert.equal(read('-h').help, 'rsync')
  assert.equal(read('-h a').help, null)
  assert.equal(read('--info=help').help, 'info')
  assert.equal(read('--daemon -h').help, 'daemon')
  assert.equal(read('-V').version, true)
  assert.match(versionText(), /^syncline rsync {2}version \d+\.\d+\.\d+ {2}protocol version 32$/m)
  assert.match(helpText('info'), /^PROGRESS {3}1\) of each file/m)
  assert.match(helpText('daemon'), /^--config=FILE/m)
})

test('help names every option that we take, and no other', () => {
  const listed = new Set<string>()
  for (const [, left] of helpText('rsync').matchAll(/^(--?\S.*?)(?: {2,}|$)/gm)) {
    for (const [, name] of left.matchAll(/--?([\w@-]+)/g)) listed.add(name)
  }
  listed.delete('no-OPTION')
  const known = OPTIONS.filter(({ takes }) => takes !== 'unsupported')
  for (const name of listed)
    assert.ok(
      known.some((one) => name === one.name || name === one.short),
      name,
    )
  // Not for people: what clients say to servers, old names, and negations.
  const quiet =
    /^(no-|server$|sender$|daemon$|detach$|config$|dparam$|motd$|implied-dirs$|i-d$|log-format$|protect-args$|remove-sent|cc$|zc$|zl$|old-compress$|new-compress$)/
  for (const { name, short } of known) {
    if (name !== null && !quiet.test(name)) assert.ok(listed.has(name), name)
    if (short !== null) assert.ok(listed.has(short), short)
  }
})

test('daemon: its own options, --server beside it, nothing else', () => {
  const daemon = read('--daemon --config=/c --no-detach --port=8730 --address=::1 -v --log-file=l -6 --sockopts=x')
  assert.deepEqual(
    [daemon.daemon, daemon.config, daemon.detach, daemon.port, daemon.address, daemon.settings.verbose, daemon.family],
    [true, '/c', false, 8730, '::1', 1, 6],
  )
  assert.equal(read('--server --daemon .').server, true)
  assert.throws(() => read('--daemon -a'), /-a: unknown option \(in daemon mode\)/)
  assert.throws(() => parseInvocation(['--server', '--daemon'], {}, { refuseOptions: '' }), /hack rsync thwarted/)
})

test('server: understands what stock clients of three versions send', (t) => {
  const directory = temporaryDirectory(t)
  const [shell, record] = [join(directory, 'shell'), join(directory, 'record')]
  writeFileSync(shell, '#!/bin/sh\nshift 2\nprintf "%s\\0" "$@" > "$RECORD"\nexit 1\n', { mode: 0o755 })
  for (const version of VERSIONS) {
    const run = (line: string, pull: boolean) => {
      const args = ['-e', shell, ...words(line), ...(pull ? ['h:src', 'dst'] : ['src', 'h:dst'])]
      spawnSync(RSYNCS[version], args, { env: { ...process.env, RECORD: record }, cwd: directory, timeout: 10_000 })
      const sent = spawnSync('cat', [record], { encoding: 'utf8' }).stdout.split('\0').slice(0, -1)
      return parseInvocation(sent, {})
    }
    const line = '-avzHAXbnSRm --delete-after --timeout=9 --log-file=l --partial-dir=.p --numeric-ids -i --bwlimit=1m'
    const server = run(line, false)
    const { settings: s } = server
    assert.deepEqual(
      [server.server, server.sender, server.operands, server.capabilities],
      [true, false, ['dst'], 'iLsfxCIvu'],
    )
    assert.deepEqual(
      [
        s.recursive,
        s.hardLinks,
        s.acls,
        s.xattrs,
        s.backup,
        s.dryRun,
        s.sparse,
        s.relative,
        s.pruneEmptyDirs,
        s.compress,
      ],
      [true, true, true, 1, true, true, true, true, true, true],
    )
    assert.deepEqual(
      [s.deleteWhen, s.timeoutMs, s.partialDir, s.numericIds, s.itemize, s.bwlimit, s.logFile, s.protocol],
      ['after', 9000, '.p', true, 1, 1 << 20, null, null],
    )
    assert.equal(run('-r --append-verify -ii', false).settings.append, 'verify')
    assert.equal(run('-r --append -ii', false).settings.itemize, 2)
    const pull = run('-aL --files-from=/dev/null', true)
    assert.deepEqual([pull.sender, pull.settings.filesFrom, pull.settings.from0], [true, '-', true])
  }
})

test('server: what our own client tells it is what was meant', () => {
  const kept = [
    'recursive',
    'dirs',
    'links',
    'perms',
    'owner',
    'group',
    'devices',
    'specials',
    'times',
    'hardLinks',
    'acls',
    'xattrs',
    'checksum',
    'deleteWhen',
    'deleteExcluded',
    'maxDelete',
    'maxSize',
    'minSize',
    'modifyWindow',
    'append',
    'inplace',
    'partial',
    'partialDir',
    'delayUpdates',
    'backup',
    'backupDir',
    'suffix',
    'compress',
    'compressChoice',
    'checksumChoice',
    'bwlimit',
    'timeoutMs',
    'blockSize',
    'sparse',
    'itemize',
    'relative',
    'impliedDirs',
    'superUser',
    'omitDirTimes',
    'existing',
    'alternates',
    'removeSourceFiles',
    'checksumSeed',
    'wholeFile',
    'preallocate',
    'fsync',
  ] as const
  for (const line of [
    '-aHAX --delete -b --max-delete=0 --max-size=1.5m --modify-window=-1 --append-verify -zz --link-dest=a',
    '-rlt --delete-delay --delete-excluded --backup-dir=b --suffix=.x --partial-dir=p --delay-updates --cc=md5,none',
    '-d --delete-before --bwlimit=1m --timeout=3 -B 4k -S -ii -R --no-implied-dirs --super -OJ --existing --zl=3',
    '-rW --inplace --remove-source-files --checksum-seed=9 --preallocate --fsync --min-size=3 --specials',
  ]) {
    const client = settings(line)
    const args = serverArguments(client, { sender: false, daemon: true, paths: ['x'] })
    const server = parseInvocation(args, {}).settings
    for (const key of kept) assert.deepEqual(server[key], client[key], `${line}: ${key}`)
  }
})

test('server: a name behind the `.` is never an option', () => {
  const { operands, settings: s } = read('--server -re.Lsf . -dash --delete -- .')
  assert.deepEqual(operands, ['-dash', '--delete', '--', '.'])
  assert.equal(s.deleteWhen, null)
})

test('secluded arguments: nothing is decided before they have come', () => {
  const first = ['--server', '--sender', '-sre.LsfxCIvu']
  const early = parseInvocation(first, {})
  assert.deepEqual([early.settings.secludedArgs, early.operands], [true, []])
  const { settings: s, operands } = parseInvocation(first, {}, { secluded: ['--suffix', 'a b', '.', 'x y'] })
  assert.deepEqual([s.recursive, s.suffix, operands], [true, 'a b', ['x y']])
})

test('operands: the ways to name another machine', () => {
  const local = (path: string) => ({ kind: 'local', path })
  const shell = (user: string | null, host: string, path: string) => ({ kind: 'shell', user, host, path })
  const daemon = (user: string | null, host: string, port: number | null, path: string) => ({
    kind: 'daemon',
    user,
    host,
    port,
    path,
  })
  const expected = {
    'a/b': local('a/b'),
    './a:b': local('./a:b'),
    '/a:b': local('/a:b'),
    'h:': shell(null, 'h', ''),
    'h:/a:b': shell(null, 'h', '/a:b'),
    'u@h:a': shell('u', 'h', 'a'),
    'u@x@h:a': shell('u@x', 'h', 'a'),
    '[::1]:a': shell(null, '::1', 'a'),
    'u@[fe80::1%2]:a': shell('u', 'fe80::1%2', 'a'),
    ':a': shell(null, '', 'a'),
    'h::': daemon(null, 'h', null, ''),
    'u@h::m/a': daemon('u', 'h', null, 'm/a'),
    '[::1]::m': daemon(null, '::1', null, 'm'),
    '::m/b': daemon(null, '', null, 'm/b'),
    'rsync://h': daemon(null, 'h', null, ''),
    'RSYNC://h/m/a:b': daemon(null, 'h', null, 'm/a:b'),
    'rsync://u@h:8730/m': daemon('u', 'h', 8730, 'm'),
    'rsync://[::1]:8730/m/': daemon(null, '::1', 8730, 'm/'),
    'rsync:/h/m': shell(null, 'rsync', '/h/m'),
  }
  for (const [text, operand] of Object.entries(expected)) assert.deepEqual(parseOperand(text), operand, text)
})

const PATTERNS = [
  'delete',
  '*',
  'c',
  'checksum',
  'D',
  'archive',
  'a !l',
  '* !a !v',
  'delete-before',
  'delete-during',
  'delete-before delete-during',
  'partial',
  'inplace',
  'compress',
  'z',
  'del*',
  '* !delete*',
  'foo d* !delete',
  'dry-run',
  's',
  'log-format',
  'server',
  'backup-dir',
  'no-iconv',
  'hard*links',
  '[ct]',
  'no-W',
  'specials',
  'li?ks mod*',
]
const REQUESTS = [
  '-a',
  '-rc',
  '-D',
  '-r --delete',
  '-r --del',
  '-r --delete-before',
  '-r --delete-excluded',
  '--inplace',
  '--append',
  '-P',
  '-z',
  '--zl=3',
  '-zz',
  '-b --backup-dir=q',
  '-H -t',
  '-S --inplace --no-W',
  '-i --specials',
  '--partial-dir=.',
  '--modify-window=2',
]

/** A refused client waits a moment before it ends. */
const AT_ONCE = 12

test('refuse options: the same refusals as a stock daemon', async (t) => {
  const daemon = stockDaemonWithModules(t)
  const ours: Record<string, string | null> = {}
  const stock: Record<string, string | null> = {}
  // A share of all pairs; which ones is the same in each run.
  const pairs = PATTERNS.flatMap((_, i) => REQUESTS.map((line, j) => ({ i, j, line }))).filter(
    ({ i, j }) => (i + j) % 2,
  )
  const ask = async () => {
    for (let pair = pairs.pop(); pair; pair = pairs.pop()) {
      const key = `${PATTERNS[pair.i]}: ${pair.line}`
      ours[key] = refusal(PATTERNS[pair.i], pair.line)
      stock[key] = await daemon.refusal(pair.i, pair.line)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, ask))
  assert.deepEqual(ours, stock)
})

function refusal(refuseOptions: string, line: string): string | null {
  const args = serverArguments(settings(`-n ${line}`), { sender: false, daemon: true, paths: ['m/'] })
  try {
    parseInvocation(args, {}, { refuseOptions })
    return null
  } catch (error) {
    if (error instanceof UsageError && error.message.includes('refuse')) return error.message
    throw error
  }
}

/** One module for each of PATTERNS, in a daemon that lives for a connection. */
function stockDaemonWithModules(t: TestContext) {
  const home = temporaryDirectory(t)
  mkdirSync(join(home, 'm'))
  const modules = PATTERNS.map(
    (pattern, i) => `[${i}]\npath = ${home}/m\nread only = no\nrefuse options = ${pattern}\n`,
  )
  writeFileSync(join(home, 'conf'), `use chroot = no\nlog file = ${home}/log\n${modules.join('')}`)
  const env = { ...process.env, RSYNC_CONNECT_PROG: `${RSYNCS.stock} --server --daemon --config=${home}/conf .` }
  return {
    async refusal(module: number, line: string): Promise<string | null> {
      const args = ['-n', ...words(line), `${home}/m/`, `h::${module}/`]
      const { stderr } = await run(RSYNCS.stock, args, { env, timeout: 20_000 }).catch((error) => error)
      const said = /^rsync: The server is configured to refuse .*$/m.exec(stderr)?.[0]
      return said?.replace('--(null) (-D)', '-D') ?? null // glibc's idea of a missing name
    },
  }
}

test('refuse options: what a session needs is only refused by its name, what is dangerous unless it is allowed', () => {
  const all = new Refusals('*')
  for (const name of ['rsh', 'server', 'sender', 'secluded-args', 'log-format', 'checksum-seed', 'from0'])
    assert.equal(all.of(name), null, name)
  assert.match(new Refusals('checksum-seed').of('checksum-seed')!, /refuse --checksum-seed$/)
  assert.match(new Refusals('').of('write-devices')!, /refuse --write-devices$/)
  assert.equal(new Refusals('!write-devices').of('write-devices'), null)
  assert.match(new Refusals('!log-file').of('log-file')!, /refuse --log-file$/)
  assert.match(new Refusals('links').ofArchive()!, /refuse --links \(-l\)$/)
  assert.deepEqual(new Refusals(' foo  !bar links').unmatched, ['foo', 'bar'])
  // Stock rsync forgets this one: it never asks of an option that sets a bit.
  assert.match(refusal('delete-missing-args', '--delete-missing-args')!, /refuse --delete-missing-args$/)
})
