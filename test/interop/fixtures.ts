import { changed, filler, type Tree } from './tree.js'

const HALF_FULL = 300_000
const LATER = 1_700_000_000

/** A few files in a few directories. */
export function few(tree: Tree, at = 'src'): void {
  tree.file(`${at}/one`, 'one\n')
  tree.file(`${at}/sub/two`, 5000, { mode: 0o600 })
  tree.file(`${at}/sub/deep/three`, 701)
  tree.symlink(`${at}/link`, 'one')
  tree.dir(`${at}/hollow`, { mode: 0o750 })
}

/** `few` at both ends, and at the destination more than that. */
export function fewAndExtra(tree: Tree): void {
  few(tree)
  few(tree, 'dst')
  tree.file('dst/extra', 'extra')
  tree.file('dst/sub/extra.o', 'extra')
  tree.symlink('dst/sub/extra-link', 'two')
  tree.file('dst/gone/deep/file', 'file')
  tree.dir('dst/gone/hollow')
  tree.fifo('dst/gone/fifo')
}

/** Each type, mode and time that must survive, once at least. */
export function everything(tree: Tree, at = 'src'): void {
  sizes(tree, at)
  types(tree, at)
  modes(tree, at)
  times(tree, at)
  owners(tree, at)
}

export function sizes(tree: Tree, at = 'src'): void {
  for (const length of [0, 1, 700, 701, 32767, 32768, 32769, 100_000]) tree.file(`${at}/sizes/${length}`, length)
}

export function types(tree: Tree, at = 'src'): void {
  tree.file(`${at}/types/file`, 'file')
  tree.symlink(`${at}/types/to-file`, 'file', { mtime: 1_500_000_000 })
  tree.symlink(`${at}/types/to-directory`, '../modes')
  tree.symlink(`${at}/types/dangling`, 'no/where')
  tree.symlink(`${at}/types/absolute`, '/usr/share')
  tree.symlink(`${at}/types/outward`, '../../../outside')
  tree.fifo(`${at}/types/fifo`, { mode: 0o640 })
  tree.socket(`${at}/types/socket`, { mode: 0o755 })
  tree.characterDevice(`${at}/types/null`, 1, 3, { mode: 0o666 })
  tree.characterDevice(`${at}/types/zero`, 1, 5)
  tree.blockDevice(`${at}/types/disk`, 259, 70_000, { mode: 0o660 })
}

export function modes(tree: Tree, at = 'src'): void {
  for (const mode of [0o000, 0o400, 0o444, 0o755, 0o4755, 0o2711, 0o6777]) {
    tree.file(`${at}/modes/${mode.toString(8)}`, `${mode}`, { mode })
  }
  tree.dir(`${at}/modes/sticky`, { mode: 0o1777 })
  tree.dir(`${at}/modes/closed`, { mode: 0o000 })
  tree.file(`${at}/modes/read-only/inside`, 'inside')
  tree.dir(`${at}/modes/read-only`, { mode: 0o555 })
}

export function times(tree: Tree, at = 'src'): void {
  const moments = [
    '0',
    '1',
    '-1',
    '-86400.25',
    '1600000000.000000001',
    '2147483647.999999999',
    '4294967296',
    '7000000000.5',
  ]
  for (const [i, mtime] of moments.entries()) tree.file(`${at}/times/${i}`, `${i}`, { mtime })
  tree.symlink(`${at}/times/link`, '0', { mtime: '1234567890.123456789' })
  tree.dir(`${at}/times/directory`, { mtime: '1111111111.111111111' })
  tree.fifo(`${at}/times/fifo`, { mtime: '999999999.9' })
}

