import { called, type Group } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

/** What is kept of an entry. */
export const attributes: Group = {
  name: 'attributes',
  cases: [
    called('-a', fixture.everything, { essential: true }),
    called('-a', over(fixture.everything, fixture.pairs), { note: 'over another tree' }),
    called('-a', same(fixture.everything), { note: 'again', twice: true, output: true }),
    called('-ai', fixture.everything, { note: 'twice', twice: true, output: true }),
    called('-r', fixture.few),
    called('-r', same(fixture.few), { note: 'over an equal copy' }),
    called('-rt', fixture.everything),
    called('-rlt', fixture.everything),
    called('-rlpt', fixture.everything),
    called('-rltE', executables),
    called('-rltog', fixture.everything),
    called('-rlptD', fixture.everything),
    called('-rpt --devices', fixture.everything),
    called('-rpt --specials', fixture.everything, { output: true }),
    called('-aO', fixture.everything),
    called('-aJ', over(fixture.times, fixture.few)),
    called('-a --no-super', fixture.everything),
    called('-a --numeric-ids', fixture.owners, { essential: true }),
    called('-a --no-numeric-ids', fixture.owners, { note: 'ids by name' }),
    called('-a', fixture.everything, { note: 'not root at the receiver', nobody: 'receiver' }),
    called('-a --fake-super', fixture.everything, {
      note: 'not root at the receiver',
      nobody: 'receiver',
      directions: ['pull'],
    }),
    called('-aX --fake-super', fixture.everything, { directions: ['pull'] }),
    called('-aX --fake-super', faked, { note: 'by the sender', directions: ['push'] }),
    called('-aH', fixture.hardLinks, { essential: true }),
    called('-aH', over(fixture.hardLinks, brokenLinks), { note: 'links to mend' }),
    called('-aH', same(fixture.hardLinks), { note: 'again', twice: true }),
    called('-aHi', over(fixture.hardLinks, brokenLinks), { output: true }),
    called('-a', fixture.hardLinks, { note: 'of hard links' }),
    called('-aX', fixture.decorated),
    called('-aX', over(fixture.decorated, fixture.decoratedOtherwise), { note: 'over other attributes' }),
    called('-aA', fixture.decorated),
    called('-aA', over(fixture.decorated, fixture.decoratedOtherwise), { note: 'over other lists' }),
    called('-aHAX', wholeWorld, { essential: true }),
    called('-aHAX', over(wholeWorld, fixture.decoratedOtherwise), { note: 'over another tree', essential: true }),
    called('-aAXi', over(fixture.decorated, fixture.decoratedOtherwise), { output: true }),
    called('-aAXi', fixture.decorated, { note: 'twice', twice: true, output: true }),
    called('-aHAXS --numeric-ids', wholeWorld),
    called('-rX', fixture.decorated, { note: 'attributes alone' }),
    called('-rA', fixture.decorated, { note: 'lists alone' }),
    called('-a --chmod=D750,F640', fixture.everything),
    called('-a --chmod=u+x,go-rwx', fixture.modes),
    called('-a --chmod=Dg+s,Fo=', fixture.modes),
    called('-r --chmod=ugo=rwX', fixture.modes),
    called('-a --chmod=Du=rwx,Dgo=rx --chmod=Fu=rw,Fgo=r', fixture.modes),
    // Links that are followed out of the tree: without chroot a stock daemon refuses some of them, and not always the
    // same (openat2 fails with EAGAIN while others rename).
    called('-aL', fixture.links, { module: 'chroot', output: true }),
    called('-a --copy-unsafe-links', fixture.links, { module: 'chroot', essential: true }),
    called('-a --safe-links', fixture.links),
    called('-ak', fixture.links, { note: '--copy-dirlinks', module: 'chroot' }),
    called('-aK', directoriesBehindLinks, { note: '--keep-dirlinks' }),
    called('-a --munge-links', fixture.links),
    called('-rt', fixture.links, { note: 'symlinks left out', output: true }),
    called('-ax', mounted, { output: true }),
    called('-axx', mounted),
    called('-aRx', mounted, { sources: ['src/./sub', 'src/./other'] }),
  ],
}

type Prepare = (tree: Tree) => void

function over(source: Prepare, destination: Prepare): Prepare {
  return (tree) => {
    destination(tree)
    source(tree)
  }
}

/** The same at both ends. */
function same(prepare: (tree: Tree, at?: string) => void): Prepare {
  return (tree) => {
    prepare(tree)
    prepare(tree, 'dst')
  }
}

function wholeWorld(tree: Tree): void {
  fixture.everything(tree)
  fixture.hardLinks(tree)
  fixture.decorated(tree)
}

function executables(tree: Tree): void {
  for (const mode of [0o644, 0o755, 0o700, 0o611]) {
    tree.file(`src/${mode.toString(8)}`, 'new', { mode, mtime: 2000 })
    tree.file(`src/new-${mode.toString(8)}`, 'new', { mode })
    tree.file(`dst/${mode.toString(8)}`, 'old', { mode: mode === 0o644 ? 0o755 : 0o640 })
  }
}

/** What a receiver without rights writes of files that are not its own. */
function faked(tree: Tree): void {
  tree.file('src/owned', 'owned', { xattrs: { 'user.rsync.%stat': '100640 0,0 1234:5678', 'user.mark': 'mark' } })
  tree.file('src/device', '', { mode: 0o600, xattrs: { 'user.rsync.%stat': '20666 1,3 0:0' } })
  tree.file('src/fifo', '', { mode: 0o600, xattrs: { 'user.rsync.%stat': '10644 0,0 1:1' } })
  tree.file('src/link', 'the/target', { mode: 0o600, xattrs: { 'user.rsync.%stat': '120777 0,0 0:0' } })
  tree.dir('src/directory', { mode: 0o700, xattrs: { 'user.rsync.%stat': '42755 0,0 7:7' } })
  tree.file('src/plain', 'plain', { mode: 0o4755 })
}

function brokenLinks(tree: Tree): void {
  tree.file('dst/a/first', 40_000)
  tree.file('dst/a/second', 'second')
  tree.file('dst/c/empty', '')
  tree.hardLink('dst/c/alone', 'dst/c/empty')
  tree.hardLink('dst/c/wrong', 'dst/a/first')
}

function directoriesBehindLinks(tree: Tree): void {
  tree.file('src/dir/inside', 'inside')
  tree.file('src/to-file/inside', 'inside')
  tree.file('dst/real/old', 'old')
  tree.symlink('dst/dir', 'real')
  tree.file('dst/file', 'file')
  tree.symlink('dst/to-file', 'file')
}

function mounted(tree: Tree): void {
  tree.mount('src/sub/disk')
  tree.file('src/sub/disk/on-it', 'on it')
  tree.file('src/sub/beside', 'beside')
  tree.file('src/other/file', 'file')
}
