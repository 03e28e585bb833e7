import { called, type Group, type Place } from '../case.js'
import * as fixture from '../fixtures.js'
import { changed, filler, type Tree } from '../tree.js'

const { changedInPart, grown } = fixture

/** How content travels, and how it is checked. */
export const transferring: Group = {
  name: 'transferring',
  cases: [
    called('-a', changedInPart, { essential: true, note: 'deltas' }),
    called('-aW', changedInPart),
    called('-a --no-whole-file', changedInPart),
    called('-a -B 512', changedInPart),
    called('-a --block-size=131072', changedInPart),
    called('-a --stats', changedInPart, { output: true }),
    called('-aI', sameBoth, { note: 'nothing but matches' }),
    called('-az', changedInPart, { essential: true }),
    called('-az', compressible, { note: 'what compresses' }),
    called('-az --compress-choice=zlib', changedInPart, { essential: true }),
    called('-az --compress-choice=zlib', compressible, { note: 'what compresses' }),
    called('-a --compress-choice=zlibx', changedInPart),
    called('-a --old-compress', changedInPart),
    called('-a --new-compress', changedInPart),
    called('-az --compress-level=9 --compress-choice=zlibx', compressible),
    called('-az --compress-level=1 --compress-choice=zlib', changedInPart),
    called('-az --compress-choice=none', changedInPart),
    called('-az --skip-compress=gz/jp[eg]', compressible),
    ...['md5', 'md4', 'xxh64', 'xxh3', 'xxh128'].flatMap((name) => [
      called(`-a --checksum-choice=${name}`, changedInPart),
      called(`-ac --checksum-choice=${name}`, fixture.pairs),
    ]),
    called('-a --checksum-choice=sha1', changedInPart, { since: '3.2.7' }),
    called('-ac --checksum-choice=xxh64,md5', fixture.pairs),
    called('-a --checksum-choice=none', changedInPart),
    called('-a --checksum-seed=12345', changedInPart, { essential: true }),
    called('-a --checksum-seed=12345 --checksum-choice=md4', changedInPart),
    called('-a --no-inc-recursive', fixture.everything, { essential: true }),
    called('-a --bwlimit=20000', changedInPart),
    called('-a --timeout=20', changedInPart),
    called('-a', manyDirectories, { note: '60 directories', essential: true }),
    called('-aH', manyDirectories, { note: '60 directories' }),
    called('-a --delete', manyDirectories, { note: '60 directories' }),
  ],
}

/** How the receiver writes what it gets. */
export const writing: Group = {
  name: 'writing',
  cases: [
    called('-a --inplace', changedInPart, { essential: true }),
    called('-a --inplace', linkedAtDestination, { note: 'writes through hard links' }),
    called('-aS --inplace', overZeros),
    called('-a --append', grown, { essential: true }),
    called('-ai --append', grown, { output: true }),
    called('-a --append-verify', grown),
    called('-aS', holes),
    called('-aS', overZeros, { note: 'over a full file' }),
    called('-a --preallocate', changedInPart),
    called('-ab', changedInPart),
    called('-ab --suffix=.old', changedInPart),
    called('-ab', fixture.otherTypes, { note: 'of what is not a file' }),
    called('-ab --delete', fixture.fewAndExtra),
    called('-ab --backup-dir=../kept', fixture.pairs, { essential: true }),
    called('-ab --backup-dir=../kept --delete', fixture.fewAndExtra),
    called('-ab --backup-dir=kept --suffix=~', fixture.pairs),
    called('-ab --backup-dir=../kept', fixture.otherTypes, { note: 'of what is not a file' }),
    called('-aHAXb --backup-dir=../kept', decorated),
    called('-abi --inplace', changedInPart, { output: true }),
    called('-a --partial', changedInPart),
    called('-a --partial-dir=.half', halfDone),
    called('-a --partial-dir=.half --delete', halfDone),
    called('-a --delay-updates', changedInPart),
    called('-a --delay-updates --partial-dir=.half', halfDone),
    {
      name: '-a --temp-dir=/…/tmp',
      options: ({ receiver }: Place) => ['-a', `--temp-dir=${receiver('tmp')}`],
      prepare: inTemporaryDirectory,
    },
    called('-a -T .tmp', inTemporaryDirectory, { note: '--temp-dir within' }),
    called('-a --temp-dir=../missing', inTemporaryDirectory, { output: true }),
    called('-a --fsync', fixture.few),
    called('-a', fixture.otherTypes, { note: 'over other types', essential: true }),
    called('-ai', fixture.otherTypes, { output: true }),
    called('-a', fixture.fullDirectoryInTheWay, { note: 'a directory in the way', output: true }),
    called('-a --force', fixture.fullDirectoryInTheWay, { essential: true }),
    called('-a --remove-source-files', partlyThere, { essential: true }),
    called('-ai --remove-source-files', partlyThere, { output: true }),
    called('-an --remove-source-files', partlyThere),
    called('-a --remove-source-files', fixture.everything, { note: 'of every type' }),
    called('-aH --remove-source-files', fixture.hardLinks),
  ],
}

