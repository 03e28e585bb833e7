import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { parseOperand } from '../src/operand.js'
import { parseInvocation } from '../src/options.js'
import { escapePath, expandPath, requestedPaths, unescapeArgument } from '../src/remote-args.js'
import { allowsIncRecurse, serverArguments, splitSecluded } from '../src/server-options.js'
import { temporaryDirectory } from './stage.js'
import { RSYNCS } from './stock.js'

const STOCK = RSYNCS.stock

/** Each is tried as a push and as a pull. */
const LINES: string[][] = [
  '',
  '-a',
  '-av',
  '-vvv',
  '-q',
  '-avz --stats',
  '-rlptD',
  '-a --no-D',
  '-a --no-specials',
  '-a --no-devices',
  '-a --no-r',
  '-a --no-o --no-g',
  '-aAXH',
  '-aXX --numeric-ids',
  '-rE',
  '-aE',
  '-rtSW',
  '-S --inplace --no-W',
  '-S --inplace',
  '-acIu',
  '-aRxx --no-implied-dirs',
  '-R --no-i-d',
  '-aC -F',
  '-akK',
  '-aL -m',
  '-a --no-i-r',
  '-aOJ',
  '-ab',
  '-abO --delete',
  '-aO --backup-dir=old',
  '-b --suffix=.b',
  '--backup-dir=./y --suffix=z',
  '--backup-dir=. --suffix=.x',
  '-d',
  '-rd',
  '--old-d',
  '-d --delete',
  '--list-only',
  '-a --delete',
  '-a --del',
  '-a --delete-before',
  '-a --delete-delay',
  '-a --delete-after',
  '-a --delete-excluded',
  '-a --delete --delete-excluded --force --ignore-errors',
  '-a --delete --max-delete=5',
  '-a --delete --max-delete=0',
  '--max-delete=-3',
  '--delete-missing-args',
  '--ignore-missing-args',
  '--delete-missing-args --ignore-missing-args',
  '-n',
  '-an --remove-source-files',
  '-P',
  '--progress',
  '--progress -i',
  '--progress --info=name0',
  '--progress --out-format=%b',
  '-i',
  '-ii',
  '-i --no-i',
  '-vi',
  '--out-format=%o',
  '--out-format=%n',
  '--out-format=%-10o',
  '--out-format=%%i',
  '--log-format=%i',
  '--info=progress2',
  '--info=all',
  '--info=none',
  '--info=all4,name',
  '--info=none,name',
  '--info=flist2,stats3,del0',
  '-v --info=del0,skip2',
  '--info=backup,copy,del,misc,name',
  '--info=misc0,mount0,name0,nonreg0,remove0',
  '--info=Name2,name3',
  '--max-size=1.5m --min-size=2KB',
  '--max-size=4GiB-1',
  '--max-size=1t',
  '--max-size=0',
  '-B700',
  '-B=5',
  '--block-size 4k',
  '--bwlimit=1.5m',
  '--bwlimit=100',
  '--bwlimit=2KB',
  '--bwlimit=0',
  '--timeout=5',
  '--timeout=0x10',
  '--timeout=010',
  '--timeout=-5',
  '--checksum-seed=-1',
  '--modify-window=2',
  '--modify-window=0',
  '-@-1',
  '-z',
  '-zz',
  '-z --zl=3',
  '--zl=3',
  '--zl=0',
  '-zz --no-z',
  '--zl=3 --no-z',
  '--zc=zlib',
  '--zc=ZLIBX',
  '--zc=none -z',
  '--zc=auto -z',
  '--old-compress',
  '--new-compress',
  '-z --skip-compress=gz/jpg',
  '--cc=md5',
  '--cc=MD5,none',
  '--cc=xxhash',
  '--cc=none',
  '--cc=auto',
  '--cc=auto,md5',
  '--no-W --cc=none,md5',
  '--partial',
  '--partial --no-partial',
  '--partial-dir=.p',
  '--partial-dir=a/../b/',
  '--partial-dir=/a/../..',
  '--partial-dir=.',
  '-a --delay-updates',
  '--delay-updates --partial-dir=q',
  '-T /x --fsync --preallocate',
  '--temp-dir=',
  '--compare-dest=/a --compare-dest=../b',
  '--copy-dest=a',
  '--link-dest=/a',
  '--append',
  '--append-verify',
  '--append --append',
  '--inplace',
  '--existing --ignore-existing --size-only',
  '--safe-links --copy-unsafe-links',
  '--super',
  '--fake-super',
  '--super --fake-super',
  '--files-from=/etc/hostname',
  '-a --files-from=/etc/hostname',
  '-r --files-from=- -0',
  '-0 --files-from=:list',
  '--no-R --files-from=HOST:list',
  '-d --files-from=:li*t',
  '-M--fake-super -M --backup-dir=a',
  '--chmod=u+x',
  '--protocol=30 -a',
  '--old-args -a',
  '-s -a --partial-dir=x --info=name',
  '--munge-links -8h -4',
].map((line) => line.split(' ').filter((word) => word !== ''))
for (const odd of ['a b', "it's", '~/x', '*?[]', 'a\\b', '$(x)', 'n\nr\r', '\t"`&|<>(){};!#%=^,@:+-'])
  LINES.push(
    [`--backup-dir=${odd}`, `--partial-dir=q${odd}`, `-M--x=${odd}`, `--link-dest=${odd}`],
    ['--old-args', `--temp-dir=${odd}`, `-M--x=${odd}`],
  )
