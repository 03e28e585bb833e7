// Hostile peers, written by hand: whatever they say, nothing outside the module or the destination is read or written,
// nothing is deleted that was not theirs to delete, and nobody else's session is disturbed.
//
// Of rsync 3.5.0's release notes these are attacks here: CVE-2026-53783 and -53784 (paths through planted symlinks),
// -53785 (-R over a symlink), -53786 (a filter file that the module hides), -53789 (an implied parent with content),
// -53792 (block length 0), -53793, -53795 (absolute --temp-dir, --link-dest), -53797 and -53801 (directories swapped
// while they are sent), -53799 (metadata through a swapped name), -53800 (--remove-source-files), -53802 (--files-from
// and merge files), -70452 is daemon-access.test.ts, -70453 delta.test.ts, -70456 (many arguments),
// -70457 (--max-size), -70458 (hard links without -H), -70459 (`.` that is no directory), -70460 (--partial-dir,
// --backup-dir through symlinks), -70461 (a rule with a backslash at its end), -70462 (a time-out that is none).
// Not ours: exec hooks, the name converter, PROXY headers, zstd, rrsync.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FileEntry } from '../src/flist/entry.js'
import { ITEM, MSG, NDX_FLIST_OFFSET, S_IFBLK, S_IFREG } from '../src/wire/constants.js'
import { encodeSumHead } from '../src/wire/sum-head.js'
import { ATTACKER } from './attacker.js'
import {
  type Liar,
  lie,
  lieDirectory,
  lieLink,
  lyingClient,
  lyingServer,
  OurDaemon,
  ourClient,
  ourCommand,
} from './hostile-peer.js'
import { describeTree, temporaryDirectory } from './stage.js'

const SECRET = 'the secret that nobody outside may learn'
const top = lieDirectory('', { topDir: true })
const OPTIONS = '-rle.LsfxCIvu'

/** A daemon whose module has links to what is beside it, where the canary is. */
async function daemonWithCanary(t: TestContext, module: string[] = [], env: Record<string, string> = {}) {
  const daemon = await OurDaemon.start(t, { module, env })
  writeFileSync(join(daemon.outside, 'secret'), `${SECRET}\n`)
  mkdirSync(join(daemon.outside, 'sub'))
  writeFileSync(join(daemon.outside, 'sub/file'), SECRET)
  symlinkSync(daemon.outside, join(daemon.module, 'out'))
  symlinkSync('loop', join(daemon.module, 'loop'))
  writeFileSync(join(daemon.module, 'f'), 'xxxx')
  mkdirSync(join(daemon.module, 'd'))
  assert.equal(await runs('rsync', ['--timeout=20', daemon.url]), 0, 'the module is served')
  const before = describeTree(daemon.outside)
  const untouched = () => assert.deepEqual(describeTree(daemon.outside), before)
  return { daemon, untouched }
}

const workersOf = (daemon: OurDaemon) =>
  daemon
    .processes()
    .filter(({ worker }) => worker)
    .map(({ pid }) => pid)

/** All that the daemon says to a client, and that none of its workers dies of it. */
async function survives(daemon: OurDaemon, attack: () => Promise<unknown>): Promise<void> {
  const before = workersOf(daemon)
  await attack().catch(() => undefined)
  await sleep(30)
  const after = new Set(workersOf(daemon))
  assert.deepEqual(
    before.filter((pid) => !after.has(pid)),
    [],
    'workers that died',
  )
}

/** Everything that a peer of the liar's sends until it closes. */
async function heard(liar: Liar, waitMs = 3000): Promise<string> {
  let text = ''
  await liar.flush()
  liar.channel.socket.end()
  const all = (async () => {
    for (;;) text += (await liar.channel.some('anything', 1 << 16)).toString('latin1')
  })()
  all.catch(() => undefined)
  await Promise.race([all.catch(() => undefined), sleep(waitMs, undefined, { ref: false })])
  liar.channel.destroy()
  return text + liar.channel.said.errors.join('\n') + liar.channel.said.notices.join('\n')
}

// Clients against our daemon

const PATH_OPTIONS = [
  '--temp-dir=%',
  '--backup-dir=%',
  '--partial-dir=%',
  '--link-dest=%',
  '--copy-dest=%',
  '--compare-dest=%',
  '--files-from=%',
]
const PATHS = [
  'missing',
  'f',
  'f/x',
  'out',
  '/out',
  'out/sub',
  'loop',
  '..',
  '../..',
  '../outside',
  '/../../outside',
  'd/../../outside',
  'a'.repeat(300),
  'a/'.repeat(2500),
]