function sameBoth(tree: Tree): void {
  tree.file('src/file', 300_000)
  tree.file('dst/file', 300_000)
  tree.file('src/short', 10)
  tree.file('dst/short', 10)
}

function compressible(tree: Tree): void {
  const text = Buffer.alloc(200_000, 'All work and no play makes Jack a dull boy.\n')
  const mixed = Buffer.concat([text, filler(70_000), text])
  tree.file('src/text', text)
  tree.file('src/zeros', Buffer.alloc(150_000))
  tree.file('src/mixed', mixed, { mtime: 2000 })
  tree.file('dst/mixed', changed(mixed, 100_000, 'Wendy'))
  tree.file('src/packed.gz', 70_000)
  tree.file('src/empty', '')
}

/** Enough lists for incremental recursion to overlap requests and lists. */
function manyDirectories(tree: Tree): void {
  for (let i = 0; i < 60; i++) {
    const dir = `src/${String.fromCharCode(97 + (i % 5))}/${i % 7}/${i}`
    for (const name of ['x', 'y', 'z']) tree.file(`${dir}/${name}`, `${i} ${name}`)
    if (i % 6 === 0) tree.hardLink(`src/linked-${i}`, `${dir}/x`)
    if (i % 4 === 0) tree.file(`dst/${dir.slice(4)}/extra`, 'extra')
  }
}

function linkedAtDestination(tree: Tree): void {
  tree.file('src/file', 'new content', { mtime: 2000 })
  tree.file('dst/file', 'old')
  tree.hardLink('dst/second-name', 'dst/file')
}

function holes(tree: Tree): void {
  tree.sparse('src/holes', 2_000_000, { 0: 'start', 1000000: 'middle' })
  tree.sparse('src/ends-in-hole', 1_000_000, { 0: 'start' })
  tree.sparse('src/nothing-but', 1_000_000, {})
  tree.file('src/full', 100_000)
}

function overZeros(tree: Tree): void {
  tree.sparse('src/file', 1_000_000, { 0: 'start', 900000: 'end' })
  tree.file('dst/file', 1_000_000, { mtime: 1000 })
}

function decorated(tree: Tree): void {
  fixture.decoratedOtherwise(tree)
  fixture.decorated(tree)
  tree.file('src/plain', 'changed', { mtime: 2000 })
  tree.file('src/marked', 'changed', { mtime: 2000, xattrs: { 'user.mark': 'value' } })
}

/** What an interrupted run left in its --partial-dir. */
function halfDone(tree: Tree): void {
  const whole = filler(100_000)
  tree.file('src/file', whole)
  tree.file('dst/.half/file', whole.subarray(0, 70_000), { mtime: 1000 })
  tree.file('src/sub/file', whole)
  tree.file('dst/sub/file', changed(whole, 10, 'old'), { mtime: 1000 })
  tree.file('dst/sub/.half/file', whole.subarray(0, 70_000), { mtime: 1000 })
  tree.file('dst/sub/.half/other', 'other')
}

function inTemporaryDirectory(tree: Tree): void {
  fixture.changedInPart(tree)
  tree.dir('tmp')
  tree.dir('dst/.tmp')
}

function partlyThere(tree: Tree): void {
  fixture.few(tree)
  tree.file('dst/one', 'one\n')
  tree.file('src/newer', 'newer', { mtime: 2000 })
  tree.file('dst/newer', 'older')
}
