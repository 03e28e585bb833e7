import { type Case, called, type Group } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

const password = (text: string) => ({ environment: { USER: 'user', RSYNC_PASSWORD: text } })

/** What a daemon's configuration changes, as its client sees it. */
export const modules: Group = {
  name: 'modules',
  cases: [
    inModule('chroot', '-a', fixture.everything, { essential: true }),
    inModule('chroot', '-aHAX --delete', worldOverFew),
    inModule('chroot', '-ab --backup-dir=../kept', fixture.pairs),
    inModule('chroot', '-a --link-dest=../alt', fixture.alternatives),
    inModule('munging', '-a', fixture.links),
    inModule('munging', '-a', mungedLinks, { note: 'munged before' }),
    inModule('faking', '-a', fixture.everything, { note: 'by nobody', directions: ['push'] }),
    inModule('faking', '-aHAX', fixture.decorated, { note: 'by nobody', directions: ['push'] }),
    inModule('incoming', '-a', fixture.modes),
    inModule('outgoing', '-a', readableModes),
    inModule('excluding', '-a', fixture.patterned, { output: true }),
    inModule('excluding', '-a --delete', patternedAtBoth),
    inModule('reading', '-a', fixture.few, { output: true }),
    inModule('writing', '-a', fixture.few, { output: true }),
    inModule('refusing', '-a --delete', fixture.few, { output: true }),
    inModule('refusing', '-az', fixture.few, { output: true, directions: ['push'] }),
    inModule('refusing', '-a', fixture.few),
    inModule('guarded', '-a', fixture.few, { ...password('secret') }),
    inModule('guarded', '-a', fixture.few, { note: 'wrong password', output: true, ...password('wrong') }),
    inModule('guarded', '-a', fixture.few, { note: 'no password' }),
    inModule('guarded', '-a --password-file=password', withPassword, { environment: { USER: 'user' } }),
    inModule('guarded', '-a --password-file=readable', withPassword, { environment: { USER: 'user' }, output: true }),
    inModule('plain', '-a --sockopts=TCP_NODELAY --contimeout=20', fixture.few),
    inModule('incompressible', '-az', fixture.changedInPart),
    inModule('numbering', '-a', fixture.owners),
    inModule('elsewhere', '-a', fixture.few, { output: true }),
    inModule('nowhere', '-a', fixture.few, { note: 'no such module', output: true }),
  ],
}

function inModule(
  module: string,
  options: string,
  prepare: (tree: Tree) => void,
  rest: Partial<Case> & { note?: string } = {},
) {
  const { note = '', ...others } = rest
  const text = note === '' ? module : `${module}, ${note}`
  return called(options, prepare, { ...others, note: text, module, transports: ['daemon'] })
}

function worldOverFew(tree: Tree): void {
  fixture.everything(tree)
  fixture.decorated(tree)
  fixture.few(tree, 'dst')
}

function mungedLinks(tree: Tree): void {
  tree.symlink('src/munged', '/rsyncd-munged/file')
  tree.symlink('src/plain', 'file')
  tree.file('src/file', 'file')
  tree.symlink('dst/munged', '/rsyncd-munged/file')
}

function readableModes(tree: Tree): void {
  for (const mode of [0o666, 0o777, 0o4755]) tree.file(`src/${mode.toString(8)}`, 'x', { mode })
  tree.dir('src/wide', { mode: 0o777 })
}

function patternedAtBoth(tree: Tree): void {
  fixture.patterned(tree)
  fixture.patterned(tree, 'dst')
  tree.file('dst/extra', 'extra')
  tree.file('dst/extra.o', 'extra')
}

function withPassword(tree: Tree): void {
  fixture.few(tree)
  tree.file('password', 'secret\n', { mode: 0o600 })
  tree.file('readable', 'secret\n', { mode: 0o644 })
}
