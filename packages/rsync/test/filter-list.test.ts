import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  daemonFilter,
  FilterError,
  FilterList,
  type FilterScope,
  type ModuleFilter,
  PER_DIRECTORY_MAX,
  PER_DIRECTORY_OPTION,
  type Reading,
  RULE_FILE_MAX,
  RULES_MAX,
  readRuleFile,
} from '../src/filter.js'
import { fromBytes, type RawPath } from '../src/index.js'
import { temporaryDirectory } from './stage.js'
import { rsync, StockDaemon } from './stock.js'

/** What the filter options of a command line amount to, read in order as rsync does. */
interface CommandLine {
  list: FilterList
  how: Reading
  deletes: boolean
}

const raw = (text: string) => fromBytes(Buffer.from(text))

function reading(environment: Record<string, string>): Reading {
  return { read: readRuleFile, from0: false, deleteExcluded: false, environment, warn: () => undefined }
}

const OPTION: Record<string, (to: CommandLine, value: string) => FilterList> = {
  '--filter': ({ list, how }, value) => list.filter(value, how),
  '--exclude': ({ list, how }, value) => list.pattern(value, false, how),
  '--include': ({ list, how }, value) => list.pattern(value, true, how),
  '--exclude-from': ({ list, how }, value) => list.file(raw(value), false, how),
  '--include-from': ({ list, how }, value) => list.file(raw(value), true, how),
  '-F': ({ list, how }) => list.filter(PER_DIRECTORY_OPTION[0], how),
  '-FF': ({ list, how }) => PER_DIRECTORY_OPTION.reduce((so, rule) => so.filter(rule, how), list),
}

function parse(args: readonly string[], environment: Record<string, string>): CommandLine {
  const line: CommandLine = { list: new FilterList(), how: reading(environment), deletes: false }
  for (const arg of args) {
    const [, name, value] = /^(.*?)(?:=(.*))?$/s.exec(arg) ?? []
    if (name === '--from0') line.how = { ...line.how, from0: true }
    else if (name === '--delete-excluded') line.how = { ...line.how, deleteExcluded: true }
    else if (name in OPTION) line.list = OPTION[name](line, raw(value ?? ''))
    if (name.startsWith('--delete')) line.deletes = true
  }
  if (args.includes('-C')) line.list = line.list.cvs(line.how)
  return line
}

function entriesOf(root: string, dir: RawPath): { path: RawPath; directory: boolean }[] {
  const entries = readdirSync(join(root, dir), { withFileTypes: true })
  return entries.map((entry) => {
    const name = raw(entry.name)
    return { path: (dir === '' ? name : `${dir}/${name}`) as RawPath, directory: entry.isDirectory() }
  })
}

/** What a sender lists of `root`: directories with a slash. */
function sent(root: string, { list, how }: CommandLine): string[] {
  const found: string[] = []
  const visit = (dir: RawPath, outer: FilterScope) => {
    const scope = outer.enter(dir)
    for (const { path, directory } of entriesOf(root, dir)) {
      if (scope.hides(path, directory)) continue
      found.push(directory ? `${path}/` : path)
      if (directory) visit(path, scope)
    }
  }
  visit(raw(''), list.at(raw(root), how))
  return found
}

/** What a receiver deletes of `root` when `listed` is what the sender listed. */
function deleted(root: string, { list, how }: CommandLine, listed: readonly string[]): string[] {
  const found: string[] = []
  const wipe = (dir: RawPath, outer: FilterScope): boolean => {
    const scope = outer.enter(dir)
    const left = entriesOf(root, dir).filter(({ path, directory }) => {
      if (scope.protects(path, directory, true)) return true
      // A dry run finds out too late that something is left in a directory below.
      found.push(directory ? `${path}/` : path)
      return directory && !wipe(path, scope)
    })
    return left.length === 0
  }
  const visit = (dir: RawPath, outer: FilterScope) => {
    const scope = outer.enter(dir)
    for (const { path, directory } of entriesOf(root, dir)) {
      const name = directory ? `${path}/` : path
      if (listed.includes(name)) {
        if (directory) visit(path, scope)
      } else if (!scope.protects(path, directory) && (!directory || wipe(path, scope))) found.push(name)
    }
  }
  visit(raw(''), list.at(raw(root), how))
  return found
}

