import { called, type Group } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

/** Which files are transferred, and what of them. */
export const comparing: Group = {
  name: 'comparing',
  cases: [
    called('-ai', fixture.pairs, { output: true, essential: true }),
    called('-rt', fixture.pairs),
    called('-rti', fixture.pairs, { output: true }),
    called('-ac', fixture.pairs, { essential: true }),
    called('-aci', fixture.pairs, { output: true }),
    called('-rc', fixture.pairs),
    called('-rci', fixture.pairs, { output: true }),
    called('-au', fixture.pairs, { essential: true }),
    called('-aui', fixture.pairs, { output: true }),
    called('-a --size-only', fixture.pairs),
    called('-ai --size-only', fixture.pairs, { output: true }),
    called('-aI', fixture.pairs),
    called('-aIi', fixture.pairs, { output: true }),
    called('-a --modify-window=1', fixture.pairs),
    called('-a --modify-window=-1', fixture.pairs),
    called('-a --existing', fixture.pairs),
    called('-a --ignore-existing', fixture.pairs),
    called('-a --existing --ignore-existing --delete', fixture.pairs),
    called('-ai --existing', fixture.pairs, { output: true }),
    called('-a --max-size=2K', sizes),
    called('-a --min-size=700', sizes),
    called('-a --max-size=100KB-1 --min-size=1', sizes),
    called('-a --max-size=2K --delete', over(sizes), { note: 'what is too large stays' }),
    called('-a --compare-dest=../alt', fixture.alternatives),
    called('-a --copy-dest=../alt', fixture.alternatives),
    called('-a --link-dest=../alt', fixture.alternatives, { essential: true }),
    called('-aH --link-dest=../alt', fixture.alternatives),
    called('-ai --link-dest=../alt', fixture.alternatives, { output: true }),
    called('-ai --compare-dest=../alt', fixture.alternatives, { output: true }),
    called('-ai --copy-dest=../alt', fixture.alternatives, { output: true }),
    called('-a --link-dest=../alt --link-dest=../alt2', fixture.alternatives),
    called('-a --compare-dest=../alt --compare-dest=../alt2', fixture.alternatives),
    called('-ac --copy-dest=../alt --copy-dest=../alt2', fixture.alternatives),
    called('-a --link-dest=../missing', fixture.alternatives),
  ],
}

function sizes(tree: Tree): void {
  fixture.sizes(tree, 'src')
  tree.file('src/2048', 2048)
  tree.file('src/2049', 2049)
}

function over(prepare: (tree: Tree) => void): (tree: Tree) => void {
  return (tree) => {
    prepare(tree)
    tree.file('dst/sizes/100000', 'old')
    tree.file('dst/sizes/extra', 'extra')
  }
}