export function owners(tree: Tree, at = 'src'): void {
  tree.file(`${at}/owners/daemon`, 'daemon', { uid: 1, gid: 1 })
  tree.file(`${at}/owners/unnamed`, 'unnamed', { uid: 12345, gid: 54321 })
  tree.file(`${at}/owners/high`, 'high', { uid: 4_000_000_000, gid: 4_000_000_001 })
  tree.symlink(`${at}/owners/link`, 'daemon', { uid: 2, gid: 4 })
  tree.dir(`${at}/owners/directory`, { uid: 65534, gid: 65534 })
  tree.file(`${at}/owners/setuid`, 'setuid', { uid: 1, gid: 1, mode: 0o4755 })
}

export function hardLinks(tree: Tree, at = 'src'): void {
  tree.file(`${at}/a/first`, 40_000)
  tree.hardLink(`${at}/a/second`, `${at}/a/first`)
  tree.hardLink(`${at}/b/third`, `${at}/a/first`)
  tree.symlink(`${at}/a/link`, 'first')
  tree.hardLink(`${at}/b/same-link`, `${at}/a/link`)
  tree.fifo(`${at}/b/fifo`)
  tree.hardLink(`${at}/c/same-fifo`, `${at}/b/fifo`)
  tree.file(`${at}/c/empty`, '')
  tree.hardLink(`${at}/c/empty-too`, `${at}/c/empty`)
  tree.file(`${at}/c/alone`, 'alone')
}

export function decorated(tree: Tree, at = 'src'): void {
  tree.file(`${at}/plain`, 'plain')
  tree.file(`${at}/marked`, 'marked', {
    xattrs: { 'user.mark': 'value', 'user.empty': '', 'user.bytes': '\xff\x00\x01' },
  })
  tree.file(`${at}/long`, 'long', { xattrs: { 'user.long': 'x'.repeat(1500), 'user.short': 'x'.repeat(31) } })
  tree.file(`${at}/long-too`, 'long', { xattrs: { 'user.long': 'x'.repeat(1500) } })
  tree.file(`${at}/trusted`, 'trusted', { xattrs: { 'trusted.mark': 'root sees this' } })
  tree.dir(`${at}/directory`, { xattrs: { 'user.mark': 'directory' } })
  tree.symlink(`${at}/link`, 'plain', { xattrs: { 'trusted.link': 'link' } })
  tree.fifo(`${at}/fifo`, { xattrs: { 'trusted.fifo': 'fifo' } })
  tree.file(`${at}/shared`, 'shared', { acl: { user: 6, users: { 1: 4, 12345: 7 }, group: 4, mask: 7, other: 0 } })
  tree.file(`${at}/shared-too`, 'shared', { acl: { user: 6, users: { 1: 4, 12345: 7 }, group: 4, mask: 7, other: 0 } })
  tree.file(`${at}/group`, 'group', { acl: { user: 6, group: 0, groups: { 4: 5, 54321: 1 }, mask: 4, other: 4 } })
  const acl = { user: 7, users: { 2: 5 }, group: 5, mask: 5, other: 5 }
  tree.dir(`${at}/heir`, {
    acl,
    defaultAcl: { user: 7, users: { 2: 7 }, group: 0, groups: { 1: 1 }, mask: 7, other: 0 },
  })
  tree.file(`${at}/heir/child`, 'child')
  tree.dir(`${at}/plain-heir`, { defaultAcl: { user: 7, group: 5, other: 0 } })
}

/** `decorated` as it was earlier: other values, fewer and more of them. */
export function decoratedOtherwise(tree: Tree): void {
  tree.file('dst/plain', 'plain', {
    xattrs: { 'user.extra': 'extra' },
    acl: { user: 6, users: { 3: 6 }, group: 4, mask: 6, other: 4 },
  })
  tree.file('dst/marked', 'marked', { xattrs: { 'user.mark': 'other', 'user.more': 'more' } })
  tree.file('dst/long', 'long', { xattrs: { 'user.long': `${'x'.repeat(1499)}y` } })
  tree.file('dst/shared', 'shared', { acl: { user: 6, users: { 1: 6 }, group: 4, mask: 6, other: 0 } })
  tree.dir('dst/heir', { defaultAcl: { user: 7, group: 0, other: 0 } })
  tree.dir('dst/directory', { xattrs: { 'user.old': 'old' } })
}

