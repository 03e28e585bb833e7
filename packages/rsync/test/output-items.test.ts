import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type FileEntry, fromBytes, ITEM, isDirectory, isRegular } from '../src/index.js'
import { escapeUnprintable } from '../src/output/escape.js'
import {
  deletedItem,
  expandFormat,
  type FormatContext,
  FormatError,
  formatHas,
  type Item,
  isLogged,
  isWritten,
  logLine,
  outFormatOf,
} from '../src/output/format.js'
import { ITEM_DELETED, itemize } from '../src/output/itemize.js'
import { S_IFDIR, S_IFLNK, S_IFREG, S_IFSOCK } from '../src/wire/constants.js'
import { deletions, run, type Spied, Spy, stage } from './output-stock.js'

before(() => {
  process.env.TZ = 'UTC'
})

const CONTEXT: FormatContext = {
  upload: true,
  times: true,
  symlinkTimes: true,
  now: 0,
  pid: 1,
  owner: true,
  group: true,
  sumDigits: 32,
  daemon: null,
}

interface Direction {
  operation: 'send' | 'recv'
  /** What %f puts in front. */
  directory: string
  /** Where the content is. */
  content: string
}

/** The lines that we would print for what the generator said, deletions first. */
function ours(
  spied: Spied,
  outFormat: string,
  itemizeOption: number,
  direction: Direction,
  context: FormatContext,
): string[] {
  const { format, itemize: level } = outFormatOf({ outFormat, itemize: itemizeOption })!
  const deleted = deletions(spied).map((text) =>
    deletedItem(fromBytes(Buffer.from(text.replace(/\0$/, ''), 'latin1')), text.endsWith('\0') ? S_IFDIR : S_IFREG),
  )
  const items = spied.requests.map(({ ndx, iflags, xname }): Item => {
    const entry = withSize(spied.entries[ndx], direction)
    return { ...direction, entry, iflags, hardLink: xname, written: 0, read: 0, sum: sumOf(direction, entry, iflags) }
  })
  const shown = items.filter((item) => item.iflags & ITEM.TRANSFER || isWritten(item, level, 0))
  return [...deleted, ...shown].map((item) => escapeUnprintable(expandFormat(format, item, context), 'ascii'))
}

/** Stock lists have the sizes of directories too. */
const withSize = (entry: FileEntry, { content }: Direction): FileEntry =>
  isDirectory(entry.mode)
    ? { ...entry, size: lstatSync(Buffer.from(`${content}/${entry.path}`, 'latin1')).size }
    : entry

/** Without -c only what was transferred has one. */
function sumOf({ content }: Direction, { path, mode }: FileEntry, iflags: number): string {
  return isRegular(mode) && iflags & ITEM.TRANSFER ? md5(join(content, path)) : ''
}

const md5 = (path: string) =>
  createHash('md5')
    .update(readFileSync(Buffer.from(path, 'latin1')))
    .digest('hex')

interface Change {
  what: string
  /** `s` is to become `d`, or the other way round when pulled. */
  from?: string
  to?: string
  options: string
  /** %i of what changes but the root, as a push prints it. */
  expect: string[]
}

