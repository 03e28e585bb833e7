import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { IN } from '../src/events.js'
import * as kernel from '../src/kernel.js'
import { type RawPath, ROOT } from '../src/raw-path.js'
import { Scan, type ScanTree } from '../src/scan.js'
import { NONE, WatchTable } from '../src/watch-table.js'
import { image, overlaid, subvolumeOf, tmpfs } from './filesystems.js'

const skip = process.geteuid?.() !== 0 && 'only root may'

const PLACES: Record<string, (t: TestContext) => string> = {
  tmpfs,
  ext4: (t) => image(t, 'ext4'),
  xfs: (t) => image(t, 'xfs'),
  'a btrfs subvolume': (t) => subvolumeOf(image(t, 'btrfs')), // what it lists is settled when it is opened
  overlayfs: (t) => overlaid(t),
}

for (const [name, place] of Object.entries(PLACES)) {
  test(`what is made after a directory was opened and before it is watched is found: ${name}`, { skip }, (t) => {
    const root = place(t)
    mkdirSync(join(root, 'a', 'b'), { recursive: true })
    const inotify = kernel.inotifyInit()
    t.after(() => kernel.close(inotify))
    /** Somebody is always quicker. */
    const watch = (fd: number) => {
      const path = kernel.pathOf(fd) as RawPath
      if (!path.endsWith('late')) mkdirSync(`${path}/late`, { recursive: true })
      return kernel.addWatch(inotify, fd, IN.CREATE)
    }
    const openDirectory = (path: RawPath) => kernel.openDirectory(undefined, join(root, path))
    const nobody = () => assert.fail('not in this test')
    const rootWd = Number(kernel.withDirectory(root, (fd) => kernel.addWatch(inotify, fd, IN.CREATE)))
    const tree: ScanTree = {
      table: new WatchTable(rootWd),
      exclude: undefined,
      openDirectory,
      watchRoot: watch,
      watch,
      watchIn: (fd, child) => kernel.addWatchIn(inotify, fd, child, IN.CREATE),
      onDisplaced: nobody,
      onWatched: () => undefined,
      onBlind: nobody,
      onUnlisted: nobody,
      onRootChanged: nobody,
    }
    const scan = new Scan(tree)
    assert.ok(scan.begin(NONE, ROOT))
    assert.ok(scan.run(Number.POSITIVE_INFINITY))
    for (const path of ['late', 'a', 'a/b', 'a/late'])
      assert.notEqual(tree.table.at(path as RawPath), NONE, `${path} is watched`)
  })
}