/** Files of which the destination has an older state that is worth a delta. */
export function changedInPart(tree: Tree): void {
  const whole = filler(HALF_FULL)
  const file = (name: string, before: Buffer, after: Buffer) => {
    tree.file(`src/${name}`, after, { mtime: LATER })
    tree.file(`dst/${name}`, before)
  }
  file('appended', whole.subarray(0, 250_001), whole)
  file('at-the-start', changed(whole, 0, 'start'), whole)
  file('cut', whole, whole.subarray(0, 200_003))
  file('emptied', whole.subarray(0, 5000), Buffer.alloc(0))
  file('in-the-middle', changed(whole, 150_000, 'middle'), whole)
  file('inserted', Buffer.concat([whole.subarray(0, 77), whole.subarray(99)]), whole)
  file('moved-about', Buffer.concat([whole.subarray(150_000), whole.subarray(0, 150_000)]), whole)
  file('other', filler(HALF_FULL, 2), whole)
  file('repetitive', Buffer.alloc(100_000, 'ab'), Buffer.alloc(120_000, 'ab'))
  file('short', Buffer.from('short\n'), Buffer.from('shorter\n'))
  file('touched', whole, whole)
}

/** Files that grew at their end, and one that did not: what --append is for. */
export function grown(tree: Tree): void {
  const whole = filler(100_000)
  tree.file('src/grown', whole, { mtime: LATER })
  tree.file('dst/grown', whole.subarray(0, 60_000))
  tree.file('src/grown-and-changed', whole, { mtime: LATER })
  tree.file('dst/grown-and-changed', changed(whole.subarray(0, 60_000), 30_000, 'changed'))
  tree.file('src/same-size', changed(whole, 30_000, 'changed'), { mtime: LATER })
  tree.file('dst/same-size', whole)
  tree.file('src/shrunk', whole.subarray(0, 50_000), { mtime: LATER })
  tree.file('dst/shrunk', whole)
  tree.file('src/new', 'new')
}

/** Pairs of files that each way of asking "is it up to date?" answers differently. */
export function pairs(tree: Tree): void {
  const pair = (
    name: string,
    [text, mtime]: [string, number | string],
    [oldText, oldTime]: [string, number | string],
  ) => {
    tree.file(`src/${name}`, text, { mtime })
    tree.file(`dst/${name}`, oldText, { mtime: oldTime })
  }
  pair('same', ['same', 1000], ['same', 1000])
  pair('touched', ['same', 2000], ['same', 1000])
  pair('older-here', ['new', 1000], ['newer', 2000])
  pair('older-there', ['newer', 2000], ['new', 1000])
  pair('same-size', ['abcd', 2000], ['efgh', 1000])
  pair('disguised', ['abcd', 1000], ['efgh', 1000])
  pair('nanoseconds', ['abcd', '1000.5'], ['efgh', '1000.25'])
  pair('one-second', ['abcd', 1001], ['efgh', 1000])
  pair('three-seconds', ['abcd', 1003], ['efgh', 1000])
  pair('empty', ['', 2000], ['', 1000])
  tree.file('src/here-only', 'here')
  tree.file('dst/there-only', 'there')
  tree.symlink('src/link', 'same', { mtime: 2000 })
  tree.symlink('dst/link', 'touched', { mtime: 2000 })
  tree.file('src/mode', 'mode', { mode: 0o600 })
  tree.file('dst/mode', 'mode', { mode: 0o644, uid: 1 })
  tree.dir('src/sub', { mtime: 3000, mode: 0o700 })
  tree.file('src/sub/new', 'new')
  tree.dir('dst/sub', { mtime: 1000 })
}

