import { called, type Group, type Place } from '../case.js'
import * as fixture from '../fixtures.js'
import type { Tree } from '../tree.js'

const { patterned } = fixture

/** Filter rules and lists of files. */
export const selecting: Group = {
  name: 'selecting',
  cases: [
    called('-a --exclude=*.o', patterned, { essential: true }),
    called('-a --exclude=/sub', patterned),
    called('-a --exclude=sub/', patterned),
    called('-a --exclude=sub/deep', patterned),
    called('-a --exclude=/sub/**/core', patterned),
    called('-a --exclude=x[12] --exclude=?ore', patterned),
    called('-a --include=*.c --include=*/ --exclude=*', patterned),
    called('-am --include=*.c --include=*/ --exclude=*', patterned),
    called('-a --include=sub/*** --exclude=/*', patterned),
    called('-a --filter=-_*.o --filter=+_/sub/ --filter=-_/*/', patterned),
    called('-a --filter=!', patterned, { note: 'cleared rules' }),
    called('-a --filter=-!_*.c', filesOnly, { note: 'rules turned round' }),
    called('-aC', patterned, { essential: true }),
    called('-aC', withIgnoreFiles, { note: '.cvsignore' }),
    called('-aF', withFilterFiles, { essential: true }),
    called('-aFF', withFilterFiles),
    called('-aFF --delete', withFilterFiles),
    called('-aF --delete', withFilterFilesAtBoth),
    called('-a --filter=dir-merge,-n_.rules', withFilterFiles, { note: 'not inherited' }),
    called('-a --filter=:_.rules', withFilterFiles, { note: 'a file in each directory' }),
    called('-a --filter=merge_rules', withRules),
    called('-a --exclude-from=rules', withPatterns),
    called('-a --include-from=included --exclude=*.c --exclude=*.o', withPatterns),
    called('-a --exclude-from=-', patterned, { stdin: '*.o\n# comment\n\n; comment\n+ core\nsub\n' }),
    called('-a --exclude-from=ruleszero --from0', withPatterns),
    called('-ai --exclude=*.o', patterned, { output: true }),
    called('-a --files-from=list', withList, { essential: true }),
    called('-r --files-from=list', withList),
    called('-a --no-relative --files-from=list', withList),
    called('-a --files-from=zeros --from0', withList),
    called('-a --files-from=-', patterned, { stdin: 'sub/keep.c\n./x1\nother//x2\n', directions: ['push'] }),
    called('-ai --files-from=list', withList, { output: true }),
    called('-a --files-from=list --exclude=*.o', withList),
    {
      name: '-a --files-from=:list',
      options: ({ remote }: Place) => ['-a', `--files-from=:${remote('list')}`],
      prepare: withList,
      essential: true,
    },
    {
      name: '-a --files-from=:zeros --from0',
      options: ({ remote }: Place) => ['-a', `--files-from=:${remote('zeros')}`, '--from0'],
      prepare: withList,
    },
    called('-am', patterned, { note: '--prune-empty-dirs' }),
  ].map(spacesInRules),
}

/** A case writes `_` for the space in a rule: its options are split at spaces. */
function spacesInRules(one: Group['cases'][number]): Group['cases'][number] {
  const space = (text: string) => (text.startsWith('--filter=') ? text.replaceAll('_', ' ') : text)
  if (typeof one.options === 'function') return one
  return { ...one, name: one.name.split(' ').map(space).join(' '), options: one.options.map(space) }
}

function filesOnly(tree: Tree): void {
  for (const name of ['keep.c', 'drop.o', 'drop.h']) tree.file(`src/${name}`, name)
}

function withIgnoreFiles(tree: Tree): void {
  patterned(tree)
  tree.file('src/.cvsignore', '*.txt x1\n')
  tree.file('src/sub/.cvsignore', '!\nkeep.c\n')
}

function withFilterFiles(tree: Tree, at = 'src'): void {
  patterned(tree, at)
  tree.file(`${at}/.rsync-filter`, '- *.txt\n- /build\n+ drop.o\n')
  tree.file(`${at}/sub/.rsync-filter`, '# comment\n- x?\n- /deep/core\n')
  tree.file(`${at}/.rules`, '- *.bak\n- /x1\n')
  tree.file(`${at}/sub/.rules`, '+ file.bak\n- keep.c\n')
  tree.file('dst/sub/x9', 'protected by the source rules')
  tree.file('dst/sub/note.txt', 'old')
  tree.file('dst/other/extra', 'extra')
}

function withFilterFilesAtBoth(tree: Tree): void {
  withFilterFiles(tree)
  tree.file('dst/sub/.rsync-filter', 'P extra*\n')
  tree.file('dst/sub/extra1', 'extra')
}

function withRules(tree: Tree): void {
  patterned(tree)
  tree.file('rules', '# rules\n- *.o\nmerge,- more\n+ /sub/\n- /*/\n')
  tree.file('more', '*.bak\n\nx1\n')
}

function withPatterns(tree: Tree): void {
  patterned(tree)
  tree.file('rules', '# comment\n*.o\n; comment\n\n+ core\n/sub/x1\n- other/\n')
  tree.file('included', 'keep.c\n')
  tree.file('ruleszero', '*.o\0# a pattern here\0core\0')
}

function withList(tree: Tree): void {
  patterned(tree)
  tree.file('src/#odd', 'odd')
  tree.file('list', '# comment\nsub/deep/keep.c\n./sub/./x1\n/other\n\n; comment\nx2\r\nempty/\nsub/deep/keep.c\n')
  tree.file('zeros', 'sub/deep/keep.c\0#odd\0other/\0')
}