test('daemon: the paths of options lead out of the module nowhere, and end nobody else', async (t) => {
  const { daemon, untouched } = await daemonWithCanary(t)
  for (const option of PATH_OPTIONS)
    for (const path of [...PATHS, join(daemon.outside, 'secret'), daemon.outside])
      await survives(daemon, async () => {
        const words = [OPTIONS, ...(option.startsWith('--backup') ? ['-b'] : []), option.replace('%', path)]
        const liar = await lyingClient(daemon.port, words, ['m/'])
        liar.list([
          top,
          lieDirectory('d'),
          lie('f', { size: 5 }),
          lie('d/new', { size: 5 }),
          lie('secret', { size: 5 }),
        ])
        liar.content(1, 'hello')
        liar.done(6)
        assert.doesNotMatch(await heard(liar, 400), /the secret that/)
        untouched()
      })
})

test('daemon: destinations and sources lead out of the module nowhere', async (t) => {
  const { daemon, untouched } = await daemonWithCanary(t)
  const paths = [
    'm/out/',
    'm/out/new',
    'm/out/sub/',
    'm/../outside/',
    'm/d/../../outside/',
    'm//out',
    'm/f/x/',
    'm/loop/x',
    `m/${'a'.repeat(300)}/`,
    `m/${'a/'.repeat(2500)}`,
  ]
  for (const path of paths) {
    for (const more of [[], ['--mkpath'], ['-K'], ['-R']])
      await survives(daemon, async () => {
        const liar = await lyingClient(daemon.port, [OPTIONS, ...more], [path], { relative: more[0] === '-R' })
        liar.list([top, lie('written', { size: 5 }), lieLink('link', '/etc')])
        liar.content(2, 'hello')
        liar.done(6)
        await heard(liar, 400)
        untouched()
      })
    for (const more of [[], ['-L'], ['-k'], ['-R'], ['--copy-unsafe-links']])
      await survives(daemon, async () => {
        const liar = await lyingClient(daemon.port, ['--sender', OPTIONS, ...more], [path, 'm/out/*', 'm/out/sub/file'])
        liar.out.i32(0)
        for (let ndx = 0; ndx < 4; ndx++) {
          liar.ndx.encode(liar.out, ndx)
          liar.out.u16(ITEM.TRANSFER)
          encodeSumHead(liar.out, { count: 0, blockLength: 0, s2Length: 0, remainder: 0 })
        }
        liar.done(5)
        await liar.flush()
        assert.doesNotMatch(await heard(liar, 400), /the secret that/)
      })
  }
})

test('daemon: names of a list that leave the module, or lead through a symlink in it, write nothing outside', async (t) => {
  const { daemon, untouched } = await daemonWithCanary(t, ['munge symlinks = no'])
  const lists: FileEntry[][] = [
    ...[
      '../x',
      '/x',
      'd/../../x',
      'd//x',
      'd/',
      './x',
      '',
      '.',
      '..',
      'x\0y',
      'd/..',
      'a/'.repeat(2100),
      `${'n'.repeat(300)}`,
    ].map((name) => [lie(name, { size: 5 })]),
    [lie('out/x', { size: 5 })],
    [lieDirectory('out'), lie('out/x', { size: 5 })],
    [lieLink('new', '/etc'), lie('new/x', { size: 5 })],
    [lieLink('new', '../outside'), lieDirectory('new'), lie('new/x', { size: 5 })],
    [lie('d', { size: 5 }), lieDirectory('d'), lie('d/x', { size: 5 })],
    [lie('same', { size: 5 }), lie('same', { size: 5 }), lie('same', { mode: S_IFREG | 0o4777, size: 5 })],
    [lie('out', { size: 5 })],
    [lie('dev', { mode: S_IFBLK | 0o666, rdevMajor: 8 })],
    [lie('f', { mode: 0 })],
    [lie('odd', { mode: 0o030000 | 0o644 }), lie('odder', { mode: 0o177777 })],
  ]
  for (const list of lists)
    for (const more of [[], ['--inplace'], ['--delete'], ['-K'], ['-R'], ['-b'], ['--partial-dir=.p']])
      await survives(daemon, async () => {
        const liar = await lyingClient(daemon.port, [OPTIONS, ...more], ['m/'], { relative: more[0] === '-R' })
        if (more[0] === '--delete') liar.out.i32(0)
        liar.list([lieDirectory(''), ...list])
        for (let ndx = 1; ndx <= list.length; ndx++) liar.content(ndx, 'hello')
        liar.done(6)
        await heard(liar, 300)
        untouched()
        assert.deepEqual(
          readdirSync(daemon.home).filter((name) => !/^(module|outside|conf|log|lock)$/.test(name)),
          [],
        )
      })
})