const OLD = 'touch -d 2001-02-03T04:05:06 '
const CHANGES: Change[] = [
  { what: 'a new file', from: 'echo > a', options: '-a', expect: ['<f+++++++++'] },
  { what: 'a new empty file', from: 'touch a', options: '-a', expect: ['<f+++++++++'] },
  {
    what: 'a new directory and what is in it',
    from: 'mkdir a; touch a/b',
    options: '-a',
    expect: ['cd+++++++++', '<f+++++++++'],
  },
  { what: 'a new symlink', from: 'ln -s x a', options: '-a', expect: ['cL+++++++++'] },
  { what: 'a new fifo', from: 'mkfifo a', options: '-a', expect: ['cS+++++++++'] },
  { what: 'a new character device', from: 'mknod a c 1 3; touch -d @9 a', options: '-a', expect: ['cD+++++++++'] },
  { what: 'a new block device', from: 'mknod a b 7 1', options: '-a', expect: ['cD+++++++++'] },
  {
    what: 'a size',
    from: 'echo 12 > a',
    to: 'echo 1 > a',
    options: '-rp --size-only',
    expect: ['<f.sT.......'.slice(0, 11)],
  },
  {
    what: 'a size and a time',
    from: 'echo 12 > a',
    to: `echo 1 > a; ${OLD} a`,
    options: '-a',
    expect: ['<f.st......'],
  },
  { what: 'a time of a file', from: 'echo 1 > a', to: `echo 1 > a; ${OLD} a`, options: '-a', expect: ['<f..t......'] },
  { what: 'a time with -c', from: 'echo 1 > a', to: `echo 1 > a; ${OLD} a`, options: '-ac', expect: ['.f..t......'] },
  { what: 'content with -c', from: 'echo 1 > a', to: `echo 2 > a; ${OLD} a`, options: '-ac', expect: ['<fc.t......'] },
  { what: 'content and size with -c', from: 'echo 12 > a', to: 'echo 2 > a', options: '-rpc', expect: ['<fcsT......'] },
  { what: 'a file without -t', from: 'echo 12 > a', to: 'echo 1 > a', options: '-rlp', expect: ['<f.sT......'] },
  { what: 'a file that is sent again (-I)', from: `${OLD} a`, to: `${OLD} a`, options: '-aI', expect: ['<f.........'] },
  {
    what: 'permissions',
    from: 'touch -d @9 a; chmod 600 a',
    to: 'touch -d @9 a',
    options: '-a',
    expect: ['.f...p.....'],
  },
  {
    what: 'permissions of a new time',
    from: 'touch a; chmod 600 a',
    to: `${OLD} a`,
    options: '-a',
    expect: ['<f..tp.....'],
  },
  {
    what: 'an owner',
    from: 'touch -d @9 a; chown 7 a',
    to: 'touch -d @9 a',
    options: '-a --numeric-ids',
    expect: ['.f....o....'],
  },
  {
    what: 'a group',
    from: 'touch -d @9 a; chgrp 7 a',
    to: 'touch -d @9 a',
    options: '-a --numeric-ids',
    expect: ['.f.....g...'],
  },
  {
    what: 'owner, group, permissions',
    from: 'touch -d @9 a; chown 7:7 a; chmod 1 a',
    to: 'touch -d @9 a',
    options: '-a',
    expect: ['.f...pog...'],
  },
  { what: 'a time of a directory', from: `mkdir a; ${OLD} a`, to: 'mkdir a', options: '-a', expect: ['.d..t......'] },
  {
    what: 'a mode of a directory',
    from: 'mkdir -m 700 a; touch -d @9 a',
    to: 'mkdir a; touch -d @9 a',
    options: '-a',
    expect: ['.d...p.....'],
  },
  {
    what: 'a target of a symlink',
    from: 'ln -s x a; touch -hd @9 a',
    to: 'ln -s y a; touch -hd @9 a',
    options: '-a',
    expect: ['cLc........'],
  },
  {
    what: 'a target of a symlink without -t',
    from: 'ln -s x a',
    to: 'ln -s y a',
    options: '-rl',
    expect: ['cLc.T......'],
  },
  {
    what: 'a time of a symlink',
    from: `ln -s x a; touch -hd @9 a`,
    to: 'ln -s x a',
    options: '-a',
    expect: ['.L..t......'],
  },
  {
    what: 'a device number',
    from: 'mknod a c 1 3; touch -d @9 a',
    to: 'mknod a c 1 5; touch -d @9 a',
    options: '-a',
    expect: ['cDc........'],
  },
  { what: 'a directory where a file was', from: 'mkdir a', to: 'touch a', options: '-a', expect: ['cd+++++++++'] },
  { what: 'a file where a symlink was', from: 'touch a', to: 'ln -s x a', options: '-a', expect: ['<f+++++++++'] },
  { what: 'a second name', from: 'echo > a; ln a b', options: '-aH', expect: ['<f+++++++++', 'hf+++++++++'] },
  {
    what: 'a second name of what is there',
    from: `${OLD} a; ln a b`,
    to: `${OLD} a`,
    options: '-aH',
    expect: ['hf+++++++++'],
  },
  {
    what: 'names that are to be joined',
    from: `${OLD} a; ln a b`,
    to: `${OLD} a b`,
    options: '-aH',
    expect: ['hf..........'.slice(0, 2).padEnd(11)],
  },
  {
    what: 'a second name of a symlink',
    from: 'ln -s x a; ln -P a b',
    options: '-aH',
    expect: ['cL+++++++++', 'hL+++++++++'],
  },
  {
    what: 'a dry run',
    from: 'echo > a; mkdir b; ln -s a l',
    to: `${OLD} a`,
    options: '-an',
    expect: ['<f.st......', 'cL+++++++++', 'cd+++++++++'],
  },
  { what: 'nothing', from: 'touch -d @9 a', to: 'touch -d @9 a', options: '-a', expect: [] },
  {
    what: 'access times',
    from: 'touch -d @9 a; touch -ad @5 a',
    to: 'touch -d @9 a',
    options: '-aU',
    expect: ['.f......u..'],
  },
  {
    what: 'extended attributes',
    from: 'touch -d @9 a; setfattr -n user.x -v 1 a',
    to: 'touch -d @9 a',
    options: '-aX',
    expect: ['.f........x'],
  },
  {
    what: 'deletions',
    to: 'mkdir a b; touch a/f c; ln -s x l; mkfifo p',
    options: '-a --delete-before',
    expect: [...Array(6).fill('*deleting  '), '.d..t......'],
  },
  {
    what: 'deletions in a dry run',
    to: 'mkdir a; touch a/f c',
    options: '-an --delete-before',
    expect: Array(3).fill('*deleting  '),
  },
  {
    what: 'odd names',
    from: "touch $'\\xff \\n' 'a%n' $'t\\t'",
    options: '-a',
    expect: ['<f+++++++++', '<f+++++++++', '<f+++++++++'],
  },
  {
    what: 'what another directory has (--compare-dest)',
    from: `${OLD} a; echo > b`,
    to: `mkdir old; ${OLD} old/a`,
    options: '-a --compare-dest=old',
    expect: ['<f+++++++++'],
  },
  {
    what: 'what another directory has, linked (--link-dest)',
    from: `${OLD} a`,
    to: `mkdir old; ${OLD} old/a`,
    options: '-a --link-dest=old',
    expect: [], // but with -ii
  },
  {
    what: 'what another directory has, copied (--copy-dest)',
    from: `${OLD} a`,
    to: `mkdir old; ${OLD} old/a`,
    options: '-a --copy-dest=old',
    expect: [], // but with -ii
  },
  {
    what: 'an ACL',
    from: 'touch -d @9 a; setfacl -m u:7:r a',
    to: 'touch -d @9 a; chmod 644 a',
    options: '-aA',
    expect: ['.f.......a.'],
  },
]

