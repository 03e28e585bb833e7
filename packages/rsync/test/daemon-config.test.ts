import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type DaemonConfig,
  DaemonConfigError,
  entrance,
  expand,
  expandModule,
  loadDaemonConfig,
  noticeLines,
  wantsChroot,
} from '../src/daemon/config.js'
import { REPLY } from '../src/daemon/log.js'
import { configured, StockConfiguration } from './conversation.js'
import { temporaryDirectory } from './stage.js'

/** As guides tell people to write it. */
const ONE_MODULE = `#rsync_config_______________start
##rsyncd.conf start##
uid = rsync
gid = rsync
fake super = yes
use chroot = no
max connections = 200
timeout = 300
pid file = /var/run/rsyncd.pid
lock file = /var/run/rsync.lock
log file = /var/log/rsyncd.log
ignore errors
read only = false
list = false
hosts allow = 192.168.37.0/24
hosts deny = 0.0.0.0/32
auth users = rsync_backup
secrets file = /etc/rsync.password
[backup]
comment = "backup dir by oldboy"
path = /backup
#rsync_config_______________end
`

const TWO_MODULES = `uid=root
gid=root
max connections=36000
use chroot=no
log file=/var/log/rsyncd.log
pid file=/var/run/rsyncd.pid
lock file=/var/run/rsyncd.lock

[webdata]
path=/data/web
comment = web files
ignore errors = yes
read only = no
hosts allow = 10.255.50.63,10.255.50.64
hosts deny = *
reverse lookup = no
list = no

[uploads]
path=/data/uploads/
comment = uploads
ignore errors = yes
read only = no
hosts allow = 10.255.50.63,10.255.50.64
hosts deny = *
reverse lookup = no
list = no
`