test('daemon: hard links, unasked for or to nowhere, and indexes of no list end in an error', async (t) => {
  const { daemon, untouched } = await daemonWithCanary(t)
  const attacks: ((liar: Liar) => void)[] = [
    (liar) =>
      liar.list([
        top,
        lie('a', { linkGroup: 'x' }),
        lie('b', { linkGroup: 'x' }),
        lie('out/secret', { linkGroup: 'x' }),
      ]),
    (liar) => {
      liar.list([top, lie('a')])
      liar.content(77, 'x')
    },
    (liar) => {
      liar.list([top, lie('a')])
      liar.content(0, 'x')
    },
    (liar) => {
      liar.list([top, lie('a')])
      liar.ndx.encode(liar.out, NDX_FLIST_OFFSET - 5)
    },
    (liar) => {
      liar.list([top, lie('a')])
      liar.ndx.encode(liar.out, 1)
      liar.out.u16(ITEM.TRANSFER | ITEM.BASIS_TYPE_FOLLOWS)
      liar.out.u8(0x55)
      encodeSumHead(liar.out, { count: 1 << 20, blockLength: 1 << 17, s2Length: 16, remainder: 0 })
      for (let i = 0; i < 1000; i++) liar.out.i32(-1)
    },
    (liar) => {
      liar.list([top, lie('a')])
      liar.ndx.encode(liar.out, 1)
      liar.out.u16(ITEM.TRANSFER)
      encodeSumHead(liar.out, { count: 1, blockLength: 0, s2Length: 16, remainder: 0 })
    },
  ]
  for (const attack of attacks)
    for (const words of [[OPTIONS], ['-rlHe.LsfxCIvu'], [`${OPTIONS}`, '--numeric-ids', '-X']])
      await survives(daemon, async () => {
        const liar = await lyingClient(daemon.port, words, ['m/'])
        attack(liar)
        liar.done(6)
        const { closed } = await liar.end(8000)
        assert.ok(closed)
        untouched()
      })
})

test('daemon: --files-from gives away no line of a file outside the module, nor of one that it hides', async (t) => {
  const { daemon } = await daemonWithCanary(t, ['exclude = /hidden'])
  writeFileSync(join(daemon.module, 'hidden'), `${SECRET}\n`)
  for (const file of [
    join(daemon.outside, 'secret'),
    '../outside/secret',
    'out/secret',
    '/out/secret',
    'hidden',
    '/hidden',
  ])
    for (const words of [[OPTIONS], ['--sender', OPTIONS]]) {
      const liar = await lyingClient(daemon.port, [...words, `--files-from=${file}`], ['m/'])
      liar.out.i32(0)
      liar.done(6)
      await liar.flush()
      assert.doesNotMatch(await heard(liar, 600), /the secret that/, `${words} ${file}`)
    }
  assert.doesNotMatch(daemon.log(), /the secret that/)
})

test('daemon: what it hides is neither read, written, deleted, linked nor copied, by whatever name', async (t) => {
  const { daemon } = await daemonWithCanary(t, ['exclude = /dir/secret /hidden'])
  for (const dir of ['dir', 'hidden']) mkdirSync(join(daemon.module, dir))
  for (const file of ['dir/secret', 'hidden/file']) {
    writeFileSync(join(daemon.module, file), SECRET)
    utimesSync(join(daemon.module, file), 1_700_000_000, 1_700_000_000)
  }
  const hidden = () => [
    describeTree(join(daemon.module, 'hidden')),
    readFileSync(join(daemon.module, 'dir/secret'), 'latin1'),
  ]
  const before = hidden()
  const home = temporaryDirectory(t)
  const [src, dest] = [join(home, 'src'), join(home, 'dest')]
  mkdirSync(src)
  for (const name of ['secret', 'file']) {
    writeFileSync(join(src, name), 'x'.repeat(SECRET.length))
    utimesSync(join(src, name), 1_700_000_000, 1_700_000_000)
  }
  const { url } = daemon
  const commands = [
    ['-r', `${url}hidden/`, dest],
    ['-r', `${url}hidden/file`, dest],
    ['-r', `${url}h*/*`, dest],
    ['-r', `${url}dir/secret`, dest],
    ['-r', `${url}dir/`, dest],
    ['-rR', `${url}hidden/file`, `${url}./dir/secret`, dest],
    ['-r', `${url}d/../hidden/`, dest],
    ['-r', `${src}/secret`, `${url}dir/`],
    ['-r', `${src}/`, `${url}hidden/`],
    ['-r', '--delete', `${dest}/`, `${url}dir/`],
    ['-rt', '--copy-dest=/hidden', `${src}/file`, url],
    ['-rt', '--link-dest=/hidden', `${src}/file`, url],
    ['-rt', '--copy-dest=../hidden', `${src}/file`, `${url}d/`],
    ['-rb', '--backup-dir=/hidden', `${src}/`, url],
    ['-rI', '--temp-dir=/hidden', `${src}/`, url],
    ['-rI', '--partial-dir=/hidden', `${src}/`, url],
    ['-rR', `${src}/./secret`, `${url}dir`],
  ]
  for (const args of commands) {
    rmSync(dest, { recursive: true, force: true })
    mkdirSync(dest)
    for (const name of ['file', 'secret', 'd/file']) rmSync(join(daemon.module, name), { force: true })
    stock(['--timeout=5', ...args])
    assert.deepEqual(hidden(), before, args.join(' '))
    assert.deepEqual(
      [...leaks(dest), ...leaks(daemon.module)].filter(
        (path) => !/hidden\/file|dir\/secret/.test(path) || path.startsWith(dest),
      ),
      [],
      args.join(' '),
    )
  }
  // What a hidden file has of rules must not be told by what they leave out.
  writeFileSync(join(daemon.module, 'dir/secret'), '- told')
  writeFileSync(join(daemon.module, 'dir/told'), 'x')
  assert.match(stock(['-r', '--filter=dir-merge secret', `${url}dir/`]), /told/)
  writeFileSync(join(daemon.module, 'dir/secret'), SECRET)
  utimesSync(join(daemon.module, 'dir/secret'), 1_700_000_000, 1_700_000_000)
  const liar = await lyingClient(daemon.port, [OPTIONS], ['m/'])
  liar.list([lieDirectory(''), lieDirectory('hidden'), lie('hidden/file', { size: 5 })])
  for (const ndx of [1, 2]) liar.content(ndx, 'hello')
  liar.done(6)
  await liar.end()
  assert.deepEqual(hidden(), before)
})