interface Outcome {
  sent: string[]
  deleted: string[]
}

function stock(home: string, args: readonly string[], environment: Record<string, string>): Outcome {
  const { stdout, stderr, status } = spawnSync(
    'rsync',
    ['-anII', '--out-format=%o %n', ...args, `${home}/up/src/`, `${home}/dst/`],
    { cwd: home, encoding: 'latin1', input: '', env: { PATH: process.env.PATH, LC_ALL: 'C', ...environment } },
  )
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`)
  const outcome: Outcome = { sent: [], deleted: [] }
  for (const line of stdout.split('\n')) {
    const [, what, name] = /^(send|recv|del\.) (.*)$/.exec(line) ?? []
    if (what === 'del.') outcome.deleted.push(name)
    else if (what !== undefined && name !== './') outcome.sent.push(name)
  }
  return outcome
}

function ours(home: string, args: readonly string[], environment: Record<string, string>): Outcome {
  const line = parse(args, environment)
  const listed = sent(`${home}/up/src`, line)
  return { sent: listed, deleted: line.deletes ? deleted(`${home}/dst`, line, listed) : [] }
}

/** Names of every kind on several levels, and per-directory files with rules of every kind. */
const FILES: Record<string, string> = {
  a: '',
  b: '',
  'a.o': '',
  'core/x': '',
  tags: '',
  'foo.c': '',
  'foo.h': '',
  'foo bar': '',
  '#hash': '',
  ';semi': '',
  '!bang': '',
  '- dash': '',
  'd/a': '',
  'd/b': '',
  'd/a.o': '',
  'd/foo.c': '',
  'd/e/a': '',
  'd/e/b': '',
  'd/e/f/a': '',
  'd/e/f/b': '',
  'd/e/f/keep.o': '',
  'd/.git/x': '',
  'e/a': '',
  'e/d/a': '',
  'e/d/b': '',
  'e/f/d/a': '',
  'sub/b~': '',
  'sub/x.bak': '',
  'sub/own': '',
  'sub/mine': '',
  // inheritance, and rules anchored to their directory
  '.top': '- /a\n- b\n',
  'd/.top': '+ b\n- /e/a\n',
  'd/e/.top': '- f/\n',
  // clearing what is inherited
  '.clear': '- a\n- *.o\n',
  'd/.clear': '- b\n!\n- *.c\n',
  'd/e/.clear': '!\n',
  // a file within a file, in either way of naming it
  '.nest': ': .inner\n. piece\n',
  piece: '- b\n- /d/e/f\n',
  'd/.inner': '- a\n',
  'd/e/.nest': '. ./own-piece\n',
  'd/e/own-piece': '+ a\n- own-piece\n- /f\n',
  'd/e/f/.inner': '+ a\n- *\n',
  // sides
  '.sides': 'H a\nP b\n-r foo.c\n',
  'd/.sides': 'S a\nR b\n- e\n',
  'e/.sides': '-s d\n-p a\n',
  // words
  '.words': '-_a\t-_b\n\n-_*.c',
  '.cvsignore': 'own\na b',
  'sub/.cvsignore': 'mine !\nown',
  'd/.cvsignore': 'e\n',
  '.bare': 'a\n- b\n#b\n/d/e\n',
  'd/.bare': '!\n+ a\n/b\n',
  '.rsync-filter': '- *.h\n- /e/d\n',
  'd/.rsync-filter': '+ e\n- f\n',
  '.slash': '- /d/e\n- e/a\n- d/**\n',
  'e/.slash': '+ d/a\n-! *\n',
  '.negated': '-! */\n',
  'e/.negated': '+ a\n',
}

/** What only the destination has. */
const EXTRA: Record<string, string> = {
  extra: '',
  'extra.o': '',
  'd/extra': '',
  'd/extra.o': '',
  'd/e/extra.h': '',
  'old/a': '',
  'old/b': '',
  'old/x/a': '',
  'old/x/b': '',
  'gone/CVS/x': '',
  'gone/a.o': '',
  'gone/a': '',
  'gone2/CVS/x': '',
  'gone2/x.o': '',
  'old/.sides': '+ a\n- b\n',
  'old/.top': '- x/\n',
  'e/f/old': '',
  'sub/keep.bak': '',
  'sub/.bare': 'keep.bak\n',
}

function plant(root: string, files: Record<string, string>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), content)
  }
}

/** Names of files in options are relative to the working directory. */
function workingDirectory(t: TestContext): string {
  const before = process.cwd()
  t.after(() => process.chdir(before))
  const home = temporaryDirectory(t)
  process.chdir(home)
  return home
}

function stage(t: TestContext): string {
  const home = workingDirectory(t)
  plant(join(home, 'up/src'), FILES)
  plant(join(home, 'dst'), { ...FILES, ...EXTRA })
  // Only a directory that differs is mentioned.
  for (const path of readdirSync(join(home, 'dst'), { recursive: true })) utimesSync(join(home, 'dst', `${path}`), 0, 0)
  plant(home, {
    '.rsync-filter': '- a.o\n',
    'up/.rsync-filter': '- foo.c\n: .extra\n+ *.h\n',
    'up/.top': '- e/f\n',
    'up/.extra': '- /src/b\n',
    rules: '# a comment\n; another\n\n+ d/\n- a\n+ b\n. more\n-s foo*\n',
    more: '- /e\n+ foo.h\n',
    list: 'a\n+ b\n- foo.c\n; no\n!\n- d/e\n+ foo.h\nfoo.*\n',
    nul: '- a\n\0- b\0#x\0+ *.c\0- foo*\0',
    words: 'a b\n  d/e\tfoo.c ',
    prefixed: '-_a +_b -_foo.c -_b',
    cvs: 'a b ! foo.c\n',
    self: ': .top\n- e\n',
  })
  return home
}

function compare(home: string, args: readonly string[], environment: Record<string, string> = {}): Outcome {
  const theirs = stock(home, args, environment)
  const mine = ours(home, args, environment)
  assert.deepEqual(mine.sent.sort(), theirs.sent.sort(), `sent with ${args.join(' ')}`)
  assert.deepEqual(mine.deleted.sort(), theirs.deleted.sort(), `deleted with ${args.join(' ')}`)
  return mine
}

const f = (...rules: string[]) => rules.map((rule) => `--filter=${rule}`)

/** Rule sets; each is tried without deletion, with --delete, and with --delete-excluded before and behind the rules. */
const RULE_SETS: string[][] = [
  f('- a'),
  f('-_a'),
  f('exclude a'),
  f('exclude_a'),
  f('exclude, a'),
  f('-, a'),
  f('- /a'),
  f('- d/'),
  f('- *.o', '- e/d'),
  f('+ *.c', '- foo*'),
  f('include *.c', 'exclude foo*'),
  f('+ */', '+ *.c', '- *'),
  f('+ d/', '+ d/e/***', '- *'),
  f('+ /d/***', '- a', '+ e', '- d'),
  f('- a', '!', '- b'),
  f('- a', 'clear', '- b'),
  f('hide a', 'protect b'),
  f('H a', 'P b'),
  f('S a', '- a', 'R b', '- b'),
  f('show *.c', 'risk *.o', '- *.?'),
  f('H,! */'),
  f('-! */'),
  f('-! *.c', '+ a'),
  f('+! *.o', '- *.o'),
  f('-!/ /a'),
  f('-s a', '-r b'),
  f('-sr a', '+rs b', '- b'),
  f('+s a', '+r b', '- a', '- b'),
  f('-p *.o', '-p CVS'),
  f('- *.o', '- CVS'),
  f('Pp *.o', 'P CVS'),
  f('P,p *.o', '-p a'),
  f('-x a', '- b'),
  f('-x user.*'),
  f('-/ /a'),
  f('-/ src/a', '-/ dst/b'),
  f('-/ **/src/d/e'),
  f('-/ d/e', '-/ up/src/e/'),
  f('. rules'),
  f('merge rules'),
  f('merge,- more'),
  f('.+ words', '- *'),
  f('.-w words'),
  f('.w prefixed'),
  f('.C cvs'),
  f('.s more'),
  f('.r more', '- b'),
  f('.p more'),
  f('.e rules'),
  f('. self'),
  f('./ rules'),
  f(': .top'),
  f(':n .top'),
  f('dir-merge .top'),
  f('dir-merge,e .top'),
  f(':en .top'),
  f('+ a', ': .top'),
  f(': .top', '- *.o', '- e'),
  f(': .clear'),
  f(': .clear', ': .top'),
  f(': .nest'),
  f(':n .nest'),
  f(': .nest', ': .inner'),
  f(': .inner', ': .nest'),
  f(': .sides'),
  f(':n .sides'),
  f(':w .words'),
  f(':-w .cvsignore'),
  f(':C'),
  f(':C .cvsignore', '- a'),
  f(':sC', '- *.o'),
  f(':rC', '- *.o'),
  f(':- .bare'),
  f(':+ .bare', '- *'),
  f(':s- .bare'),
  f(':r- .bare'),
  f(':p- .bare'),
  f(':/- .bare'),
  f(': .slash'),
  f(':/ .slash'),
  f(':p .slash'),
  f(': .negated'),
  f(':s .top'),
  f(':r .top'),
  f(': sub/.top'),
  f(': ../.top'),
  f(': ../../.rsync-filter'),
  f(':n ../.top'),
  f(': /.rsync-filter'),
  f(': .missing'),
  f('-C'),
  f('-C', '- foo.c'),
  f('+C'),
  f('-Cs'),
  f('-Cr', '- a'),
  f('+ a.o', '-C'),
  ['-F'],
  ['-FF'],
  ['-F', '-C'],
  ['-C'],
  ['-C', ...f(':C', '+ *.o')],
  ['-C', ...f('+ tags', '!')],
  ['--exclude=a'],
  ['--exclude=+ a', '--exclude=b', '--exclude=*.c'],
  ['--include=- a', '--include=b', '--exclude=*'],
  ['--include=*/', '--include=a', '--exclude=*'],
  ['--exclude=!bang'],
  ['--exclude=a', '--exclude=!', '--include=!', '--exclude=b'],
  ['--exclude=- dash', '--exclude=- - dash'],
  ['--exclude=foo bar', '--exclude=', '--exclude=#hash'],
  ['--exclude-from=list'],
  ['--include-from=list', '--exclude=*'],
  ['--exclude=a', '--exclude-from=list', '--include=d'],
  ['--from0', '--filter=. nul'],
  ['--filter=.- list', '--from0', '--exclude-from=nul'],
  ['--from0', '--filter=: .top'],
]

test('what is transferred and deleted is what stock rsync transfers and deletes', (t) => {
  const home = stage(t)
  const environment = { HOME: join(home, 'home'), CVSIGNORE: 'e/d foo.h' }
  plant(join(home, 'home'), { '.cvsignore': '*.c own\n' })
  const all = compare(home, ['--delete']).sent.length
  let telling = 0
  for (const rules of RULE_SETS) {
    const plain = compare(home, rules, environment)
    if (plain.sent.length < all) telling++
    compare(home, ['--delete', ...rules], environment)
    compare(home, ['--delete', '--delete-excluded', ...rules], environment)
    compare(home, ['--delete', ...rules, '--delete-excluded'], environment)
  }
  assert.ok(telling > 80, `${telling} rule sets hide something`)
})

test('of several sources, per-directory files above are looked for above the first alone', (t) => {
  const home = stage(t)
  const { list, how } = parse(['-F'], {})
  const out = rsync('rsync', ['-an', '-F', '--out-format=%n', join(home, 'up/src/d'), join(home, 'up/src/e'), home])
  const first = list.at(raw(join(home, 'up/src')), how)
  assert.ok(first.enter(raw('d')).hides(raw('d/a.o'), false), 'hidden by a file above')
  assert.ok(!first.enter(raw('e')).hides(raw('e/a.o'), false))
  assert.ok(
    !first
      .at(raw(join(home, 'dst')))
      .enter(raw('d'))
      .hides(raw('d/a.o'), false),
  )
  assert.ok(!out.includes('d/a.o') && !out.includes('d/foo.c') && out.includes('e/d/a'))
})

/** What rsync refuses, and how: the message without its prefix, and the exit code. */
const REFUSED: string[][] = [
  f('x foo'),
  f('-foo'),
  f('-'),
  f('exclude'),
  f('excludes foo'),
  f('! x'),
  f('clear x'),
  f('clear,x'),
  f('merge'),
  f(':'),
  f('Ps foo'),
  f('-e foo'),
  f('-n foo'),
  f('-w foo'),
  f('-- foo'),
  f(':! foo'),
  f(':-+ foo'),
  f(':-C foo'),
  f('exclude\tfoo'),
  f('hide,C'),
  f(' - a'),
  f('.w two-words'),
  f('.s sided'),
  f('. missing'),
  f('.+ missing'),
  f('merge sub/../missing'),
  f('. outer'),
  f('. deeper'),
  f('. dangling'),
  f('. itself'),
  f('. chain0'),
  ['--exclude=- '],
  ['--include=+ '],
  ['--exclude-from=missing'],
  ['--include-from=missing'],
  ['--exclude-from=empty-pattern'],
  ['--from0', '--exclude-from=nul-empty'],
]

test('what rsync refuses is refused in its words', (t) => {
  const home = workingDirectory(t)
  const chain = Array.from({ length: 40 }, (_, i) => [`chain${i}`, `. chain${i + 1}\n`])
  plant(home, {
    'src/a': '',
    'two-words': '- a - b',
    sided: '\nH a\n',
    outer: '# text\n\n. inner\n',
    inner: '\nbad\n',
    deeper: '\n. outer\n',
    dangling: '- a\n. nowhere\n',
    itself: '. itself\n',
    'empty-pattern': 'a\n- \n',
    'nul-empty': 'a\n\0- \0',
    ...Object.fromEntries(chain),
  })
  for (const args of REFUSED) {
    const { stderr, status } = spawnSync('rsync', ['-an', ...args, 'src/', 'dst/'], { encoding: 'latin1', input: '' })
    const message = stderr.split('\n')[0].replace(/^(rsync: )?(\[\w+\] )?/, '')
    assert.throws(
      () => parse(args, {}),
      (error: unknown) => {
        assert.ok(error instanceof FilterError)
        assert.deepEqual([error.message, error.exitCode], [message, status])
        return true
      },
      args.join(' '),
    )
  }
})

test('files are merged as deep as rsync merges them', (t) => {
  const home = workingDirectory(t)
  const chain = Array.from({ length: 31 }, (_, i) => [`chain${i}`, `. chain${i + 1}\n`])
  plant(home, { 'src/a': '', 'src/b': '', ...Object.fromEntries(chain), chain31: '- a\n' })
  assert.ok(!rsync('rsync', ['-an', '--out-format=%n', '--filter=. chain0', 'src/', 'dst/']).includes('a'))
  assert.deepEqual(sent(join(home, 'src'), parse(f('. chain0'), {})), ['b'])
})

test('files of rules have limits', () => {
  let content = Buffer.alloc(RULE_FILE_MAX + 1, 'x')
  const how = { ...reading({}), read: () => content }
  assert.throws(() => new FilterList().file('big', false, how), /too large/)
  content = Buffer.from('a\n'.repeat(RULES_MAX + 1))
  assert.throws(() => new FilterList().file('long', false, how), /more than 65536 filter rules/)
  content = Buffer.alloc(RULE_FILE_MAX, '\n')
  assert.throws(() => new FilterList().file('empty', false, how), /too many lines/)
  const names = Array.from({ length: PER_DIRECTORY_MAX + 1 }, (_, i) => `: .f${i}\n`)
  content = Buffer.from(names.join(''))
  assert.throws(() => new FilterList().filter('. files', how), /more than 256 per-directory files/)
  const scope = new FilterList().filter(': .f', how).at(raw('/x'), how)
  assert.throws(() => scope.enter(raw('')), /more than 256 per-directory files/)
})

test('a per-directory file that cannot be read is as if it were not there', () => {
  const read = () => {
    throw Object.assign(new Error('EACCES'), { errno: -13, code: 'EACCES' })
  }
  const how = { ...reading({}), read }
  const list = new FilterList().filter(': .f', how)
  assert.ok(!list.at(raw('/x'), how).enter(raw('')).hides(raw('a'), false))
  assert.throws(() => list.filter('. f', how), /^Error: failed to open exclude file f: Permission denied \(13\)$/)
})

/** Parameters of a module; `conf` stands for the directory of the files that they name. */
const MODULES: ModuleFilter[] = [
  { filter: '- a' },
  { filter: '- a - b' },
  { filter: '-_a\t-_b' },
  { filter: '- /a + b - d/' },
  { filter: '- a ! - b' },
  { filter: 'H a' },
  { filter: 'S a - *' },
  { filter: 'P a R b - b' },
  { filter: '-s a -r b -sr foo.c' },
  { filter: '-! */' },
  { filter: '- /d/e/ - e/f' },
  { filter: '- d/e/a' },
  { filter: '+ /d/ + /d/** - *' },
  { filter: '- **/f' },
  { filter: '-C' },
  { filter: '-x user.* - b' },
  { filter: 'merge conf/rules' },
  { filter: 'merge,- conf/list + e - d' },
  { filter: ': .top' },
  { filter: ':n .top - b' },
  { exclude: 'a' },
  { exclude: '/a d/' },
  { exclude: '- a + b *' },
  { exclude: 'd/e' },
  { exclude: 'e/d/ /d/b' },
  { include: '*/ a', exclude: '*' },
  { include: '- a b', exclude: 'b foo.c' },
  { includeFrom: 'conf/list', exclude: '*.o d/' },
  { excludeFrom: 'conf/list' },
  { filter: '+ a', include: 'b', includeFrom: 'conf/more', exclude: '*', excludeFrom: 'conf/list' },
]

const PARAMETER = {
  filter: 'filter',
  include: 'include',
  includeFrom: 'include from',
  exclude: 'exclude',
  excludeFrom: 'exclude from',
} as const

test('a module hides what a stock daemon hides', async (t) => {
  const home = temporaryDirectory(t)
  plant(home, { rules: '+ d/\n- a\n- foo*\n- /e/\n', list: 'a\n+ b\nd/e\nf/\n', more: '/d\n- *.o\n/d/e/\n' })
  for (const given of MODULES) {
    const named = Object.entries(given as Record<string, string>).map(
      ([key, text]) => [key, text.replaceAll('conf/', `${home}/`)] as const,
    )
    const parameters = Object.fromEntries(named.map(([key, text]) => [PARAMETER[key as keyof ModuleFilter], text]))
    const daemon = await StockDaemon.start(t, 'stock', parameters)
    plant(daemon.module, FILES)
    const out = rsync('rsync', ['-rn', '--out-format=%n', daemon.url, join(home, 'nowhere')])
    const inside = { ...reading({}), read: (file: RawPath) => readRuleFile(`${raw(daemon.module)}${file}` as RawPath) }
    const filter = daemonFilter(Object.fromEntries(named), reading({}), inside)
    const visible: string[] = []
    const visit = (dir: RawPath) => {
      for (const { path, directory } of entriesOf(daemon.module, dir)) {
        if (filter.hides(path, directory)) continue
        visible.push(directory ? `${path}/` : path)
        if (directory) visit(path)
      }
    }
    visit(raw(''))
    await daemon.stop()
    const theirs = out.split('\n').filter((line) => line !== '' && line !== './')
    assert.deepEqual(visible.sort(), theirs.sort(), JSON.stringify(given))
  }
})

test('nothing below what a module hides can be reached by its name', () => {
  const filter = daemonFilter({ filter: '+ /secret/plans - /secret - *.key/ - b' }, reading({}), reading({}))
  for (const path of ['secret', 'secret/plans', 'secret/plans/x', 'a/../secret/plans', '/secret//plans', 'a/b/c']) {
    assert.ok(filter.hides(raw(path), false), path)
  }
  assert.ok(filter.hides(raw('x.key/y'), false))
  for (const path of ['', 'a', 'x/secret', 'x.key/..', 'x.key']) assert.ok(!filter.hides(raw(path), false), path)
})

test('attributes are filtered by rules of their own', () => {
  const { list, how } = parse(f('-x user.drop', '+x user.*', 'Hx *.hidden', 'Px *.kept', '- user.keep', '- a'), {})
  const scope = list.at(raw('/x'), how)
  assert.ok(list.filtersXattrs && scope.filtersXattrs)
  assert.ok(scope.hidesXattr('user.drop') && scope.protectsXattr('user.drop'))
  assert.ok(!scope.hidesXattr('user.keep') && !scope.hidesXattr('a'))
  assert.ok(scope.hidesXattr('trusted.hidden') && !scope.protectsXattr('trusted.hidden'))
  assert.ok(!scope.hidesXattr('trusted.kept') && scope.protectsXattr('trusted.kept'))
  assert.ok(!scope.hides(raw('user.drop'), false) && scope.hides(raw('a'), false))
  assert.ok(!parse(f('- user.drop'), {}).list.filtersXattrs)
})

test('patterns that would make others try for ever take a moment', () => {
  const path = `${'a'.repeat(250)}/`.repeat(16).slice(0, 4095)
  const hostile = ['*a', '**a', 'a*', '[a]*', '?*', '*[!b]', '**/', '*/', '[[:alpha:]]*', '**a/', '***?', '\\a*']
  const patterns = hostile.flatMap((piece) => [
    `${piece.repeat(5000).slice(0, 4000)}b`,
    `/${piece.repeat(5000).slice(0, 4000)}b`,
    `x/${piece.repeat(5000).slice(0, 1000)}b`,
    `${piece.repeat(200).slice(0, 200)}b`,
    '[:['.repeat(1300),
    `${'[a-'.repeat(1300)}]`,
  ])
  const how = reading({})
  const list = FilterList.of(f(...patterns.map((pattern) => `- ${pattern}`)).map(argumentOf), how)
  const scope = list.at(raw('/'), how)
  const start = performance.now()
  for (const name of [path, path.replaceAll('/', 'a'), 'a'.repeat(255)]) assert.ok(!scope.hides(raw(name), false))
  assert.ok(performance.now() - start < 10_000, `${performance.now() - start} ms`)
})

const argumentOf = (option: string) => ({ option: 'filter' as const, text: option.replace('--filter=', '') })