const PLAIN = '%i %n%L'
const RICH =
  "%o|%i|%B|%l|%'l|%M|%m|%f|%a|%h|%P|%u|%12n|%-12n|%15L|%-15L|%G|%U|%5U|%05U|%-5G|%012n|%''" +
  "'9l|%z|%%n|%0000000000000000000000000n|%"

describe('items as a stock client prints them', () => {
  for (const change of CHANGES) {
    test(change.what, async (t) => {
      const spy = await Spy.start(t)
      assert.deepEqual(await pushed(spy, change, PLAIN), change.expect)
      await pushed(spy, change, RICH, ['-ii'])
      await pulled(spy, change, RICH)
    })
  }
})

const inside = (directory: string, script = '') => `(cd ${directory}; ${script || ':'})`

const contextOf = (options: string, upload: boolean): FormatContext => ({
  ...CONTEXT,
  upload,
  times: options.startsWith('-a'),
  owner: options.startsWith('-a'),
  group: options.startsWith('-a'),
})

/** Compares all lines, and returns their %i. */
async function pushed(spy: Spy, { from, to, options }: Change, format: string, more: string[] = []): Promise<string[]> {
  const home = spy.stage(`${inside('s', from)}; ${inside('d/', to)}; ${SAME_ROOT}`)
  const spied = await spy.push(home, [...options.split(' '), ...more, `--out-format=${format}`])
  const direction = { operation: 'send', directory: `${home}/s`, content: `${home}/s` } as const
  const lines = ours(spied, format, more.length > 0 ? 2 : 0, direction, contextOf(options, true))
  assert.deepEqual(spied.lines, lines)
  return lines.map((line) => line.slice(0, 11))
}

async function pulled(spy: Spy, { from, to, options }: Change, format: string): Promise<void> {
  const home = spy.stage(`${inside('d/', from)}; ${inside('s', to)}; ${SAME_ROOT}`)
  const spied = await spy.pull(home, [...options.split(' '), '-i', `--out-format=${format}`])
  const direction = { operation: 'recv', directory: '', content: spy.daemon.module } as const
  const lines = ours(spied, format, 1, direction, contextOf(options, false))
  assert.deepEqual(
    spied.lines.filter((line) => !line.startsWith('del.')),
    lines,
  )
}

