import { HOSTILE_NAMES } from '../../support/names.js'
import { called, type Group } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

const { few } = fixture

/** What is copied where. */
export const operands: Group = {
  name: 'operands',
  cases: [
    called('-a', few, { note: 'without the slash', sources: ['src'], essential: true }),
    called('-a', few, { note: 'several', sources: ['src/one', 'src/sub', 'src/hollow/'] }),
    called('-a', few, { note: 'the same name twice', sources: ['src/sub/', 'src/sub/deep/', 'src/sub'] }),
    called('-a', few, { note: 'one file into a directory', sources: ['src/one'] }),
    called('-a', few, { note: 'one file to a name', sources: ['src/one'], destination: 'two', essential: true }),
    called('-ai', oneOver, {
      note: 'one file over another',
      sources: ['src/one'],
      destination: 'dst/other',
      output: true,
    }),
    called('-a', few, { note: 'a symlink to a name', sources: ['src/link'], destination: 'copy' }),
    called('-a', deepDestination, { note: 'into what is missing', destination: 'dst/new' }),
    called('-a', few, { note: 'two levels missing', destination: 'no/such', output: true }),
    called('-a --mkpath', few, { note: 'two levels made', destination: 'no/such', since: '3.2.7' }),
    called('-a', fileAsDestination, { note: 'a directory to a file', destination: 'file', output: true }),
    called('-a', fileAsDestination, {
      note: 'two files to a file',
      sources: ['src/one', 'src/link'],
      destination: 'file',
      output: true,
    }),
    called('-a', linkAsDestination, { note: 'a symlink as destination', destination: 'link' }),
    called('-aR', few, { note: 'several', sources: ['src/./sub/deep', 'src/./one'], essential: true }),
    called('-aR', few, { note: 'all of the path', sources: ['src/./sub/deep/three', 'src/./hollow/'] }),
    called('-aR --no-implied-dirs', impliedDirectories, { sources: ['src/./sub/deep/three', 'src/./one'] }),
    called('-aR', impliedDirectories, { note: 'implied directories', sources: ['src/./sub/deep/three'] }),
    called('-rR --delete', fixture.fewAndExtra, { sources: ['src/./sub/', 'src/./hollow'] }),
    called('-d', few),
    called('-d', few, { note: 'without the slash', sources: ['src'] }),
    called('-dlt', few, { note: 'several', sources: ['src/sub', 'src/sub/deep/', 'src/one'] }),
    called('-lt', few, { note: 'not recursive', output: true }),
    called('-a', empty, { note: 'an empty directory' }),
    called('-a --files-from=list', emptyList, { note: 'nothing' }),
    called('-a --exclude=*', few, { note: 'nothing but the root' }),
    called('-a', few, { note: 'missing', sources: ['src/nowhere'], output: true, essential: true }),
    called('-a', few, { note: 'one of two missing', sources: ['src/nowhere', 'src/one'], output: true }),
    called('-a', few, { note: 'a missing directory', sources: ['nowhere/'], output: true }),
    called('-a --files-from=list', missingInList, { output: true }),
    called('-a', unreadable, { note: 'a file that cannot be read', nobody: 'sender', output: true, essential: true }),
    called('-a', closedDirectory, { note: 'a directory that cannot be read', nobody: 'sender', output: true }),
    called('-a', notOurs, { note: 'a directory that cannot be written', nobody: 'receiver', output: true }),
    called('-a --no-such-option', few, { output: true }),
  ],
}

/** Names that Linux allows and programs trip over. */
export const names: Group = {
  name: 'names',
  cases: [
    called('-a', hostile, { essential: true }),
    called('-ai', hostile, { output: true }),
    called('-ai8', hostile, { output: true }),
    called('-a --delete', hostileAtBoth),
    called('-aH --delete --backup --backup-dir=../kept', hostileAtBoth),
    called('-a --files-from=zeros --from0', hostileList, { essential: true }),
    called('-a --exclude-from=rules', hostileRules),
    called('-a', deep, { note: 'deep paths' }),
    called('-a --link-dest=../alt', hostileAlternative),
    called('-a', spaced, { note: 'operands with spaces', sources: ['src/a b/', 'src/$c;d'], since: '3.2.7' }),
    called('-a', spaced, { note: 'leading dashes', sources: ['src/./-v', 'src/./--delete'] }),
    called('-aR', spaced, { note: 'leading dashes, relative', sources: ['src/./-v', 'src/./--delete'] }),
  ],
}

