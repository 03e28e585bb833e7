import assert from 'node:assert/strict'
import { lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { compareEntries, type FileEntry, fromBytes, isDirectory, missing } from '../src/index.js'
import { Console } from '../src/output/console.js'
import { type Charset, charsetOf, escapeUnprintable } from '../src/output/escape.js'
import { EXIT, exitMessage, exitText } from '../src/output/exit.js'
import { listLine, moduleLine } from '../src/output/list.js'
import { bigDecimal, bigNumber, fixed } from '../src/output/number.js'
import { inForeground, Progress } from '../src/output/progress.js'
import { countEntry, noCounts, type Stats, statsBlock, summary } from '../src/output/stats.js'
import { strerror } from '../src/output/strerror.js'
import { timeString } from '../src/output/time.js'
import { MSG } from '../src/wire/constants.js'
import { run, Spy, shell, stage } from './output-stock.js'
import { listAll, openTree } from './stage.js'
import { RSYNCS } from './stock.js'

before(() => {
  process.env.TZ = 'UTC'
})

const EVERY_TYPE =
  "echo hello > s/a; head -c 1234567 /dev/zero > s/big; mkdir s/sub; touch s/sub/x; ln -s a s/l; mkfifo s/p; mknod s/c c 1 3; mknod s/b b 7 0; touch $'s/\\xff\\n' 's/\\#123' $'s/\\t \\x7f'; chmod 7777 s/a; chmod 7000 s/sub; chmod 1644 s/big; touch -d 1901-01-02T03:04:05 s/sub/x; touch -d 2399-12-31T23:59:59 s/b"

/** As the stock one lists it: directories have sizes. */
const listed = (root: string, entries: FileEntry[]) =>
  entries.map((entry) => (isDirectory(entry.mode) ? { ...entry, size: lstatSync(join(root, entry.path)).size } : entry))

describe('--list-only', () => {
  for (const [options, human, links] of [
    ['-r', 1, false],
    ['-a', 1, true],
    ['-ah', 2, true],
    ['-ahh', 3, true],
    ['-r --no-h', 0, false],
  ] as const) {
    test(options, async (t) => {
      const home = stage(t, EVERY_TYPE)
      const entries = listed(join(home, 's'), listAll(openTree(t, join(home, 's'))).sort(compareEntries))
      const { lines } = await run([...options.split(' '), '--no-inc-recursive', '--list-only', 's/'], home)
      const ours = entries.map((entry) => escapeUnprintable(listLine(entry, { human, links }), 'ascii'))
      assert.deepEqual(
        lines,
        ours.map((line) => line.replace(/\\#012$/, '')),
      )
      assert.equal(lines.length, 12)
    })
  }

  test('a source that is missing and to be deleted', async (t) => {
    const home = stage(t)
    const { out } = await run(['-r', '--list-only', '--delete-missing-args', 's/gone', 'd'], home)
    assert.equal(listLine(missing(fromBytes(Buffer.from('gone'))), { human: 1, links: false }), out)
  })

  test('modules', async (t) => {
    const { port } = await Spy.start(t, { comment: 'what it holds', list: 'yes' })
    const { out } = await run([`rsync://127.0.0.1:${port}`])
    assert.equal(out, moduleLine('m', 'what it holds'))
    assert.equal(moduleLine('longer-than-fifteen', ''), 'longer-than-fifteen\t\n')
  })
})

test('times in all years', () => {
  assert.equal(timeString(0), '1970/01/01 00:00:00')
  assert.equal(timeString(-62135596801), '   0/12/31 23:59:59')
  assert.equal(timeString(1e15), '(time out of range)')
})

describe('numbers', () => {
  const SIZES = [
    0,
    9,
    999,
    1000,
    1023,
    1024,
    2125,
    2135,
    12345,
    999994,
    999999,
    1048575,
    1048576,
    1e9,
    1.5e12,
    2 ** 40,
    2 ** 50,
    2 ** 52,
  ]
  for (const [option, human] of [
    ['--no-h', 0],
    ['-l', 1],
    ['-h', 2],
    ['-hh', 3],
    ['-hhh', 3],
  ] as const) {
    test(`sizes with ${option}`, async (t) => {
      const home = stage(t)
      const root = shell(`mktemp -d /dev/shm/rsync-test-XXXXXX; cd /dev/shm`, home).toString().trim()
      t.after(() => shell(`rm -rf ${root}`, '/'))
      for (const size of SIZES) shell(`truncate -s ${size} ${size}`, root)
      const { lines } = await run([option, '--list-only', '-r', `${root}/`])
      const shown = new Map(lines.map((line) => [line.split(' ').at(-1)!, line.split(/ +/)[1]]))
      for (const size of SIZES) assert.equal(bigNumber(size, human), shown.get(String(size)))
    })
  }

  test('fractions', () => {
    assert.equal(bigDecimal(1999.999, 1, 2), '1,999.00') // the stock one's rounding, see number.ts
    assert.equal(bigDecimal(999.999, 1, 2), '1000.00')
    assert.equal(bigDecimal(14355.454, 1, 2), '14,355.45')
    assert.equal(bigDecimal(14355.454, 0, 2), '14355.45')
    assert.equal(bigDecimal(14355454, 2, 2), '14.36M')
    assert.equal(bigDecimal(0 / 0, 1, 2), '-nan')
    assert.equal(bigDecimal(1 / 0, 1, 2), 'inf')
    assert.equal(bigNumber(-1234567, 1), '-1,234,567')
    for (const [value, text] of [
      [0.125, '0.12'],
      [0.375, '0.38'],
      [2.125, '2.12'],
      [2.135, '2.13'],
      [-0.125, '-0.12'],
      [5, '5.00'],
    ] as const) {
      assert.equal(fixed(value, 2), text)
      assert.equal(shell(`printf %.2f ${value}`, '/').toString(), text)
    }
  })
})

describe('--stats', () => {
  const number = (text: string) => Number(text.replaceAll(',', ''))
  /** Everything that stock says, read back from a run without grouping and units. */
  function parse(out: string): Stats {
    const field = (name: string) => number(new RegExp(`${name}: ([\\d,.]+)`).exec(out)![1])
    const counts = (name: string) => {
      const kinds = new RegExp(`${name}: [\\d,]+(?: \\((.*)\\))?`).exec(out)![1] ?? ''
      const count = (kind: string) => number(new RegExp(`${kind}: ([\\d,]+)`).exec(kinds)?.[1] ?? '0')
      return {
        regular: count('reg'),
        directories: count('dir'),
        symlinks: count('link'),
        devices: count('dev'),
        specials: count('special'),
      }
    }
    return {
      files: counts('Number of files'),
      created: counts('Number of created files'),
      deleted: out.includes('deleted') ? counts('Number of deleted files') : noCounts(),
      transferred: field('files transferred'),
      totalSize: field('Total file size'),
      transferredSize: field('Total transferred file size'),
      literal: field('Literal data'),
      matched: field('Matched data'),
      flistSize: field('File list size'),
      flistBuildMs: Math.round(field('generation time') * 1000),
      flistTransferMs: Math.round(field('transfer time') * 1000),
      sent: field('Total bytes sent'),
      received: field('Total bytes received'),
    }
  }

  for (const [what, options, human, protocol] of [
    ['all types', '-a', 1, 32],
    ['protocol 30 tells no deletions', '-a --protocol=30', 1, 30],
    ['protocol 31', '-a --protocol=31', 1, 31],
    ['plain', '-a --no-h', 0, 32],
    ['a dry run', '-an', 1, 32],
    ['deletions', '-a --delete', 1, 32],
  ] as const) {
    test(what, async (t) => {
      const home = stage(t, `${EVERY_TYPE}; mkdir d/old; touch d/old/1; ln -s x d/old/2`)
      const { out } = await run([...options.split(' '), '--stats', 's/', 'd'], home)
      const stats = parse(out)
      const seconds = Math.round((stats.sent + stats.received) / number(/([\d,.]+) bytes\/sec/.exec(out)![1]) - 0.5)
      assert.equal(statsBlock(stats, { human, protocol }) + summary(stats, human, seconds, what === 'a dry run'), out)
      const files = noCounts()
      for (const entry of listAll(openTree(t, join(home, 's')))) countEntry(files, entry)
      assert.deepEqual(stats.files, files)
      if (what === 'deletions')
        assert.deepEqual(stats.deleted, { ...noCounts(), regular: 1, directories: 1, symlinks: 1 })
    })
  }

  test('units with -h and -hh', async (t) => {
    const home = stage(t, 'head -c 3456789 /dev/zero > s/a; for i in {1..1100}; do ln -s x s/$i; done')
    const exact = await run(['-a', '--stats', 's/', 'd1/'], home)
    for (const [option, human] of [
      ['-h', 2],
      ['-hh', 3],
    ] as const) {
      const { out } = await run(['-a', '--stats', option, 's/', `d${option}/`], home)
      const times = { flistBuildMs: parse(out).flistBuildMs, flistTransferMs: parse(out).flistTransferMs }
      const ours = statsBlock({ ...parse(exact.out), ...times }, { human, protocol: 32 })
      // The lists differ by a few bytes from run to run, too few for two decimals.
      assert.equal(ours, out.slice(0, out.indexOf('\nsent ')))
      assert.match(ours, /Number of files: 1,102 \(reg: 1, dir: 1, link: 1,100\)\n/)
    }
  })
})

describe('progress', () => {
  const LINE = /^\r( *[\d,.]+[KMGTP]?) ( *\d+%) ( *[\d.]+)([kMG]B\/s) ( *\d+:\d\d:\d\d| {2}\?\?:\?\?:\?\?)(.*)$/s

  /** All that was written, a line a piece, and without rates and times, which no two runs share. */
  const pieces = (text: string) =>
    text.split(/(?=\r)/).map((piece) => {
      const [, bytes, percent, , , , end] =
        LINE.exec(piece) ?? assert.fail(`not a progress line: ${JSON.stringify(piece)}`)
      return `${bytes} ${percent}${end}`
    })

  test('of files', async (t) => {
    const home = stage(t, 'head -c 1234567 /dev/zero > s/a; touch s/b; echo > s/c')
    const { out } = await run(['-a', '--no-inc-recursive', '--progress', '--out-format=', 's/', 'd'], home)
    const stock = out.split('\n').filter((line) => line.includes('\r') && line.includes('%'))
    let written = ''
    const progress = new Progress({
      of: 'file',
      human: 1,
      write: (text) => {
        written += text
      },
    })
    const standing = (transferred: number, left: number) => ({ transferred, left, entries: 4, complete: true })
    progress.show(32768, 1234567, 1000)
    progress.show(65536, 1234567, 1010) // too soon
    progress.finish(1234567, 1234567, 1020, standing(1, 2))
    progress.finish(0, 0, 1021, standing(2, 1))
    progress.show(1, 1, 1022)
    progress.finish(1, 1, 1023, standing(3, 0))
    assert.deepEqual(pieces(written.replace(/\n/g, '')), pieces(stock.join('')))
    assert.equal(written.split('\n').length, 4)
    assert.match(written, / 1,234,567 100% {3}57\.31MB\/s {4}0:00:00 \(xfr#1, to-chk=2\/4\)\n/)
  })

  test('of the whole', async (t) => {
    const home = stage(t, 'head -c 1234567 /dev/zero > s/a; echo > s/c; ln -s a s/l')
    const { out } = await run(['-a', '--no-inc-recursive', '--info=progress2', 's/', 'd'], home)
    let written = ''
    const screen = new Console({
      out: (text) => {
        written += text
      },
      err: assert.fail,
      charset: 'ascii',
      quiet: false,
    })
    const progress = new Progress({ of: 'total', human: 1, write: (text) => screen.progress(text) })
    const size = 1234567 + 1 + 1
    const standing = (transferred: number, left: number) => ({ transferred, left, entries: 4, complete: true })
    progress.show(32768, size, 1000)
    progress.finish(1234567, size, 1020, standing(1, 2))
    progress.finish(1234568, size, 1040, standing(2, 1))
    const stock = pieces(out.trimEnd())
    // Each end of a phase writes the last part once more.
    for (; stock.length > 3; stock.pop()) progress.finish(1234568, size, 1050, standing(2, 0))
    screen.close()
    assert.deepEqual(pieces(written.trimEnd()).slice(0, 3), stock)
    assert.ok(written.endsWith('\n') && out.endsWith('\n'))
  })

  const SECOND = 1000
  test('rates are those of the last five seconds, the last one is that of all', () => {
    const lines: string[] = []
    const progress = new Progress({ of: 'file', human: 2, write: (text) => lines.push(text) })
    const size = 100 * 2 ** 20
    for (let second = 0; second <= 8; second++) progress.show(second * 2 ** 20, size, second * SECOND)
    progress.show(2 ** 26, size, 8.5 * SECOND)
    progress.finish(size, size, 25 * SECOND, { transferred: 7, left: 3, entries: 10, complete: false })
    assert.equal(lines.length, 10)
    assert.equal(lines[0], '\r              0   0%    0.00kB/s    0:00:00  ')
    assert.equal(lines[1], '\r          1.05M   1% 1024.00kB/s    0:01:41  ')
    assert.equal(lines[8], '\r          8.39M   8% 1024.00kB/s    0:01:34  ')
    assert.equal(lines[9], '\r        104.86M 100%    4.00MB/s    0:00:25 (xfr#7, ir-chk=3/10)\n')
  })

  test('a file that begins soon after another begins where that ended', () => {
    const lines: string[] = []
    const progress = new Progress({ of: 'file', human: 0, write: (text) => lines.push(text) })
    const standing = { transferred: 1, left: 0, entries: 1, complete: true }
    progress.show(1024, 2048, 0)
    progress.finish(2048, 2048, 1, standing)
    progress.show(1024, 2048, 1500)
    assert.match(lines[2], / 1024 {2}50% {4}0\.67kB\/s {4}0:00:01 {2}$/)
    progress.finish(2048, 2048, 1501, standing)
    progress.show(1024, 2048, 5000)
    assert.match(lines[4], / 1024 {2}50% {4}0\.00kB\/s {4}0:00:00 {2}$/)
  })

  test('a time that is too long is not told', () => {
    const lines: string[] = []
    const progress = new Progress({ of: 'file', human: 0, write: (text) => lines.push(text) })
    progress.show(0, 2 ** 50, 0)
    progress.show(1, 2 ** 50, 2000)
    assert.match(lines[1], /0\.00kB\/s {3}\?\?:\?\?:\?\? {2}$/)
  })

  test('only a job in the foreground writes to a terminal', () => {
    assert.equal(inForeground('7 (a) b) S 1 7 7 34816 7 4194304'), true)
    assert.equal(inForeground('7 (ab) S 1 7 7 34816 9 4194304'), false)
    assert.equal(inForeground('7 (ab) S 1 7 7 0 -1 4194304'), true)
    assert.equal(typeof inForeground(readFileSync('/proc/self/stat', 'latin1')), 'boolean')
  })
})

describe('what a terminal is sent', () => {
  const CHARSETS: [Charset, string[], NodeJS.ProcessEnv][] = [
    ['ascii', [], { LC_ALL: 'C' }],
    ['utf8', [], { LC_ALL: 'C.UTF-8' }],
    ['eight-bit', ['-8'], { LC_ALL: 'C' }],
  ]
  const NAMES = [
    '\x01',
    '\x1f\x20',
    '\n',
    'a\r',
    '\x7f',
    '\x80',
    'é',
    '\xc3\xa9',
    '\xe4\xb8\xad\xe6',
    '\xf0\x9f\x98\x80',
    '\xed\xa0\x80',
    '\xc0\xaf',
    '\xf4\x90\x80\x80',
    '\xf4\x8f\xbf\xbf',
    '\xf7\xbf\xbf\xbf',
    '\xf8\x88\x80\x80\x80',
    '\xf8\x87\xbf\xbf\xbf',
    '\xfd\xbf\xbf\xbf\xbf\xbf',
    '\xfc\x83\xbf\xbf\xbf\xbf',
    '\xf0\x8f\xbf\xbf',
    '\xe0\x80\xaf',
    '\xc2\x85',
    '\xff\xfe',
    '\\#123',
    '\\#12',
    'x\\#0123',
    '\\\\#777',
    '\t.',
    '\\#12x',
  ]
  for (const [charset, options, env] of CHARSETS) {
    test(charset, async (t) => {
      const home = stage(t)
      const source = `${home}/s/`
      for (const name of NAMES)
        shell(
          `cd s; : > "$(printf '%b' '${[...name].map((c) => `\\0${c.charCodeAt(0).toString(8)}`).join('')}x')x"`,
          home,
        )
      const { lines } = await run(['-r', ...options, '--out-format=%n', source, 'd'], home, env)
      const shown = NAMES.map((name) => escapeUnprintable(`${name}xx`, charset))
      assert.deepEqual(lines.filter((line) => line !== './').sort(), [...new Set(shown)].sort())
      assert.equal(charset === 'eight-bit' || charsetOf(env) === charset, true)
    })
  }

  test('each code has its stream; -q hides what is no trouble', () => {
    const seen: string[] = []
    const screen = (quiet: boolean) =>
      new Console({
        out: (text) => seen.push(`out:${text}`),
        err: (text) => seen.push(`err:${text}`),
        charset: 'ascii',
        quiet,
      })
    const loud = screen(false)
    for (const code of [MSG.INFO, MSG.CLIENT, MSG.LOG, MSG.WARNING, MSG.ERROR, MSG.ERROR_XFER])
      loud.print(code, `${code}\n`)
    assert.deepEqual(seen.splice(0), ['out:2\n', 'out:7\n', 'err:4\n', 'err:3\n', 'err:1\n'])
    assert.equal(loud.sawTransferError, true)
    const hushed = screen(true)
    for (const code of [MSG.INFO, MSG.CLIENT, MSG.WARNING]) hushed.print(code, 'x\n')
    hushed.progress('\r1%')
    hushed.close()
    assert.deepEqual(seen.splice(0), ['err:x\n'])
    assert.equal(hushed.sawTransferError, false)
    loud.progress('\r1%')
    loud.progress('\r2%')
    loud.print(MSG.ERROR, 'a\nb\r\n')
    loud.progress('\r3%\n')
    loud.progress('\r4%')
    loud.close()
    loud.close()
    assert.deepEqual(seen, ['out:\r1%', 'out:\r2%', 'err:\na\\#012b\\#015\n', 'out:\r3%\n', 'out:\r4%', 'out:\n'])
  })
})

describe('the end', () => {
  const version = shell(`${RSYNCS.stock} --version`, '/').toString().split(/ +/)[2]
  for (const [code, role, args] of [
    [EXIT.SYNTAX, 'client', ['--bogus']],
    [EXIT.FILESELECT, 'Receiver', ['-r', 's/', 'd/file']],
    [EXIT.STARTCLIENT, 'Receiver', ['rsync://127.0.0.1:1//x', 'd']],
    [EXIT.SOCKETIO, 'sender', ['s/a', 'rsync://127.0.0.1:1/m']],
    [EXIT.FILEIO, 'Receiver', ['s/a', 's/b', 'd/no/no/']],
    [EXIT.STREAMIO, 'Receiver', ['-e', 'false', 'h:x', 'd']],
    [EXIT.PARTIAL, 'sender', ['s/none', 'd']],
    [EXIT.DEL_LIMIT, 'sender', ['-r', '--delete', '--max-delete=0', 's/', 'd']],
    [EXIT.TIMEOUT, 'Receiver', ['--timeout=1', '-e', 'sh -c "sleep 3"', 'h:x', 'd']],
    [EXIT.CMD_NOTFOUND, 'Receiver', ['-e', 'sh -c "sleep 0.3; exit 127"', 'h:x', 'd']],
  ] as const) {
    test(`${code}: ${exitText(code)}`, async (t) => {
      const home = stage(t, 'touch s/a s/b d/file')
      const printed = await run([...args], home)
      assert.equal(printed.code, code)
      const line = printed.err.split('\n').findLast((text) => text.startsWith('rsync error: '))!
      const place = / at (\S+) \[/.exec(line)![1]
      assert.equal(`${line}\n`, exitMessage(code, role, version, place)!.text)
    })
  }

  test('vanished files are a warning, nothing is said of success, an unknown code has a text', () => {
    assert.deepEqual(exitMessage(24, 'sender', '1.2'), {
      code: MSG.WARNING,
      text: 'rsync warning: some files vanished before they could be transferred (code 24) at syncline(0) [sender=1.2]\n',
    })
    assert.equal(exitMessage(0, 'client', '1.2'), null)
    assert.match(exitMessage(99, 'client', '1.2')!.text, /^rsync error: unexplained error \(code 99\) at /)
  })

  test('texts of errors are those of the C library', () => {
    const script = "import os\nprint('|'.join(os.strerror(i) for i in range(140)), end='')"
    const texts = shell(`python3 -c "${script}"`, '/').toString().split('|')
    assert.deepEqual(
      texts.map((_, errno) => strerror(errno)),
      texts,
    )
  })
})