const SAME_ROOT = 'chmod 755 s d/; touch -d @9 s d/'

interface Case {
  iflags: number
  mode: number
  context?: Partial<FormatContext>
  shown: string
}

const CASES: Case[] = [
  { iflags: ITEM.TRANSFER | ITEM.REPORT_ATIME | ITEM.REPORT_CRTIME, mode: S_IFREG, shown: '<f......b..' },
  { iflags: ITEM.REPORT_CRTIME, mode: S_IFREG, shown: '.f......n..' },
  { iflags: ITEM.REPORT_TIME, mode: S_IFLNK, context: { symlinkTimes: false }, shown: '.L..T......' },
  { iflags: ITEM.REPORT_TIME | ITEM.REPORT_SIZE, mode: S_IFLNK, shown: '.L..T......' }, // the time could not be set
  { iflags: ITEM.REPORT_TIME, mode: S_IFDIR, context: { times: false }, shown: '.d..T......' },
  { iflags: ITEM.TRANSFER, mode: S_IFREG, context: { upload: false }, shown: '>f.........' },
  { iflags: ITEM.LOCAL_CHANGE, mode: S_IFDIR, shown: 'cd         ' },
  { iflags: ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS | ITEM.REPORT_OWNER, mode: S_IFREG, shown: 'hf....o....' },
  { iflags: ITEM.IS_NEW, mode: S_IFSOCK, shown: '.S+++++++++' },
  { iflags: ITEM_DELETED | ITEM.IS_NEW, mode: S_IFDIR, shown: '*deleting  ' },
]

for (const { iflags, mode, context, shown } of CASES) {
  test(`%i: ${shown}`, () => assert.equal(itemize(iflags, mode, { ...CONTEXT, ...context }), shown))
}

test('a local copy is shown as a download, and %f is the source as it was named', async (t) => {
  const home = stage(t, 'echo 1 > s/a; mkdir s/b; touch s/b/c')
  const { lines } = await run(['-r', '--out-format=%i %f', 's/./', 'd'], home)
  assert.deepEqual(lines, ['>f+++++++++ s/a', 'cd+++++++++ s/b', '>f+++++++++ s/b/c'])
  const item: Item = {
    ...deletedItem(fromBytes(Buffer.from('b/c')), S_IFREG),
    operation: 'send',
    iflags: ITEM.IS_NEW | ITEM.TRANSFER,
    directory: 's/./',
  }
  assert.equal(expandFormat('%i %f', item, { ...CONTEXT, upload: false }), lines[2])
})

test('%C is the sum of a transfer or of -c, %b and %c are what a file took', async (t) => {
  const home = stage(t, 'head -c 5000 /dev/urandom > s/a; ln -s a s/l; touch -d @9 d/b s/b')
  const options = ['-a', '--checksum-choice=md5', '--out-format=%b|%c|%C|%n']
  const { lines } = await run([...options, 's/', 'd'], home)
  const [a, l] = ['a', 'l'].map((name) => lines.find((line) => line.endsWith(`|${name}`))!)
  const [, written, read, sum] = /^(\d+)\|(\d+)\|(.{32})\|a$/.exec(a)!
  const item: Item = {
    ...deletedItem(fromBytes(Buffer.from('a')), S_IFREG),
    operation: 'send',
    iflags: ITEM.TRANSFER | ITEM.IS_NEW,
    written: Number(written),
    read: Number(read),
    sum: md5(join(home, 's/a')),
  }
  assert.ok(Number(written) > 5000 && Number(read) === 16)
  assert.equal(sum, item.sum)
  assert.equal(expandFormat('%b|%c|%C|%n', item, CONTEXT), a)
  assert.equal(expandFormat('%b|%c', { ...item, operation: 'recv' }, CONTEXT), `${read}|${written}`)
  assert.equal(l, `0|0|${' '.repeat(32)}|l`)
  const checked = await run([...options, '-ic', 's/', 'd'], home)
  assert.ok(checked.lines.length === 0)
})