/** What is printed. */
export const output: Group = {
  name: 'output',
  cases: [
    called('-ani', fixture.everything, { output: true, essential: true }),
    called('-ani', fixture.pairs, { note: 'over another tree', output: true }),
    called('-anc', fixture.pairs),
    called('-aHAXni', everythingOther, { output: true }),
    called('-av', few, { output: true, essential: true }),
    called('-avn', fixture.fewAndExtra, { output: true }),
    called('-avv', few, { output: true }),
    called('-avi', fixture.pairs, { output: true }),
    called('-aii', fixture.pairs, { output: true }),
    called('-a --out-format=%i_%n%L_%l_%M_%B_%o', fixture.everything, { output: true }),
    called('-a --out-format=%f_%U:%G', few, { output: true }),
    called('-ac --out-format=%C_%n', fixture.pairs, { output: true }),
    called('-a --stats', few, { output: true, essential: true }),
    called('-a --stats --delete', fixture.fewAndExtra, { output: true }),
    called('-ah --stats', fixture.changedInPart, { output: true }),
    called('-aq', few, { output: true }),
    called('-aq', few, { note: 'missing', sources: ['src/nowhere'], output: true }),
    called('', fixture.everything, { note: 'listing', destination: null, output: true, essential: true }),
    called('-r', fixture.everything, { note: 'listing', destination: null, output: true }),
    called('-r --list-only', fixture.few, { output: true }),
    called('-r', hostile, { note: 'listing odd names', destination: null, output: true }),
    called('-d', few, { note: 'listing one', sources: ['src'], destination: null, output: true }),
    called('-aP', few, { output: true }),
  ],
}

function oneOver(tree: Tree): void {
  few(tree)
  tree.file('dst/other', 'other', { mtime: 1000 })
}

function deepDestination(tree: Tree): void {
  few(tree)
  tree.dir('dst')
}

function fileAsDestination(tree: Tree): void {
  few(tree)
  tree.file('file', 'file')
}

function linkAsDestination(tree: Tree): void {
  few(tree)
  tree.file('real/old', 'old')
  tree.symlink('link', 'real')
}

function impliedDirectories(tree: Tree): void {
  few(tree)
  tree.dir('src/sub', { mode: 0o711, mtime: 3000 })
  tree.dir('dst/sub', { mode: 0o755, mtime: 1000 })
}

function empty(tree: Tree): void {
  tree.dir('src')
}

function emptyList(tree: Tree): void {
  few(tree)
  tree.file('list', '')
}

function missingInList(tree: Tree): void {
  few(tree)
  tree.file('list', 'one\nnowhere\nsub/nowhere\n')
}

function unreadable(tree: Tree): void {
  few(tree)
  tree.dir('src/sub', { mode: 0o755 })
  tree.file('src/sub/two', 5000)
  tree.dir('src/hollow', { mode: 0o755 })
  tree.file('src/secret', 'secret', { mode: 0o600 })
}

function closedDirectory(tree: Tree): void {
  few(tree)
  tree.file('src/closed/inside', 'inside')
  tree.dir('src/closed', { mode: 0o700 })
}

function notOurs(tree: Tree): void {
  few(tree)
  tree.dir('dst/sub', { mode: 0o755 })
}

function hostile(tree: Tree, at = 'src'): void {
  for (const name of HOSTILE_NAMES) tree.file(`${at}/${name}`, name)
  for (const name of ['dir \n*\xff', '-d', 'a\\b']) {
    tree.file(`${at}/${name}/--delete`, 'x')
    tree.symlink(`${at}/${name}/link`, '\xfe\n$(x)')
  }
}

function hostileAtBoth(tree: Tree): void {
  hostile(tree)
  for (const name of HOSTILE_NAMES) tree.file(`dst/${name}`, 'old', { mtime: 1000 })
  for (const name of HOSTILE_NAMES.slice(0, 40)) tree.file(`dst/extra/${name}`, 'extra')
}

function hostileList(tree: Tree): void {
  hostile(tree)
  tree.file('zeros', `${HOSTILE_NAMES.join('\0')}\0dir \n*\xff\0`)
}

function hostileRules(tree: Tree): void {
  hostile(tree)
  tree.file('rules', 'caf\xe9\n\\[\n\xd6\xd0*\n- -rf\n- \\*\nback\\\\slash\n')
}

function deep(tree: Tree): void {
  tree.file(`src/${Array.from({ length: 60 }, (_, i) => `level-${i}`).join('/')}/bottom`, 'bottom')
  tree.file(`src/${'n'.repeat(255)}/${'m'.repeat(255)}/${'o'.repeat(255)}/file`, 'file')
}

function hostileAlternative(tree: Tree): void {
  hostile(tree)
  hostile(tree, 'alt')
}

function spaced(tree: Tree): void {
  tree.file('src/a b/c d', 'c d')
  tree.file('src/$c;d', 'dollar')
  tree.file('src/-v', 'v')
  tree.file('src/--delete/file', 'file')
}

function everythingOther(tree: Tree): void {
  fixture.everything(tree)
  fixture.decorated(tree)
  fixture.decoratedOtherwise(tree)
  fixture.hardLinks(tree)
  fixture.few(tree, 'dst')
}
