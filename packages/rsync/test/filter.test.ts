import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Filter, type FilterRule, parseRule, parseRules, type RawPath } from '../src/index.js'
import { listAll, openTree, temporaryDirectory } from './stage.js'
import { RSYNCS, rsync, type Version } from './stock.js'

/** What stock rsync lists below `root` with these rules, given as their own arguments. */
function oracle(version: Version, root: string, rules: readonly FilterRule[]): string[] {
  // Arguments of node:child_process are UTF-8 text, so the patterns here have no bytes above 127.
  const args = rules.map(({ include, pattern }) => `--filter=${include ? '+' : '-'} ${pattern}`)
  const out = rsync(RSYNCS[version], ['-nrlD8', '--out-format=%n', ...args, `${root}/`, join(root, '../nowhere')])
  return out
    .split('\n')
    .map((line) => line.replace(/\/$/, ''))
    .filter((line) => line !== '' && line !== '.')
}

function ours(root: string, rules: readonly FilterRule[], t: Parameters<typeof openTree>[0]): string[] {
  const tree = openTree(t, root)
  return listAll(tree, new Filter(rules))
    .map(({ path }) => path as string)
    .filter((path) => path !== '')
}

const NAMES = [
  'a',
  'b',
  'ab',
  'abc',
  'a.b',
  'a*b',
  'a-b',
  'A',
  '.a',
  'foo',
  'foobar',
  '[a]',
  'a\\b',
  '5',
  'a]',
  '-',
  '^',
  '!',
]

/** A small tree in which every name occurs as a file and as a directory, on three levels. */
function plant(root: string): void {
  for (const [i, first] of NAMES.entries()) {
    const second = NAMES[(i * 7 + 3) % NAMES.length]
    const third = NAMES[(i * 5 + 1) % NAMES.length]
    const write = (path: string) => {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), '')
    }
    write(`${first}/${second}/${third}`)
    write(`${first}/file-${first}`)
    write(`top-${first}`)
    write(`d/${first}`)
    write(`d/e/${second}/${first}`)
  }
}

function compare(t: Parameters<typeof openTree>[0], root: string, rules: FilterRule[]): void {
  const shown = rules.map(({ include, pattern }) => `${include ? '+' : '-'} ${pattern}`).join(', ')
  assert.deepEqual(ours(root, rules, t).sort(), oracle('stock', root, rules).sort(), shown)
}

test('each kind of pattern hides what stock rsync hides', (t) => {
  const root = join(temporaryDirectory(t), 'src')
  plant(root)
  const patterns = [
    'a',
    '/a',
    'a/',
    '/a/',
    'a/b',
    '/a/b',
    'b/a/',
    '*',
    '/*',
    '*/',
    '**',
    '/**',
    '***',
    '/***',
    '?',
    '??',
    '/?',
    'a*',
    '*a',
    '*b*',
    'a?b',
    'a/*',
    'a/**',
    'a/***',
    '/a/***',
    '/a/**',
    'd/*/',
    'd/**/a',
    '**/a',
    '**/b/',
    '/**/a',
    '**a',
    'a**',
    'a**b',
    '/d**a',
    'd/e***',
    'foo***',
    '[a]',
    '[ab]',
    '[!a]',
    '[^a]',
    '[a-c]',
    '[c-a]',
    '[]a]',
    '[!]a]',
    '[a',
    'a[',
    '[[:alpha:]]',
    '[[:digit:]]',
    '[[:upper:]]*',
    '[^[:alnum:]]*',
    '[[:foo:]]',
    '[a-]',
    '[-a]',
    '[\\]]',
    '[[]a]',
    '\\a',
    'a\\*b',
    'a\\b',
    'a\\\\b',
    '*\\b',
    'a\\\\*',
    '\\[a\\]',
    '[a]]',
    '?a?',
    '*.*',
    '.*',
    'a-b',
    '[.-^]',
    '[!-~]',
    'e/*/a',
    '*/*/a',
    '/*/*/',
    '*/e',
    'd/e/*',
    '?/*',
    '/d/e',
    'e/',
    'file-*',
    'top-[a-f]*',
    'a[/]b',
    '*[/]*',
    '**/e/**',
    '**/',
    '/*/**',
    'd//e',
    '*/',
    '[!',
    '[]',
    '[',
    '[a-',
    '*[',
    '\\',
    'a\\',
    '*\\',
  ]
  const all = ours(root, [], t).length
  const hidden = patterns.map((pattern) => {
    compare(t, root, [{ include: false, pattern }])
    return all - ours(root, [{ include: false, pattern }], t).length
  })
  assert.ok(
    hidden.filter((count) => count > 0 && count < all).length > 60,
    'most of the patterns above hide some names, not all',
  )
})