test('daemon: an entry of mode 0 deletes only with --delete-missing-args, and not where that is refused', async (t) => {
  const { daemon } = await daemonWithCanary(t, ['refuse options = delete'])
  for (const words of [[OPTIONS], [OPTIONS, '--delete-missing-args'], [OPTIONS, '--force']]) {
    const liar = await lyingClient(daemon.port, words, ['m/']).catch(() => null)
    liar?.list([lieDirectory(''), lie('f', { mode: 0 })])
    liar?.done(6)
    await liar?.end()
    assert.ok(existsSync(join(daemon.module, 'f')), words.join(' '))
  }
})

/** How long an honest client takes for one small file. */
async function waitOfAnother(daemon: OurDaemon): Promise<number> {
  const startMs = performance.now()
  assert.equal(await runs('rsync', ['--timeout=60', `${daemon.url}f`]), 0)
  return Math.round(performance.now() - startMs)
}

/** Its turn comes while they are at it: it waits for some of theirs, not for their end. */
async function assertServed(daemon: OurDaemon, calmMs: number, what: string): Promise<void> {
  const waitedMs = await waitOfAnother(daemon)
  const most = 3000 + 20 * calmMs // a busy machine makes both slow
  assert.ok(waitedMs < most, `${what}: another client waited ${waitedMs} ms, and ${calmMs} ms before`)
}

test('daemon: counts without measure are refused before they cost anything', async (t) => {
  const { daemon } = await daemonWithCanary(t, [], { RSYNC_MAX_ALLOC: '512M' })
  const calmMs = await waitOfAnother(daemon)
  const attacks: Record<string, (liar: Liar) => Promise<void> | void> = {
    'ids without end': async (liar) => {
      liar.list([top])
      const name = Buffer.alloc(255, 0x61)
      for (let i = 1; i < 200_000 && liar.channel.alive; i++) {
        liar.out.varint(i)
        liar.out.u8(255)
        liar.out.bytes(name)
        await liar.channel.relieve()
      }
    },
    'blocks that no basis has': async (liar) => {
      liar.list([top, lie('big')])
      liar.ndx.encode(liar.out, 1)
      liar.out.u16(ITEM.TRANSFER)
      encodeSumHead(liar.out, { count: 1 << 20, blockLength: 1 << 17, s2Length: 16, remainder: 0 })
      for (let i = 0; i < 16_000; i++) liar.out.i32(-1)
      await liar.flush()
    },
    'a list without end': async (liar) => {
      for (let i = 0; i < 3_000_000 && liar.channel.alive; i++) {
        liar.encoder.encode(lie('a'.repeat(250) + i))
        await liar.channel.relieve()
      }
    },
  }
  for (const [what, attack] of Object.entries(attacks)) {
    const words = what.startsWith('ids') ? ['-roge.LsfxCIvu'] : [OPTIONS]
    const keeps = { users: true, groups: true, devices: false, specials: false, links: false }
    const attackers = Array.from({ length: 3 }, async () => {
      const liar = await lyingClient(daemon.port, words, ['m/'], what.startsWith('ids') ? { keeps } : {})
      await attack(liar)
      await heard(liar, 1000)
    })
    const settled = Promise.allSettled(attackers)
    for (let i = 0; i < 3; i++) {
      await sleep(200)
      await assertServed(daemon, calmMs, what)
    }
    await settled
    const most = Math.max(...daemon.processes().map(({ rssBytes }) => rssBytes))
    assert.ok(most < 1024 << 20, `${what}: ${Math.round(most / 2 ** 20)} MiB`)
  }
})