test("a daemon's log has what only a daemon knows", async (t) => {
  const format = '%a|%h|%m|%P|%u|%o|%f|%i|%l|%n'
  const spy = await Spy.start(t, { 'transfer logging': 'yes', 'log format': format })
  const home = spy.stage('mkdir s/sub; touch s/a; echo > s/sub/b; touch d/gone; touch -d @9 s; chmod 755 s')
  const spied = await spy.push(home, ['-a', '--delete-before'])
  const daemon = { host: 'UNDETERMINED', address: '127.0.0.1', module: 'm', modulePath: spy.daemon.module, user: '' }
  const context = { ...CONTEXT, upload: false, daemon }
  const direction = { operation: 'recv', directory: '', content: join(home, 's') } as const
  const lines = ours(spied, format, 0, direction, context)
  const log = spy.daemon
    .log()
    .split('\n')
    .filter((line) => line.includes('|'))
  const [, day, time, pid] = /^(\S+) (\S+) \[(\d+)\] /.exec(log[0])!
  const now = Date.parse(`${day.replaceAll('/', '-')}T${time}Z`) / 1000
  assert.equal(logLine(now, Number(pid), `${lines[0]}\n`), `${log[0]}\n`)
  assert.deepEqual(
    log.map((line) => line.slice(line.indexOf('127.'))),
    lines,
  )
  assert.equal(lines.length, 5)
})

test('a log keeps a message in one line and bytes above 127 as they are', async (t) => {
  const home = stage(t, "touch $'s/a\\nb\\xe9'")
  await run(['-a', '--log-file=log', '--log-file-format=%n', 's/', 'd'], home)
  const lines = readFileSync(join(home, 'log'), 'latin1').split('\n')
  const line = lines.find((text) => text.includes('\xe9'))!
  assert.ok(line.endsWith(logLine(0, 1, 'a\nb\xe9\n').slice('1970/01/01 00:00:00 [1] '.length, -1)))
})

test('what the format says decides what is printed, and when', () => {
  const of = (outFormat: string | null, itemizeOption = 0) => outFormatOf({ outFormat, itemize: itemizeOption })
  assert.equal(of(null), null)
  assert.deepEqual(of('%i %n%L', 1), { format: '%i %n%L', itemize: 1, showsOperation: true, beforeTransfer: true })
  assert.deepEqual(of('%n%L'), { format: '%n%L', itemize: 0, showsOperation: false, beforeTransfer: true })
  assert.deepEqual(of("%'12b%n"), { format: "%'12b%n", itemize: 0, showsOperation: false, beforeTransfer: false })
  assert.equal(of('%o')!.showsOperation, true)
  assert.equal(of('%-9i')!.itemize, 1)
  assert.equal(of('%i', 2)!.itemize, 2)
  assert.equal(formatHas('%%i', 'i'), false)
  assert.equal(formatHas('%%%i', 'i'), true)
})

test('which items are written and logged', () => {
  const entry = { ...deletedItem(fromBytes(Buffer.from('x')), S_IFREG), operation: 'recv' } as const
  const same: Item = { ...entry, iflags: 0 }
  const touched: Item = { ...entry, iflags: ITEM.REPORT_TIME }
  const copied: Item = { ...entry, iflags: ITEM.LOCAL_CHANGE | ITEM.REPORT_TIME }
  const linked: Item = { ...entry, iflags: ITEM.LOCAL_CHANGE | ITEM.XNAME_FOLLOWS, hardLink: 'y' }
  const shown = (itemizeLevel: number, verbose: number) =>
    [same, touched, copied, linked].map((item) => isWritten(item, itemizeLevel, verbose))
  assert.deepEqual(shown(0, 1), [false, false, true, true])
  assert.deepEqual(shown(1, 1), [false, true, true, true])
  assert.deepEqual(shown(1, 2), [true, true, true, true])
  assert.deepEqual(shown(2, 0), [true, true, true, true])
  assert.deepEqual(
    [same, touched].map((item) => isLogged(item, '%i %n', 0, 0)),
    [false, true],
  )
  assert.deepEqual(
    [same, touched].map((item) => isLogged(item, '%o %n', 2, 0)),
    [false, false],
  )
  assert.equal(isLogged(same, '%i %n', 2, 0), true)
})

test('a format cannot grow without limit', () => {
  const item = deletedItem(fromBytes(Buffer.from('x')), S_IFREG)
  assert.throws(() => expandFormat('x'.repeat(4097), item, CONTEXT), FormatError)
  assert.throws(() => expandFormat('%200n'.repeat(40), item, CONTEXT), /buffer overflow expanding %n -- exiting/)
  assert.throws(() => expandFormat('%99999999999999999999n', item, CONTEXT), { exitCode: 13 })
  assert.equal(expandFormat('%4000n', item, CONTEXT).length, 4000)
})