test('the one-module file of the guides means what a stock daemon makes of it', (t) => {
  const { globals, defaults, modules, notices } = configured(t, ONE_MODULE)
  assert.equal(globals.pidFile, '/var/run/rsyncd.pid')
  assert.equal(defaults.logFile, '/var/log/rsyncd.log')
  assert.deepEqual([...modules.keys()], ['backup'])
  const backup = modules.get('backup')!
  assert.deepEqual(backup, {
    ...defaults,
    name: 'backup',
    comment: '"backup dir by oldboy"',
    path: '/backup',
  })
  const expected = {
    uid: 'rsync',
    gid: 'rsync',
    fakeSuper: true,
    useChroot: false,
    maxConnections: 200,
    timeout: 300,
    lockFile: '/var/run/rsync.lock',
    readOnly: false,
    list: false,
    hostsAllow: '192.168.37.0/24',
    hostsDeny: '0.0.0.0/32',
    authUsers: 'rsync_backup',
    secretsFile: '/etc/rsync.password',
    strictModes: true,
    ignoreErrors: false, // the bare line sets nothing, and has been like that for as long as there are guides
  }
  for (const [key, value] of Object.entries(expected)) assert.equal(backup[key as keyof typeof backup], value, key)
  assert.deepEqual(
    notices.map(({ line, text, mend }) => ({ line, text, mend })),
    [
      {
        line: 12,
        text: 'params.c:Parameter() - Ignoring badly formed line in config file: ignore errors',
        mend: 'to set it, write "ignore errors = yes"',
      },
    ],
  )
  assert.match(noticeLines(notices[0])[0], /config file: ignore errors \(\/.*rsyncd\.conf:12: to set it, write /)
})

test('so does the two-module file', (t) => {
  const { globals, modules, notices } = configured(t, TWO_MODULES)
  assert.equal(globals.pidFile, '/var/run/rsyncd.pid')
  assert.deepEqual([...modules.keys()], ['webdata', 'uploads'])
  assert.deepEqual(notices, [])
  for (const [name, path] of [
    ['webdata', '/data/web'],
    ['uploads', '/data/uploads'],
  ]) {
    const module = modules.get(name)!
    assert.equal(module.path, path)
    assert.equal(module.maxConnections, 36000)
    assert.equal(module.hostsAllow, '10.255.50.63,10.255.50.64')
    assert.deepEqual(
      [module.ignoreErrors, module.readOnly, module.reverseLookup, module.list, module.useChroot],
      [true, false, false, false, false],
    )
  }
})

const HEAD = 'log file = HOME/log\nreverse lookup = no\nuse chroot = no\nuid = root\ngid = root\npath = HOME/module\n'

/** Files that a configuration may include. */
const INCLUDED: Record<string, string> = {
  'd/b.conf': 'comment = from b\n[b]\n',
  'd/a.conf': '[a]\n',
  'd/.h.conf': '[hidden]\n',
  'd/x.inc': 'comment = inc\n',
  'd/y.txt': '[txt]\n',
  'one.conf': '[in one]\ncomment = one\nlist = yes\n',
  'merged.inc': 'comment = merged\n',
  'module.inc': 'comment = merged\n[in module]\n',
  'unknown.conf': '[u]\n\nfrobnicate = 1\n',
  self: '&include HOME/self\n',
}

/** What both list and log alike. */
const ACCEPTED: Record<string, string> = {
  plain: '[m]\ncomment = a module\n[n]\nlist = no\n[o]\nlist = 0\n[p]\nlist = TRUE\n',
  'a line that sets nothing': '[m]\nignore errors\nlist = yes\n',
  'one at the very end': '[m]\nignore errors',
  'one outside': 'ignore errors\n[m]\n',
  'unknown parameters': 'frobnicate = 3\n[m]\nfrob = 7\n-frob = 1\nread_only = no\n',
  'a global one in a module': '[m]\nport = 44\ncomment = here\n',
  'booleans that are none': 'list = no\n[m]\nlist = perhaps\n[n]\nlist =\n[o]\nlist = unset\n',
  'tristates that are none': '[m]\nuse chroot = perhaps\nmunge symlinks = unset\nnumeric ids = -1\n',
  'blanks and cases': '[  m  x\ty ]  trailing ] text\nC o M\tment   =    it is = here  \n  LIST=Y e s\n',
  'modules that are one': '[m]\ncomment = one\n[n]\n[ M ]\ncomment = two\n',
  'global again': '[m]\ncomment = of m\n[n]\n[ g lobal ]\ncomment = late\nlist = no\n[o]\n',
  'text is late, all else is not': '[m]\n[n]\ncomment = n\n[global]\ncomment = late\nlist = no\n',
  'lines that go on':
    '[m]\ncom\\\nment = on\\\n  e ; not # comment\\\n\\\ntwo\n ; comment \\\n# c\n[n\\\n o]\nlist\\ \n= 1\n',
  'lines that start with a backslash': '[z]\n\\\n\\ comment = bs\n',
  'line ends of Windows': '[m]\r\ncomment = cr\r\nlist = yes\r\n',
  'bytes that are not text': '[m\xe4\xff]\ncomment = \xe4\x80\n',
  variables: '[m]\ncomment=%HOME %lower% %NOSUCHVARIABLE% %PATH%%PATH% 5% %%\nlist = %TEST_YES%\n',
  'a directory of includes': 'comment = top\n&include HOME/d\n[z]\n',
  'an include with an equals sign': '&INCLUDE = HOME/one.conf\n[z]\n',
  'an include in a module': 'comment = top\n[z]\n&include HOME/one.conf\ncomment = after\n[y]\n',
  'a merge in a module': 'comment = top\n[z]\n&merge HOME/merged.inc\nlist = yes\n[y]\n',
  'a merge of a module': 'comment = top\n[z]\n&merge HOME/module.inc\ncomment = after\n[y]\n',
  'a merge outside': 'comment = top\n&merge HOME/merged.inc\n[y]\n',
  'a directory of merges': '&Merge HOME/d\n[y]\n',
  'a module by another name': '[m]\nname = z  z\n[n]\n[Zz]\ncomment = the same\n[global]\nname = x\n[o]\n',
  'almost known parameters': '[m]\n-charset = utf8\nproxy-protocol = yes\npre xfer exec = false\n',
  'something unknown in an include': '[m]\n&include HOME/unknown.conf\n',
}

function prepared(t: TestContext): string {
  const home = temporaryDirectory(t)
  for (const directory of ['d', 'd/dir.conf']) mkdirSync(join(home, directory))
  for (const [name, text] of Object.entries(INCLUDED)) writeFileSync(join(home, name), text.replaceAll('HOME', home))
  return home
}

const listing = ({ modules }: DaemonConfig) =>
  [...modules.values()].filter(({ list }) => list).map((module) => REPLY.module(module.name, expand(module.comment)))

process.env.TEST_YES = 'yes'

for (const [what, text] of Object.entries(ACCEPTED)) {
  test(`rsyncd.conf as stock rsync reads it: ${what}`, async (t) => {
    const stock = await StockConfiguration.start(t, HEAD + text, { home: prepared(t) })
    const { said, log } = await stock.converse({ module: '' })
    const config = loadDaemonConfig(join(stock.home, 'conf'))
    const theirs = said.split('\n').slice(1, -2)
    assert.deepEqual(listing(config), theirs)
    const notices = config.notices.flatMap(({ text }) => text.split('\n'))
    assert.deepEqual(notices, log.slice(0, log.indexOf('connect from UNDETERMINED (127.0.0.1)')))
  })
}

/** What neither loads: which line it is, and what stock rsync logs. */
const REJECTED: Record<string, [line: number, text: string]> = {
  'a slash in a name': [8, '[m]\n[a/b]\n'],
  'no end of a name': [7, '[m\npath = /\n'],
  'no name': [7, '[ ]\n'],
  'no name of a parameter': [8, '[m]\n = 3\n'],
  'an unknown directive': [8, '[m]\n&included HOME/one.conf\n'],
}

for (const [what, [line, text]] of Object.entries(REJECTED)) {
  test(`what stock rsync does not load is refused, and we say where it is: ${what}`, async (t) => {
    const stock = await StockConfiguration.start(t, HEAD + text, { home: prepared(t) })
    const { said, log } = await stock.converse({ module: '' })
    assert.equal(said, '')
    assert.throws(
      () => loadDaemonConfig(join(stock.home, 'conf')),
      (error) => {
        assert.ok(error instanceof DaemonConfigError)
        assert.equal(error.problem, log[0])
        assert.deepEqual({ ...error.place, file: error.place.file }, { ...error.place, line })
        assert.ok(error.message.startsWith(`${stock.home}/conf:${line}: ${error.problem}; `))
        return true
      },
    )
  })
}

test('files that are not there, and files that include themselves', (t) => {
  const home = prepared(t)
  const refuse = (text: string, why: RegExp) => {
    writeFileSync(join(home, 'conf'), text.replaceAll('HOME', home))
    assert.throws(() => loadDaemonConfig(join(home, 'conf')), why)
  }
  refuse(
    '[m]\n&include HOME/nowhere\n',
    /conf:2: unable to stat config file ".*\/nowhere": No such file or directory \(2\)/,
  )
  refuse('&merge HOME/self\n', /self:1: .*self is one file too many; does a file include itself\?/)
  refuse(`x = ${'x'.repeat(1 << 20)}`, /is longer than 1048576 bytes/)
  refuse(`comment = ${'x'.repeat(1 << 17)}`, /conf:1: "comment" is longer than 65536 bytes/)
  refuse(Array.from({ length: 10_001 }, (_, i) => `[${i}]\n`).join(''), /conf:10001: more than 10000 modules/)
  refuse('[m]\ncomment = one\0two\n', /conf:2: there is a NUL byte/)
  assert.throws(() => loadDaemonConfig(join(home, 'gone')), /gone: unable to open config file .*No such file/)
})

test('what would be unsafe to ignore is refused, unless it is off', (t) => {
  const refuse = (text: string, why: RegExp) => assert.throws(() => configured(t, text), why)
  refuse('[m]\npre-xfer exec = /bin/check\n', /conf:2: "pre-xfer exec" is not offered by this daemon; remove the line/)
  refuse('proxy protocol = yes\n', /conf:1: "proxy protocol" is not offered/)
  refuse('[m]\ncharset = utf8\n', /conf:2: "charset" is not offered/)
  refuse('[m]\nopen noatime = yes\n', /"open noatime" is not offered/)
  refuse('port = 70000\n', /conf:1: "port = 70000" is no port/)
  refuse('\nssl certificate = /x.pem\n', /conf:2: TLS takes both/)
  refuse('ssl key = /x.pem\n', /conf:1: TLS takes both/)
  refuse('ssl port = 874\n', /conf:1: TLS takes both/)
  const { notices } = configured(t, 'proxy protocol = no\nsyslog facility = local5\n[m]\nopen noatime = unset\n')
  assert.deepEqual(
    notices.map(({ text, line }) => [line, text]),
    [[2, '"syslog facility" has no effect: syslog is not used']],
  )
})

test('numbers are read as C reads them, and we say so', (t) => {
  const { modules, notices } = configured(
    t,
    '[m]\nmax connections = 3x\ntimeout = soon\nmax verbosity = 99999999999\n[n]\nmax connections = -1\n[o]\ntimeout = 007\n',
  )
  const m = modules.get('m')!
  assert.deepEqual([m.maxConnections, m.timeout, m.maxVerbosity], [3, 0, 0])
  assert.equal(modules.get('n')?.maxConnections, -1)
  assert.equal(modules.get('o')?.timeout, 7)
  assert.deepEqual(
    notices.map(({ line, text }) => [line, text]),
    [
      [2, '"max connections = 3x" is read as 3'],
      [3, '"timeout = soon" is read as 0'],
      [4, '"max verbosity = 99999999999" is read as 0'],
    ],
  )
})

test('every parameter of ours is read', (t) => {
  const sample = (value: unknown) => (typeof value === 'boolean' ? !value : typeof value === 'number' ? 7 : 'x')
  const { globals, defaults } = configured(t, '')
  const label = (key: string) => key.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`)
  const lines = (table: object) =>
    Object.entries(table)
      .filter(([key]) => key !== 'name')
      .map(([key, value]) => `${label(key)} = ${value === null ? 'yes' : sample(value)}\n`)
  const config = configured(t, `${lines(globals).join('')}[m]\n${lines(defaults).join('')}`)
  assert.deepEqual(config.notices, [])
  const module = config.modules.get('m')!
  for (const [table, before] of [[config.globals, globals] as const, [module, defaults] as const])
    for (const [key, value] of Object.entries(before))
      assert.notDeepEqual((table as unknown as Record<string, unknown>)[key], value, key)
})

test('variables are taken from the right place, once', () => {
  const environment = { NAME: '%OTHER%', OTHER: 'x', EMPTY: '' }
  assert.equal(expand('a %NAME% b %EMPTY%%OTHER%% %other% %GONE% %', environment), 'a %OTHER% b x% %other% %GONE% %')
})

test('a user name never brings more variables in', (t) => {
  const { modules } = configured(t, '[%NAME%]\npath = /home/%USER_OF_TEST%/%NAME%\n')
  const module = expandModule(modules.get('%NAME%')!, { USER_OF_TEST: '%NAME%', NAME: 'n' })
  assert.deepEqual([module.name, module.path], ['%NAME%', '/home/%NAME%/n'])
})

test('how a module is entered, with a chroot and without', (t) => {
  const paths = { plain: '/a', inner: '/a/./b/', same: '/a/./.', end: '/a/./', all: '/', inall: '/./a' }
  const sections = Object.entries(paths).map(([name, path]) => `[${name}]\npath = ${path}\n`)
  const { modules } = configured(t, `${sections.join('')}[set]\npath = /a\nmunge symlinks = yes\nnumeric ids = no\n`)
  const enter = (name: string, chroot: boolean) => Object.values(entrance(modules.get(name)!, chroot))
  assert.deepEqual(enter('plain', true), ['/a', '/', false, true])
  assert.deepEqual(enter('plain', false), ['/a', '/', true, false])
  assert.deepEqual(enter('inner', true), ['/a', '/b', true, true])
  assert.deepEqual(enter('inner', false), ['/a/./b', '/', true, false])
  assert.deepEqual(enter('same', true), ['/a', '/', false, true])
  assert.deepEqual(enter('end', true), ['/a/.', '/', false, true])
  assert.deepEqual(enter('all', true), ['/', '/', false, true])
  assert.deepEqual(enter('inall', true), ['/', '/a', true, true])
  assert.deepEqual(enter('set', true), ['/a', '/', true, false])
  assert.deepEqual([...modules.values()].map(wantsChroot), [null, true, true, null, null, true, null])
})