test('daemon: wildcards of one client keep nobody else waiting', async (t) => {
  const { daemon } = await daemonWithCanary(t)
  const calmMs = await waitOfAnother(daemon)
  for (let i = 0; i < 300; i++) mkdirSync(join(daemon.module, `d${i}`))
  const attackers = Array.from({ length: 4 }, () =>
    lyingClient(
      daemon.port,
      ['--sender', OPTIONS],
      Array.from({ length: 100 }, () => 'm/*/../*/../*/x*'),
    ).then(
      (liar) => liar.channel.destroy(),
      () => undefined,
    ),
  )
  await sleep(300)
  await assertServed(daemon, calmMs, 'wildcards')
  await Promise.all(attackers)
})

test('daemon: names, rules and arguments at their limits', async (t) => {
  const { daemon } = await daemonWithCanary(t)
  const send = (text: string) =>
    survives(daemon, async () => {
      const socket = connect(daemon.port, '127.0.0.1')
      socket.on('error', () => undefined)
      const closed = new Promise((resolve) => socket.on('close', resolve))
      socket.resume()
      socket.end(text)
      assert.notEqual(await Promise.race([closed, sleep(8000, 'late', { ref: false })]), 'late')
    })
  const hello = '@RSYNCD: 31.0 md5\nm\n'
  await send('x'.repeat(100_000))
  await send(`@RSYNCD: 31.0 ${'md5 '.repeat(5000)}\nm\n`)
  await send(`${hello}${'a\0'.repeat(5000)}\0`)
  await send(`${hello}--server\0${'a'.repeat(70_000)}\0\0`)
  await send(`${hello}--server\0-re.\0--max-size=${'9'.repeat(400)}\0.\0m/\0\0`)
  await send(`${hello}--server\0-re.\0--timeout=99999999\0.\0m/\0\0`)
  await send(`${hello}--server\0--out-format=%${'9'.repeat(20)}n\0-re.\0.\0m/\0\0`)
  await send(`${hello}\0\0\0\0`)
  for (const rule of [
    '- a\\',
    `- ${'*a'.repeat(2000)}b`,
    '. /etc/passwd',
    ': ../../outside/secret',
    'merge out/secret',
    '!',
    '-',
    'P',
    `- ${'['.repeat(3000)}`,
  ])
    await survives(daemon, async () => {
      const liar = await lyingClient(daemon.port, ['--sender', OPTIONS], ['m/'])
      for (let i = 0; i < 20; i++) {
        liar.out.i32(rule.length)
        liar.out.latin1(rule)
      }
      liar.out.i32(0)
      await liar.flush()
      assert.doesNotMatch(await heard(liar, 300), /the secret that/)
    })
})

// Servers against our client

interface Lie {
  what: string
  args: string[]
  /** What is asked of the server: `host::m/` and this. */
  path?: string
  lies: (liar: Liar) => void
  relative?: boolean
  /** It says that the session lasts, which our client has not asked for. */
  lasting?: boolean
}

/** A whole session of a server that sends, after its lists. */
const ends = (liar: Liar) => {
  liar.done(3)
  for (let i = 0; i < 5; i++) liar.out.varlong(0, 3)
  liar.done(1)
}
const sends =
  (...entries: FileEntry[]) =>
  (liar: Liar) => {
    liar.list(entries)
    for (const [ndx, { mode }] of entries.entries()) if ((mode & 0o170000) === S_IFREG) liar.content(ndx, 'evil')
    ends(liar)
  }
const lists =
  (...entries: FileEntry[]) =>
  (liar: Liar) => {
    liar.list(entries)
    ends(liar)
  }