LINES.push(['--old-args', '--old-args', '--suffix=a b'], ['-s', '--suffix=a b'])

const PATHS = [
  'dst',
  '',
  '-x',
  '~',
  '~x/y',
  '~x/./y',
  'a b',
  'a\\*b\\',
  'a\\*b\\q',
  '*?[x]',
  '\\',
  `!"#$%&'()*+,-./;<=>?@[\\]^_\`{|}~ \t\r\n`,
]

/** Runs stock rsync with a remote shell that only writes down what it was given. */
function recorder(t: TestContext): (args: readonly string[], stdin?: string) => string[] {
  const directory = temporaryDirectory(t)
  const [shell, record] = [join(directory, 'shell'), join(directory, 'record')]
  writeFileSync(shell, '#!/bin/sh\nshift\nprintf "%s\\0" "$@" > "$RECORD"\nexit 1\n')
  chmodSync(shell, 0o755)
  return (args) => {
    rmSync(record, { force: true })
    const env = { ...process.env, RECORD: record }
    const run = spawnSync(STOCK, ['-e', shell, ...args], { env, cwd: directory, timeout: 10_000, encoding: 'utf8' })
    assert.ok(existsSync(record), `${args.join(' ')}: ${run.stderr}`)
    return readFileSync(record, 'utf8').split('\0').slice(0, -1)
  }
}

/** What our client gives to a remote shell, or to a daemon. */
function ours(args: readonly string[]): string[] {
  const { settings, operands, rsyncPath } = parseInvocation(args, {})
  const parsed = operands.map(parseOperand)
  const remote = parsed.filter(({ kind }) => kind !== 'local')
  const daemon = remote[0].kind === 'daemon'
  const sender = parsed[0].kind !== 'local'
  const all = serverArguments(settings, { sender, daemon, paths: remote.map(({ path }) => path) })
  return [...(daemon ? [] : [rsyncPath]), ...(settings.secludedArgs && !daemon ? splitSecluded(all).open : all)]
}

