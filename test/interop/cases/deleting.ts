import { called, type Group } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

const { fewAndExtra } = fixture

export const deleting: Group = {
  name: 'deleting',
  cases: [
    called('-a --delete', fewAndExtra, { essential: true }),
    called('-a --delete-before', fewAndExtra, { essential: true }),
    called('-a --delete-during', fewAndExtra),
    called('-a --delete-delay', fewAndExtra, { essential: true }),
    called('-a --delete-after', fewAndExtra),
    called('-ai --delete', fewAndExtra, { output: true }),
    called('-ani --delete', fewAndExtra, { output: true }),
    called('-av --delete-before', fewAndExtra, { output: true }),
    called('-ai --delete-after', fewAndExtra, { output: true }),
    called('-aHAX --delete', fewAndExtra),
    called('-a --delete', fixture.fullDirectoryInTheWay, { note: 'a directory in the way' }),
    called('-a --delete', fixture.otherTypes, { note: 'other types' }),
    called('-a --delete --exclude=*.o', fewAndExtra, { note: 'what is excluded stays' }),
    called('-a --delete-excluded --exclude=*.o', fewAndExtra),
    called('-a --delete-excluded --exclude=two --exclude=gone/deep', fewAndExtra),
    called('-a --delete --filter=P_*.o --filter=R_gone', fewAndExtra, { note: 'protect and risk' }),
    called('-a --delete --filter=-s_two --filter=-r_extra', fewAndExtra, { note: 'one-sided rules' }),
    called('-a --max-delete=2 --delete', fewAndExtra, { essential: true, output: true }),
    called('-a --max-delete=0 --delete', fewAndExtra),
    called('-a --max-delete=100 --delete', fewAndExtra),
    called('-dl --delete', fewAndExtra, { note: 'one level' }),
    called('-a --delete', deepAndMany, { note: 'deep and many' }),
    called('-aR --delete', fewAndExtra, { sources: ['src/./sub'] }),
    called('-a --delete', fewAndExtra, { note: 'two sources', sources: ['src/sub', 'src/hollow'] }),
    called('-a --delete -m', fewAndExtra, { note: '--prune-empty-dirs' }),
    called('-a --delete --ignore-errors', fewAndUnreadable, { nobody: 'sender' }),
    called('-a --delete --no-inc-recursive', fewAndUnreadable, {
      note: 'not after an error',
      nobody: 'sender',
      directions: ['push'],
    }),
    called('-a --delete', immovable, { note: 'not everything can be deleted', nobody: 'receiver' }),
    called('-r --delete-missing-args', fewAndExtra, {
      sources: ['src/one', 'src/extra', 'src/gone', 'src/nowhere'],
      essential: true,
    }),
    called('-r --force --delete-missing-args', fewAndExtra, { sources: ['src/one', 'src/extra', 'src/gone'] }),
    called('-a --ignore-missing-args', fewAndExtra, { sources: ['src/one', 'src/extra'] }),
    called('-a --delete-missing-args --files-from=list', fewAndExtraListed),
  ],
}

function fewAndUnreadable(tree: Tree): void {
  fewAndExtra(tree)
  tree.file('src/closed/inside', 'inside')
  tree.dir('src/closed', { mode: 0o000 })
}

function immovable(tree: Tree): void {
  tree.file('src/one', 'one')
  tree.file('dst/read-only/inside', 'inside', { uid: 65534 })
  tree.dir('dst/read-only', { mode: 0o555, uid: 65534, gid: 65534 })
  tree.file('dst/roots/inside', 'inside')
  tree.file('dst/own/inside', 'inside', { uid: 65534 })
  tree.dir('dst/own', { uid: 65534, gid: 65534 })
}

function deepAndMany(tree: Tree): void {
  tree.file('src/kept', 'kept')
  const deep = Array.from({ length: 40 }, (_, i) => `d${i}`)
  tree.file(`dst/${deep.join('/')}/file`, 'deep')
  for (let i = 0; i < 150; i++) tree.file(`dst/many/${i}`, '')
}

function fewAndExtraListed(tree: Tree): void {
  fewAndExtra(tree)
  tree.file('list', 'one\nextra\nsub/extra.o\nnowhere\n')
}