const LIES: Lie[] = [
  ...['../x', '/x', 'sub/../../x', '..', 'x\0y', 'sub/', 'sub//x', '/'].map((name) => ({
    what: `the name ${JSON.stringify(name)}`,
    args: ['-r'],
    lies: sends(top, lie(name)),
  })),
  { what: 'a name that was not asked for', args: ['-r'], path: 'asked', lies: sends(lie('.bashrc')) },
  {
    what: 'a second name beside the one asked for',
    args: ['-r'],
    path: 'asked',
    lies: sends(lie('asked'), lie('unasked')),
  },
  {
    what: 'what is below it without -r',
    args: [],
    path: 'asked',
    lies: sends(lieDirectory('asked'), lie('asked/unasked')),
  },
  {
    what: '`.` beside what was asked for',
    args: ['-r', '--delete'],
    path: 'asked',
    lies: lists(top, lieDirectory('asked')),
  },
  { what: '`.` as a file', args: ['-r', '--delete'], path: 'asked', lies: sends(lie('')) },
  { what: '`.` as a symlink', args: ['-rl', '--delete', '--force'], lies: lists(lieLink('', '/etc')) },
  { what: '`.` of mode 0', args: ['-r', '--delete'], lies: lists(lie('', { mode: 0 })) },
  { what: 'a missing argument', args: ['-r'], lies: lists(top, lie('mine', { mode: 0 })) },
  {
    what: 'an implied parent with content',
    args: ['-rR', '--delete'],
    path: 'mydir/b/',
    relative: true,
    lies: lists(lieDirectory('mydir', { topDir: true }), lieDirectory('mydir/b')),
  },
  {
    what: 'an implied parent that is a symlink',
    args: ['-rlR'],
    path: 'mydir/b/',
    relative: true,
    lies: sends(lieLink('mydir', '/etc'), lie('mydir/b')),
  },
  {
    what: 'what --files-from does not name',
    args: ['-r', '--files-from=NAMES'],
    relative: true,
    lies: sends(lie('.bashrc')),
  },
  {
    what: 'what was excluded',
    args: ['-r', '--exclude=mydir/'],
    lies: sends(top, lieDirectory('mydir'), lie('mydir/x')),
  },
  { what: 'what is in an excluded directory', args: ['-r', '--exclude=mydir/'], lies: sends(top, lie('mydir/x')) },
  { what: 'a file below a symlink', args: ['-rl'], lies: sends(top, lieLink('l', '..'), lie('l/x')) },
  { what: 'a device', args: ['-r'], lies: lists(top, lie('mine', { mode: S_IFBLK | 0o666 })) },
  {
    what: 'content of a directory',
    args: ['-r'],
    lies: (liar) => {
      liar.list([top])
      liar.content(0, 'x')
      ends(liar)
    },
  },
  {
    what: 'content of what shall be left alone',
    args: ['-rt', '--ignore-existing'],
    lies: (liar) => {
      liar.list([top, lie('mine', { size: 1, mtime: 1e9 })])
      liar.content(1, 'evil')
      ends(liar)
    },
  },
  {
    what: 'content of what shall be left alone, as if the session lasted,',
    args: ['-rt', '--ignore-existing'],
    lasting: true,
    lies: (liar) => {
      liar.list([top, lie('mine', { size: 1, mtime: 1e9 })])
      liar.content(1, 'evil')
      ends(liar)
    },
  },
  { what: 'content in a list', args: ['-r', '--list-only'], lies: sends(top, lie('new')) },
  { what: 'content in a dry run', args: ['-rn'], lies: sends(top, lie('mine')) },
  {
    what: 'a success that is none',
    args: ['-rn', '--remove-source-files'],
    lies: (liar) => {
      liar.channel.sendMessage(MSG.SUCCESS, Buffer.alloc(4))
      ends(liar)
    },
  },
]

for (const { what, args, path = '', lies, relative = false, lasting = false } of LIES) {
  test(`client: a server that sends ${what} changes nothing of ours`, async (t) => {
    const home = temporaryDirectory(t)
    const dest = join(home, 'dest')
    mkdirSync(join(dest, 'mydir'), { recursive: true })
    writeFileSync(join(dest, 'mine'), 'x')
    writeFileSync(join(dest, 'mydir/mine'), 'x')
    utimesSync(join(dest, 'mine'), 1e9, 1e9)
    writeFileSync(join(home, 'names'), 'asked\n')
    const before = describeTree(home, { nanoseconds: false })
    const port = await lyingServer(t, lies, { relative, lasting })
    const words = args.map((arg) => arg.replace('NAMES', join(home, 'names')))
    const { text } = await ourClient([...words, '--timeout=2', `rsync://127.0.0.1:${port}/m/${path}`, `${dest}/`])
    assert.doesNotMatch(text, /^HUNG/)
    const after = describeTree(home, { nanoseconds: false })
    const added = Object.keys(after).filter((name) => !(name in before))
    // Something new in a directory gives it another time.
    const timeless = (name: string, text = '') =>
      added.some((path) => path.startsWith(`${name}/`)) ? text.replace(/ @\d+$/, '') : text
    for (const name of Object.keys(before))
      if (name !== 'dest' && name !== '') assert.equal(timeless(name, after[name]), timeless(name, before[name]), name)
    // What was asked for, or may be sent, is the server's to say.
    assert.deepEqual(
      added.filter((name) => !/^dest\/(asked$|l$|mydir\/b|sub$)/.test(name)),
      [],
      text,
    )
  })
}

