import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import type { Message, Msg, Where } from '../src/output/names.js'
import * as say from '../src/output/names.js'
import { MSG } from '../src/wire/constants.js'
import { type Printed, run, type Spied, Spy, shell, stage } from './output-stock.js'

before(() => {
  process.env.TZ = 'UTC'
})

const ENOENT = 2
const EACCES = 13
const EPERM = 1
const ENOTDIR = 20

/** Each message is a line of its own, on the stream that its code is for. */
function expect({ out, err }: Printed, messages: Message[]): void {
  for (const { code, text } of messages) {
    const stream = code === MSG.INFO || code === MSG.CLIENT ? out : err
    assert.ok(`\n${stream}`.includes(`\n${text}`), `${JSON.stringify(text)} in ${JSON.stringify(stream)}`)
  }
}

const at = (home: string, role: Where['role']): Where => ({ role, directory: home, module: null })

interface Scene {
  what: string
  script?: string
  args: string[]
  /** With only the rights of uid 65534. */
  nobody?: boolean
  says: (home: string) => Message[]
}

const SCENES: Scene[] = [
  {
    what: 'a list and a new destination',
    script: 'touch s/a',
    args: ['-rvv', 's/', 'new'],
    says: () => [
      say.sendingIncremental(),
      say.createdDirectory('new'),
      say.deltaTransmission(true),
      say.matchTotals(0, 0, 0, 0),
    ],
  },
  {
    what: 'a list without incremental recursion',
    args: ['-rv', '--no-inc-recursive', 's/', 'd'],
    says: () => [{ code: MSG.CLIENT, text: say.listBegins('building', false).text + say.listEnds(1, false).text }],
  },
  {
    what: 'its progress',
    script: 'for i in {1..250}; do mkdir s/$i; done',
    args: ['-rP', '--no-inc-recursive', 's/', 'd'],
    says: () => [
      say.listBegins('building', true),
      {
        code: MSG.CLIENT,
        text: [0, 100, 200].map((n) => say.listGrows(n).text).join('') + say.listEnds(251, true).text,
      },
    ],
  },
  {
    what: 'a list of one',
    args: ['-dP', '--no-inc-recursive', 's', 'd'],
    says: () => [{ code: MSG.CLIENT, text: `${say.listGrows(0).text}${say.listEnds(1, true).text}` }],
  },
  {
    what: '--mkpath',
    script: 'touch s/a',
    args: ['-v', '--mkpath', 's/a', 'd/1/2/'],
    says: () => [say.createdDirectories(2, 'd/1/2')],
  },
  {
    what: '--mkpath of one',
    script: 'touch s/a',
    args: ['-v', '--mkpath', 's/a', 'd/1/'],
    says: () => [say.createdDirectories(1, 'd/1')],
  },
  { what: 'a directory without -r', args: ['-v', 's', 'd'], says: () => [say.skippingDirectory('s')] },
  {
    what: 'what is no file',
    script: 'ln -s / s/l; mkfifo s/p',
    args: ['-r', 's/', 'd'],
    says: () => [say.skippingNonRegular('l'), say.skippingNonRegular('p')],
  },
  {
    what: 'what is left as it is',
    script:
      'touch -d @9 s/a d/a; ln -s x s/l; ln -s x d/l; touch -hd @9 s/l d/l; mkdir s/sub d/sub; touch -d @9 s/sub d/sub s d',
    args: ['-avv', 's/', 'd'],
    says: () => [say.upToDate('a', false), say.upToDate('l', false)],
  },
  {
    what: 'a directory that another has',
    script: 'mkdir s/sub d/sub; touch -d @9 s/sub d/sub s d',
    args: ['-avv', '--copy-dest=../d', 's/', 'e'],
    says: () => [say.upToDate('sub', true)],
  },
  {
    what: '--safe-links',
    script: 'ln -s / s/l',
    args: ['-av', '--safe-links', 's/', 'd'],
    says: () => [say.ignoringUnsafeSymlink('l', '/')],
  },
  {
    what: '--copy-unsafe-links',
    script: 'ln -s /dev/null s/l',
    args: ['-av', '--info=symsafe1', '--copy-unsafe-links', 's/', 'd'],
    says: () => [say.copyingUnsafeSymlink('l', '/dev/null')],
  },
  {
    what: 'a symlink to nothing with -L',
    script: 'ln -s gone s/l',
    args: ['-rL', 's/', 'd'],
    says: (home) => [say.noReferent('s/l', at(home, 'sender'))],
  },
  {
    what: '--existing',
    script: 'touch s/a; mkdir s/b',
    args: ['-rvv', '--existing', 's/', 'd'],
    says: () => [say.notCreating('a', false), say.notCreating('b', true)],
  },
  {
    what: '--ignore-existing',
    script: 'echo > s/a; touch d/a',
    args: ['-rvv', '--ignore-existing', 's/', 'd'],
    says: () => [say.exists('a')],
  },
  {
    what: '--update',
    script: 'touch -d @9 s/a; echo > d/a',
    args: ['-rvvu', 's/', 'd'],
    says: () => [say.isNewer('a')],
  },
  {
    what: '--max-size',
    script: 'echo > s/a',
    args: ['-rvv', '--max-size=0', 's/', 'd'],
    says: () => [say.overMaxSize('a')],
  },
  {
    what: '--min-size',
    script: 'echo > s/a',
    args: ['-rvv', '--min-size=9', 's/', 'd'],
    says: () => [say.underMinSize('a')],
  },
  {
    what: '--remove-source-files',
    script: 'touch s/a',
    args: ['-rvv', '--remove-source-files', 's/', 'd'],
    says: () => [say.senderRemoved('a')],
  },
  {
    what: 'exclusion',
    script: 'touch s/a; mkdir s/b d/b d/c',
    args: ['-rvv', '--delete', '--exclude=a', '--exclude=b', '--filter=P c', 's/', 'd'],
    says: () => [
      say.hiding('sender', 'hiding', 'a' as never, 'file', 'a'),
      say.hiding('sender', 'hiding', 'b' as never, 'directory', 'b'),
      say.hiding('generator', 'protecting', 'c' as never, 'directory', 'c'),
    ],
  },
  {
    what: 'a backup',
    script: 'echo 1 > s/a; echo 22 > d/a',
    args: ['-avvb', 's/', 'd'],
    says: () => [say.backedUp('a', 'a~')],
  },
  {
    what: 'deletions',
    script: 'mkdir d/x; touch d/x/y',
    args: ['-rvv', '--delete-before', 's/', 'd'],
    says: () => [say.deletingIn('.'), say.deleting('x/y', false), say.deleting('x', true)],
  },
  {
    what: 'a directory that stays for what it holds',
    script: 'mkdir -p d/x/y; touch s/x',
    args: ['-rv', 's/', 'd'],
    says: () => [say.notEmpty('x'), say.noWay('x', 'regular file')],
  },
  {
    what: 'a directory in the way of a symlink',
    script: 'mkdir -p d/x/y; ln -s y s/x',
    args: ['-rlv', 's/', 'd'],
    says: () => [say.notEmpty('x'), say.noWay('x', 'symlink')],
  },
  {
    what: 'a directory in the way of a fifo',
    script: 'mkdir -p d/x/y; mkfifo s/x',
    args: ['-av', 's/', 'd'],
    says: () => [say.noWay('x', 'special file')],
  },
  {
    what: 'a directory in the way of a device',
    script: 'mkdir -p d/x/y; mknod s/x c 1 3',
    args: ['-av', 's/', 'd'],
    says: () => [say.noWay('x', 'device file')],
  },
  {
    what: '--max-delete',
    script: 'touch d/1 d/2 d/3',
    args: ['-rv', '--delete', '--max-delete=1', 's/', 'd'],
    says: () => [say.deletionsStopped(2)],
  },
  {
    what: 'an unreadable directory, and no deletions for it',
    script: 'mkdir -m 0 s/b; chmod 777 d; touch d/x; mkdir s/c d/c; touch d/c/y; chmod -R 777 d',
    nobody: true,
    args: ['-rvv', '--delete-after', 's/', 'd'],
    says: (home) => [say.failed(at(home, 'sender'), 'opendir', 's/b', EACCES), say.deletionSkipped()],
  },
  {
    what: 'an unreadable file',
    script: 'touch s/a; chmod 0 s/a; chmod 777 d',
    nobody: true,
    args: ['-r', 's/', 'd'],
    says: (home) => [say.failed(at(home, 'sender'), 'open for sending', 's/a', EACCES)],
  },
  {
    what: 'a source that is not there',
    args: ['-r', 's/gone', 'd'],
    says: (home) => [say.failed(at(home, 'sender'), 'link_stat', 's/gone', ENOENT)],
  },
  {
    what: 'a source that cannot be entered',
    args: ['-r', 's/gone/', 'd'],
    says: (home) => [say.failed(at(home, 'sender'), 'change directory (source)', 's/gone', ENOENT)],
  },
  {
    what: 'a destination that may not be written',
    script:
      'touch s/a; mkdir s/b; touch s/b/c; ln -s x s/l; ln s/a s/z; chmod 755 d; mkfifo s/p; touch d/old; mkdir d/olddir',
    nobody: true,
    args: ['-rltpD', '--delete', 's/', 'd'],
    says: (home) => {
      const where = at(`${home}/d`, 'generator')
      return [
        say.failed(where, 'generator mkdir', 'b', EACCES),
        say.skippingContents(),
        say.symlinkFailed(where, 'l', 'x', EACCES),
        say.failed(where, 'mknod', 'p', EACCES),
        say.deleteFailed('generator', 'unlink', 'old', EACCES),
        say.deleteFailed('generator', 'rmdir', 'olddir', EACCES),
      ]
    },
  },
  {
    what: 'permissions that may not be set',
    script:
      'touch -d @9 s/a d/a; chmod 600 d/a; chmod 644 s/a; echo > s/x; chmod 666 s/x; chmod 1777 s; touch -d @9 s d; chmod 777 d',
    nobody: true,
    args: ['-rp', 's/', 'd'],
    says: (home) => [say.failed(at(`${home}/d`, 'generator'), 'set permissions', '.', EPERM)],
  },
  {
    what: 'several files into one',
    script: 'touch s/a s/b d/f',
    args: ['s/a', 's/b', 'd/f'],
    says: () => [say.destinationMustBeDirectory()],
  },
  {
    what: 'a directory onto a file',
    script: 'touch d/f',
    args: ['-d', 's', 'd/f'],
    says: () => [say.directoryOverFile()],
  },
  {
    what: 'a destination behind a file',
    script: 'touch s/a d/f',
    args: ['s/a', 'd/f/'],
    says: (home) => [say.destinationNotStatted('d/f/', at(home, 'Receiver'), ENOTDIR)],
  },
  {
    what: 'a destination without a parent',
    script: 'touch s/a s/b',
    args: ['s/a', 's/b', 'd/no/no'],
    says: (home) => [say.destinationNotMade('d/no/no', at(home, 'Receiver'), ENOENT)],
  },
  {
    what: 'a file into a directory that is not there',
    script: 'touch s/a',
    args: ['s/a', 'no/no'],
    says: (home) => [say.changeDirectoryFailed(3, 'no', at(home, 'Receiver'), ENOENT)],
  },
  {
    what: 'alternate directories',
    script: 'touch d/f',
    args: ['-r', '--link-dest=../gone', '--link-dest=f', 's/', 'd'],
    says: (home) => [
      say.alternateMissing('--link-dest', `${home}/d/../gone`),
      say.alternateIsNoDirectory('--link-dest', `${home}/d/f`),
    ],
  },
  {
    what: 'a connection that is refused',
    args: ['-vv', 's/', 'rsync://127.0.0.1:1/m'],
    says: () => [say.openingConnection('127.0.0.1', 1), say.connectFailed('sender', '127.0.0.1', '127.0.0.1', 111)],
  },
  {
    what: 'a connection that ends',
    args: ['-e', 'sh -c "sleep 0.3"', 'h:x', 'd'],
    says: () => [say.connectionClosed(0, 'Receiver')],
  },
  { what: 'a path without a module', args: ['rsync://127.0.0.1:1//x', 'd'], says: () => [say.pathWithoutModule()] },
  {
    what: 'silence',
    args: ['--timeout=1', '-e', 'sh -c "sleep 3"', 'h:x', 'd'],
    says: () => [say.ioTimeout('Receiver', 1)],
  },
]