/** Both answers to each command line. */
class Answers {
  #ours: Record<string, unknown> = {}
  #stock: Record<string, unknown> = {}
  add(args: readonly string[], our: unknown, stock: unknown): void {
    this.#ours[args.join(' ')] = our
    this.#stock[args.join(' ')] = stock
  }
  assertSame(): void {
    assert.deepEqual(this.#ours, this.#stock)
  }
}

test('server options: a remote shell is given what stock rsync gives it', (t) => {
  const stock = recorder(t)
  const answers = new Answers()
  for (const line of LINES) {
    const options = line.map((word) => word.replace('HOST', 'h'))
    for (const operands of [
      ['src', 'h:dst'],
      ['h:src', 'dst'],
    ]) {
      const args = [...options, ...operands]
      answers.add(args, ours(args), stock(args))
    }
  }
  answers.assertSame()
})

test('server options: paths are escaped for the remote shell as stock rsync escapes them', (t) => {
  const stock = recorder(t)
  const answers = new Answers()
  for (const path of PATHS) {
    for (const options of [[], ['-R'], ['--old-args'], ['--files-from=:x'], ['-s']]) {
      for (const operands of [
        ['src', `h:${path}`],
        [`h:${path}`, 'dst'],
      ]) {
        const args = [...options, ...operands]
        answers.add(args, ours(args), stock(args))
      }
    }
  }
  answers.assertSame()
})

/** A daemon that lets everybody in and writes down the arguments. */
async function fakeDaemon(t: TestContext): Promise<{ port: number; heard: () => Promise<string> }> {
  let tell: (heard: string) => void = () => {}
  const server: Server = createServer((socket) => {
    let all = ''
    let greeted = false
    socket.on('error', () => {})
    socket.write('@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n')
    socket.on('data', (chunk) => {
      all += chunk.toString('utf8')
      if (!greeted && all.split('\n').length > 2) {
        greeted = true
        all = all.split('\n').slice(2).join('\n')
        socket.write('@RSYNCD: OK\n')
      }
      // What is behind the last list is the beginning of the negotiation.
      const lists = all.split('\0\0')
      const count = /^--server\0(--sender\0)?-s/.test(all) ? 2 : 1
      if (!greeted || lists.length <= count) return
      tell(lists.slice(0, count).join('\0\0').concat('\0\0'))
      socket.destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const heard = () => new Promise<string>((resolve) => (tell = resolve))
  return { port: (server.address() as AddressInfo).port, heard }
}

test('server options: a daemon is told what stock rsync tells it', async (t) => {
  const { port, heard } = await fakeDaemon(t)
  const answers = new Answers()
  const lists = LINES.filter((line) => !/HOST|--temp-dir=$/.test(line.join())).filter((_, i) => i % 3 === 0)
  for (const options of [...lists, ['-s', '-a', '--partial-dir=a b'], ['--files-from=:x', '--contimeout=5']]) {
    for (const pull of [false, true]) {
      const url = `rsync://127.0.0.1:${port}/m/a b*\\ ~`
      const args = [...options, ...(pull ? [url, 'dst'] : ['src', url])]
      const told = heard()
      const child: ChildProcess = spawn(STOCK, args, { stdio: 'ignore', cwd: '/tmp' })
      const said = await Promise.race([told, once(child, 'exit').then(([status]) => `exit ${status}`)])
      child.kill()
      answers.add(args, listText(ours(args)), said)
    }
  }
  answers.assertSame()
})

/** A list as it is sent: each word ends in a NUL, and the list in an empty word. */
function listText(args: readonly string[]): string {
  const text = (words: readonly string[]) => [...words, ''].map((word) => `${word}\0`).join('')
  if (!/^-s/.test(args.find((word) => !word.startsWith('--')) ?? '')) return text(args)
  const { open, secluded } = splitSecluded(args)
  return text(open) + text(secluded)
}

test('inc-recurse: wanted unless the receiving client must see the whole list first', () => {
  const settings = (line: string) => parseInvocation([...line.split(' '), 'a', 'h:b'], {}).settings
  assert.equal(allowsIncRecurse(settings('-a --delete-after'), false), true)
  assert.equal(allowsIncRecurse(settings('-a --delete-after'), true), false)
  assert.equal(allowsIncRecurse(settings('-a --delete'), true), true)
  assert.equal(allowsIncRecurse(settings('-d'), false), false)
})

test('a daemon takes backslashes out of options, and reads what old clients put into one argument', () => {
  assert.equal(unescapeArgument('--suffix=a\\ b\\\\c\\*\\nd\\'), '--suffix=a b\\c*nd\\')
  assert.deepEqual(requestedPaths('m', 'm/a b m/c'), ['a b', 'c'])
  assert.deepEqual(requestedPaths('m', 'm'), [''])
  assert.deepEqual(requestedPaths('m', 'm/'), [''])
  assert.deepEqual(requestedPaths('m', 'other/x'), ['other/x'])
})

test('requested paths: wildcards stand for what is there', () => {
  const tree: Record<string, string[]> = {
    '': ['star2', 'star1', '.hidden', 'q\\r', '[x]', 'x', 'sub', '-dash', 'é'],
    sub: ['f1', 'f2', 'g'],
  }
  const expand = (path: string) => expandPath(path, (directory) => tree[directory] ?? null)
  assert.deepEqual(expand('star*'), ['star1', 'star2'])
  assert.deepEqual(expand('s*/f?'), ['sub/f1', 'sub/f2'])
  assert.deepEqual(expand('\\[x]'), ['[x]'])
  assert.deepEqual(expand('[x]'), ['x'])
  assert.deepEqual(expand('q\\r'), ['q\\r'])
  assert.deepEqual(expand('none*'), ['none*'])
  assert.deepEqual(expand('none\\*\\q'), ['none\\*\\q'])
  assert.deepEqual(expand('*dash'), ['-dash'])
  assert.deepEqual(expand('.h*'), ['.hidden'])
  assert.deepEqual(expand('sub/*/'), ['sub/f1/', 'sub/f2/', 'sub/g/'])
  assert.deepEqual(expand('[[:alpha:]]'), ['x'])
  assert.deepEqual(expand('[!x-z]'), ['é'])
})

test('requested paths: a hostile pattern costs no more than a look at each name', () => {
  const long = 'a'.repeat(255)
  const started = performance.now()
  assert.deepEqual(expandPath(`${'*a'.repeat(100)}b*`, () => Array.from({ length: 100 }, () => long)).length, 1)
  assert.ok(performance.now() - started < 5_000)
})

test('paths: a dash in front never reaches the other end as an option', () => {
  const { settings } = parseInvocation(['--old-args', 'a', 'h:b'], {})
  assert.equal(escapePath('--delete', settings, false), './--delete')
})