test('client: a server takes no source away in a dry run, or where that was not asked for', async (t) => {
  for (const args of [['-rn', '--remove-source-files'], ['-r']]) {
    const src = temporaryDirectory(t)
    writeFileSync(join(src, 'f'), 'x')
    const port = await lyingServer(t, async ({ channel }) => {
      await sleep(200)
      for (let ndx = 0; ndx < 3; ndx++) {
        const payload = Buffer.alloc(4)
        payload.writeInt32LE(ndx)
        channel.sendMessage(MSG.SUCCESS, payload)
      }
      await channel.flush()
      await sleep(200)
    })
    await ourClient([...args, '--timeout=2', `${src}/`, `rsync://127.0.0.1:${port}/m/`])
    assert.deepEqual(readdirSync(src), ['f'], args.join(' '))
  }
})

test('client: --safe-links lets no symlink out, also when its target has a NUL', async (t) => {
  for (const target of ['..\0x', 'a/..\0/../..', '/etc', '../..', 'a/../../b']) {
    const dest = temporaryDirectory(t)
    const port = await lyingServer(t, lists(top, lieLink('l', target)))
    await ourClient(['-rl', '--safe-links', '--timeout=2', `rsync://127.0.0.1:${port}/m/`, `${dest}/`])
    assert.deepEqual(readdirSync(dest), [], target)
  }
})

test('client: what a server says is printed without its control characters, and its time-out does not become ours', async (t) => {
  const port = await lyingServer(t, async ({ channel, out }) => {
    channel.sendMessage(MSG.IO_TIMEOUT, Buffer.from('ffffff7f', 'hex'))
    channel.sendMessage(MSG.IO_TIMEOUT, Buffer.from('ffffffff', 'hex'))
    channel.sendMessage(MSG.ERROR, Buffer.from('\x1b]0;evil\x07\x1b[2J\n'))
    out.u8(1)
    await channel.flush()
    await sleep(8000, undefined, { ref: false })
  })
  const startMs = performance.now()
  const { code, text } = await ourClient(['-r', '--timeout=2', `rsync://127.0.0.1:${port}/m/`, temporaryDirectory(t)])
  assert.equal(code, 30, text)
  assert.ok(performance.now() - startMs < 6000)
  assert.doesNotMatch(text, /[\x1b\x07]/)
})

// A local attacker

const SWAPS = Number(process.env.SWAPS ?? 300)

function plantHarmless(dir: string): void {
  mkdirSync(join(dir, 'd/e'), { recursive: true })
  for (let i = 0; i < 12; i++)
    for (const name of [`d/f${i}`, `d/e/f${i}`, `f${i}`]) writeFileSync(join(dir, name), `harmless ${name}`)
  writeFileSync(join(dir, 'f'), 'harmless')
}

function plantSecrets(dir: string): void {
  mkdirSync(join(dir, 'e'), { recursive: true })
  for (let i = 0; i < 12; i++) for (const name of [`f${i}`, `e/f${i}`]) writeFileSync(join(dir, name), SECRET)
  writeFileSync(join(dir, 'file'), SECRET)
  chmodSync(join(dir, 'file'), 0o600)
}

/** Does `work` while the attacker swaps names in `dir`; `atRest` looks at something while he stands still. */
async function underAttack(dir: string, work: (atRest: (look: () => void) => Promise<void>) => Promise<void>) {
  const child = spawn(process.execPath, ['-e', ATTACKER, '--', dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  try {
    await new Promise((resolve) => child.stdout.once('data', resolve))
    await work(async (look) => {
      child.kill('SIGSTOP')
      while (!/^State:\s*T/m.test(readFileSync(`/proc/${child.pid}/status`, 'latin1'))) await sleep(1)
      look()
      child.kill('SIGCONT')
    })
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}

/** The tree that is fought for, as it is before each round, with the links that the attacker swaps in. */
function prepare(dir: string, outside: string): void {
  mkdirSync(dir, { recursive: true })
  for (const name of readdirSync(dir)) rmSync(join(dir, name), { recursive: true, force: true })
  plantHarmless(dir)
  symlinkSync(outside, join(dir, '.d'))
  symlinkSync(join(outside, 'e'), join(dir, '.e'))
  symlinkSync(join(outside, 'file'), join(dir, '.f'))
}

/** Files below `dir` with what was secret in them; symlinks are not followed. */
function leaks(dir: string): string[] {
  const stat = lstatSync(dir)
  if (stat.isSymbolicLink()) return []
  if (stat.isDirectory()) return readdirSync(dir).flatMap((name) => leaks(join(dir, name)))
  return stat.isFile() && readFileSync(dir, 'latin1').includes(SECRET) ? [dir] : []
}

function stock(args: string[]): string {
  try {
    return execFileSync('rsync', args, { encoding: 'latin1', stdio: 'pipe' })
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    return `${stdout}${stderr}`
  }
}

function runs(program: string, args: string[]): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: 'ignore' })
    child.once('exit', (code) => resolve(code ?? -1))
  })
}