test('any list of rules lets through what stock rsync lets through', (t) => {
  const root = join(temporaryDirectory(t), 'src')
  plant(root)
  const piece = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...NAMES.filter((name) => !name.includes('\\'))) },
    { weight: 3, arbitrary: fc.constantFrom('*', '**', '?', '***', '/') },
    {
      weight: 1,
      arbitrary: fc.constantFrom('[a-c]', '[!a]', '[[:alpha:]]', '[^]f]', '[a', '\\a', '\\*', '[\\*a]', '[*]'),
    },
  )
  const pattern = fc
    .tuple(fc.boolean(), fc.array(piece, { minLength: 1, maxLength: 4 }), fc.boolean())
    .map(([anchored, pieces, directory]) =>
      `${anchored ? '/' : ''}${pieces.join('')}${directory ? '/' : ''}`.replace(/\/\/+/g, '/'),
    )
    .filter((text) => text !== '/' && text !== '')
  const rule = fc.record({ include: fc.boolean(), pattern })
  fc.assert(
    fc.property(fc.array(rule, { minLength: 1, maxLength: 4 }), (rules) => compare(t, root, rules)),
    { numRuns: 120, seed: 20261121 },
  )
})

test('names that are not UTF-8, and names with newlines, are matched byte by byte', () => {
  const patterns = ['\xb2?*', 'a?b', '[\x80-\xff]', '\xd6\xd0/']
  const filter = new Filter(patterns.map((pattern) => ({ include: false, pattern })))
  const hides = (text: string, directory = false) => filter.hides(text as RawPath, directory)
  for (const text of ['\xb2\xe2', 'a\nb', 'x/\xff', '\x80']) assert.ok(hides(text), JSON.stringify(text))
  for (const text of ['a\xc3\xa9b', '\xd6\xd0', '\x7f']) assert.ok(!hides(text), JSON.stringify(text))
  assert.ok(hides('\xd6\xd0', true))
})

test('what is below a hidden directory is hidden, whatever later rules say', () => {
  const filter = new Filter([parseRule('/a', false), parseRule('/a/b', true)])
  assert.ok(filter.hides('a/b' as RawPath, false))
  assert.ok(!filter.hides('b' as RawPath, false))
  assert.ok(!filter.hides('' as RawPath, true))
})

test('rules are read from a file as --exclude-from and --include-from read it', (t) => {
  const home = temporaryDirectory(t)
  const root = join(home, 'src')
  plant(root)
  const text = '# a comment\n; another\n\n+ a.b\n- a\n/d/e/\n  b\n+ *\n+  \n#foo\n'
  writeFileSync(join(home, 'rules'), text)
  for (const include of [false, true]) {
    const option = `--${include ? 'include' : 'exclude'}-from=${join(home, 'rules')}`
    const out = rsync('rsync', [
      '-nrlD8',
      '--out-format=%n',
      option,
      '--exclude=foo*',
      `${root}/`,
      join(home, 'nowhere'),
    ])
    const theirs = out
      .split('\n')
      .map((line) => line.replace(/\/$/, ''))
      .filter((line) => line !== '' && line !== '.')
    const rules = [...parseRules(text, include), parseRule('foo*', false)]
    assert.deepEqual(ours(root, rules, t).sort(), theirs.sort())
  }
})

test('a rule without a pattern is refused', () => {
  for (const text of ['', '/', '+ ', '- /']) assert.throws(() => parseRule(text, false), /empty pattern/)
})