describe('what a client says', () => {
  for (const { what, script, args, nobody, says } of SCENES) {
    test(what, async (t) => {
      const home = stage(t, script)
      shell('chmod 755 .', home)
      expect(nobody ? await asNobody(args, home) : await run(args, home), says(home))
    })
  }
})

const asNobody = (args: string[], cwd: string) => run(args, cwd, {}, ['setpriv', '--reuid=65534', '--clear-groups'])

describe('what a daemon says, by which message', () => {
  const module = (role: Where['role'], directory = ''): Where => ({ role, directory, module: 'm' })
  const messages = (spied: Spied) => spied.messages.map(({ tag, text }) => ({ code: tag as Msg, text }))

  test('its generator and receiver', async (t) => {
    const spy = await Spy.start(t, { uid: 'nobody', gid: 'nogroup' })
    const home = spy.stage(
      'echo > s/a; ln -s x s/l; touch -d @9 s/same d/same; chmod 777 d/; mkdir -m 755 d/locked; touch d/locked/f; mkdir s/locked; echo > s/locked/g; mkfifo s/p; chmod 755 s d/same',
    )
    const spied = await spy.push(home, ['-rltvv', '--delete-before', '--safe-links'])
    const said = messages(spied)
    assert.deepEqual(
      said.filter(({ text }) => !text.includes('mkstemp') && !text.includes('set times')),
      [
        say.deletingIn('.'),
        say.deleteFailed('generator', 'unlink', 'locked/f', EACCES),
        say.deltaTransmission(true),
        { code: MSG.INFO, text: say.skippingNonRegular('p').text },
        { code: MSG.INFO, text: say.upToDate('same', false).text }, // client messages travel as INFO
      ].sort((a, b) => order(said, a) - order(said, b)),
    )
    const [, temporary] = /mkstemp "\/(locked\/\.g\.[^"]{6})"/.exec(spied.err)!
    const failure = say.failed(module('receiver', '/'), 'mkstemp', temporary, EACCES)
    assert.ok(said.some(({ code, text }) => code === failure.code && text === failure.text))
    expect(spied, [failure])
    const log = spy.daemon.log()
    for (const { text } of [failure, say.made('l -> x'), say.logListBegins('receiving'), say.deltaTransmission(true)])
      assert.ok(log.includes(`] ${text}`), text)
    assert.ok(!log.includes(say.upToDate('same', false).text))
  })

  const order = (all: Message[], { text }: Message) => all.findIndex((message) => message.text === text)

  test('its sender', async (t) => {
    const spy = await Spy.start(t, { uid: 'nobody', gid: 'nogroup' })
    const home = spy.stage('touch d/a; mkdir -m 0 d/b; chmod 0 d/a; chmod 755 d/')
    const spied = await spy.pull(home, ['-rv'])
    const expected = [
      say.failed(module('sender', '/'), 'opendir', 'b', EACCES),
      say.failed(module('sender', '/'), 'open for sending', 'a', EACCES),
    ]
    const said = messages(spied).filter(({ code }) => code !== MSG.NO_SEND && code !== MSG.IO_ERROR)
    assert.deepEqual(said, expected)
    expect(spied, [...expected, { code: MSG.CLIENT, text: 'receiving file list ... done\n' }])
    assert.ok(spy.daemon.log().includes(say.logListBegins('building').text))
  })

  test('nothing for what it sends along: items and deletions are printed by the client', async (t) => {
    const spy = await Spy.start(t)
    const home = spy.stage('echo > s/a; mkdir d/x')
    const spied = await spy.push(home, ['-rv', '--delete'])
    assert.deepEqual(messages(spied), [{ code: MSG.DELETED, text: 'x\0' }])
    expect(spied, [say.deleting('x', true), { code: MSG.CLIENT, text: 'a\n' }])
  })

  test('refusals', async (t) => {
    const readOnly = await Spy.start(t, { 'read only': 'yes' })
    const home = readOnly.stage('touch s/a')
    expect(await run([`${home}/s/a`, readOnly.daemon.url]), [say.moduleIsReadOnly()])
    const writeOnly = await Spy.start(t, { 'write only': 'yes' })
    expect(await run(['-r', writeOnly.daemon.url, `${home}/s`]), [say.moduleIsWriteOnly()])
  })

  test('names are told from the top of the module', () => {
    assert.equal(say.fullName('a', module('sender')), '"a" (in m)')
    assert.equal(say.fullName('a', module('sender', '/')), '"/a" (in m)')
    assert.equal(say.fullName('a', module('sender', '/sub')), '"/sub/a" (in m)')
    assert.equal(say.fullName('/a', { ...module('sender', '/sub'), module: null }), '"/a"')
    assert.equal(say.fullName('a', { role: 'sender', directory: '/', module: null }), '"/a"')
  })
})

test('a file that vanishes, one that is shorter than it was, sums that differ', () => {
  const where = at('/x', 'sender')
  assert.deepEqual(say.vanished('a', where), { code: MSG.WARNING, text: 'file has vanished: "/x/a"\n' })
  assert.deepEqual(say.diminished('a', where), { code: MSG.WARNING, text: 'skipped diminished file: "/x/a"\n' })
  assert.deepEqual(say.failedVerification('a', 'discarded', true), {
    code: MSG.WARNING,
    text: 'WARNING: a failed verification -- update discarded (will try again).\n',
  })
  assert.deepEqual(say.failedVerification('a', 'put into partial-dir', false), {
    code: MSG.ERROR_XFER,
    text: 'ERROR: a failed verification -- update put into partial-dir.\n',
  })
  assert.equal(say.deletingIn('.').code, MSG.INFO)
})
