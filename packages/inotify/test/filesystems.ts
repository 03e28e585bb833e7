import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { temporaryDirectory } from './watching.js'

/** More directories than inotify is taken for. */
export function makeLarge(root: string): void {
  for (let i = 0; i < 42; i++)
    for (let k = 0; k < 100; k++) fs.mkdirSync(join(root, `${i}`, `${k}`), { recursive: true })
}

/** A filesystem in a file, mounted. */
export function image(t: TestContext, type: 'ext4' | 'xfs' | 'btrfs'): string {
  const place = temporaryDirectory(t)
  const file = join(place, 'image')
  fs.closeSync(fs.openSync(file, 'w'))
  fs.truncateSync(file, 2 ** 32) // sparse: a torturer on a fast machine makes a lot
  execFileSync(`mkfs.${type}`, type === 'ext4' ? ['-q', '-F', file] : ['-q', file])
  const root = join(place, 'root')
  fs.mkdirSync(root)
  execFileSync('mount', ['-o', 'loop', file, root])
  return root
}

/** Forgets all that the kernel knows of an image. */
export function remounted(root: string): void {
  execFileSync('umount', [root])
  execFileSync('mount', ['-o', 'loop', join(root, '../image'), root])
}

export function subvolumeOf(btrfs: string): string {
  execFileSync('btrfs', ['-q', 'subvolume', 'create', join(btrfs, 'sub')])
  return join(btrfs, 'sub')
}

export function tmpfs(t: TestContext): string {
  const place = temporaryDirectory(t)
  execFileSync('mount', ['-t', 'tmpfs', 'none', place])
  return place
}

/** An overlay in memory over what `fill` makes. */
export function overlaid(t: TestContext, fill: (lower: string) => void = () => undefined): string {
  const stage = tmpfs(t)
  for (const name of ['lower', 'upper', 'work', 'root']) fs.mkdirSync(join(stage, name))
  fill(join(stage, 'lower'))
  const layers = ['lower', 'upper', 'work'].map((name) => `${name}dir=${join(stage, name)}`).join(',')
  execFileSync('mount', ['-t', 'overlay', 'overlay', '-o', layers, join(stage, 'root')])
  return join(stage, 'root')
}

/** The same directory at another place. */
export function bound(t: TestContext): string {
  const [from, to] = [temporaryDirectory(t), temporaryDirectory(t)]
  execFileSync('mount', ['--bind', from, to])
  return to
}