const PULLS = [['-r'], ['-rL'], ['-rR'], ['-aHAX'], ['-ak'], ['-rc', '--copy-unsafe-links']]
const PUSHES = [
  ['-rI'],
  ['-aIAX', '--delete'],
  ['-aIK'],
  ['-rI', '--inplace'],
  ['-aIb', '--backup-dir=d/bak'],
  ['-aI', '--partial-dir=e', '--delay-updates'],
  ['-aI', '--temp-dir=d'],
  ['-aI', '--link-dest=/d'],
  ['-aI', '--copy-dest=/d'],
  ['-aRI'],
  ['-aI', '--partial-dir=/d/e'],
  ['-rI', '--append-verify'],
]

test(`daemon: an attacker in the module swaps names during ${SWAPS} pulls and pushes`, async (t) => {
  const daemon = await OurDaemon.start(t, { module: ['munge symlinks = no'] })
  const home = temporaryDirectory(t)
  plantHarmless(join(home, 'src'))
  plantSecrets(daemon.outside)
  const before = describeTree(daemon.outside)
  const round = 20
  for (let i = 0; i < SWAPS; ) {
    prepare(daemon.module, daemon.outside)
    const known = workersOf(daemon)
    await underAttack(daemon.module, async (atRest) => {
      for (const last = i + round; i < last; i++) {
        const dest = join(home, 'dest')
        rmSync(dest, { recursive: true, force: true })
        const pull = PULLS[(i >> 1) % PULLS.length]
        const push = PUSHES[(i >> 1) % PUSHES.length]
        const sources = i % 4 < 2 ? [`${daemon.url}`] : [`${daemon.url}d/`, `${daemon.url}d/e/f1`, `${daemon.url}f`]
        if (i % 2 === 0) await runs('rsync', ['--timeout=9', ...pull, ...sources, `${dest}/`])
        else
          await runs('rsync', [
            '--timeout=9',
            ...push,
            ...(push[0] === '-aRI' ? [`${home}/src/./d/e`] : [`${home}/src/`]),
            daemon.url,
          ])
        if (i % 2 === 0 && existsSync(dest)) assert.deepEqual(leaks(dest), [], pull.join(' '))
        else
          await atRest(() => {
            assert.deepEqual(describeTree(daemon.outside), before, push.join(' '))
            assert.deepEqual(leaks(daemon.module), [], push.join(' '))
          })
      }
    })
    const now = new Set(workersOf(daemon))
    assert.deepEqual(
      known.filter((pid) => !now.has(pid)),
      [],
      'workers that died',
    )
  }
})

test(`client: an attacker in its destination, or its source, swaps names during ${SWAPS} copies`, async (t) => {
  const home = temporaryDirectory(t)
  const [src, dest, fought, outside] = ['src', 'dest', 'fought', 'outside'].map((name) => join(home, name))
  plantHarmless(src)
  plantSecrets(outside)
  const before = describeTree(outside)
  const round = 20
  const ours = (args: string[]) => runs(...ourCommand(args))
  for (let i = 0; i < SWAPS; ) {
    prepare(fought, outside)
    await underAttack(fought, async (atRest) => {
      for (const last = i + round; i < last; i++) {
        rmSync(dest, { recursive: true, force: true })
        if (i % 2 === 0) {
          // -L follows wherever it leads: that is what it is for.
          const options = PULLS.filter(([one]) => !/L|k|c/.test(one))[(i >> 1) % 3]
          await ours([...options, options[0] === '-rR' ? `${fought}/./` : `${fought}/`, `${dest}/`])
          if (existsSync(dest)) assert.deepEqual(leaks(dest), [], options.join(' '))
        } else {
          const options = PUSHES.filter((words) => !words.some((word) => /=\//.test(word)))[(i >> 1) % 8]
          await ours([...options, ...(options[0] === '-aRI' ? [`${src}/./d/e`] : [`${src}/`]), `${fought}/`])
          await atRest(() => assert.deepEqual(describeTree(outside), before, options.join(' ')))
        }
      }
    })
  }
})