/** What is a file at one end is something else at the other. */
export function otherTypes(tree: Tree): void {
  tree.file('src/file-was-link', 'file')
  tree.symlink('dst/file-was-link', 'nowhere')
  tree.file('src/file-was-hollow', 'file')
  tree.dir('dst/file-was-hollow')
  tree.file('src/file-was-fifo', 'file')
  tree.fifo('dst/file-was-fifo')
  tree.symlink('src/link-was-file', 'file-was-link')
  tree.file('dst/link-was-file', 'file')
  tree.symlink('src/link-was-hollow', 'elsewhere')
  tree.dir('dst/link-was-hollow')
  tree.fifo('src/fifo-was-device')
  tree.characterDevice('dst/fifo-was-device', 1, 3)
  tree.characterDevice('src/device-was-device', 1, 5)
  tree.characterDevice('dst/device-was-device', 1, 3)
  tree.file('src/directory-was-file/inside', 'inside')
  tree.file('dst/directory-was-file', 'file')
  tree.file('src/directory-was-link/inside', 'inside')
  tree.symlink('dst/directory-was-link', '/nowhere')
}

/** As `otherTypes`, where a directory that is not empty is in the way. */
export function fullDirectoryInTheWay(tree: Tree): void {
  tree.file('src/a-file', 'file')
  tree.file('dst/a-file/inside/deep', 'deep')
  tree.symlink('src/b-link', 'a-file')
  tree.file('dst/b-link/inside', 'inside')
  tree.fifo('src/c-fifo')
  tree.file('dst/c-fifo/inside', 'inside')
  tree.file('src/d-fine', 'fine')
}

/** Names for patterns: sources, objects, a place for each kind of rule. */
export function patterned(tree: Tree, at = 'src'): void {
  for (const dir of ['', 'sub/', 'sub/deep/', 'other/']) {
    for (const name of ['keep.c', 'drop.o', 'note.txt', 'core', 'file.bak', 'x1', 'x2'])
      tree.file(`${at}/${dir}${name}`, name)
  }
  tree.file(`${at}/build/out.o`, 'out')
  tree.file(`${at}/sub/build/out.c`, 'out')
  tree.file(`${at}/CVS/Entries`, 'entries')
  tree.dir(`${at}/empty`)
}

export function alternatives(tree: Tree): void {
  tree.file('src/same', 'same')
  tree.file('alt/same', 'same')
  tree.file('src/changed', 40_000, { mtime: LATER })
  tree.file('alt/changed', changed(filler(40_000), 20_000, 'x'))
  tree.file('src/mode', 'mode', { mode: 0o600 })
  tree.file('alt/mode', 'mode', { mode: 0o644 })
  tree.file('src/touched', 'touched', { mtime: LATER })
  tree.file('alt/touched', 'touched')
  tree.file('src/sub/same', 'same')
  tree.file('alt/sub/same', 'same')
  tree.symlink('src/link', 'same')
  tree.symlink('alt/link', 'same')
  tree.fifo('src/fifo')
  tree.fifo('alt/fifo')
  tree.file('src/second', 'second')
  tree.file('alt2/second', 'second')
  tree.file('src/there', 'there')
  tree.file('dst/there', 'there')
  tree.file('alt/there', 'there')
  tree.file('src/new', 'new')
}

/** Symlinks inwards, outwards, to directories, in a chain. */
export function links(tree: Tree): void {
  tree.file('outside/file', 'outside')
  tree.file('outside/dir/inside', 'inside')
  tree.file('src/file', 'file')
  tree.file('src/dir/inside', 'inside')
  tree.symlink('src/in', 'file')
  tree.symlink('src/in-dir', 'dir')
  tree.symlink('src/chain', 'in')
  tree.symlink('src/out', '../outside/file')
  tree.symlink('src/out-dir', '../outside/dir')
  tree.symlink('src/dir/up', '../file')
  tree.symlink('src/dir/far-up', '../../outside/file')
  tree.symlink('src/absolute', '/etc/hostname')
}
