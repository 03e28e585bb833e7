import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import type { Stage } from './stage.js'

/** Mounts a tmpfs of that size, e.g. `1m`, and unmounts it with the stage. Needs root. */
export function mountTmpfs(stage: Stage, path: string, size: string): void {
  mkdirSync(path, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'syncline-test', path])
  stage.defer(() => {
    spawnSync('umount', ['-l', path])
  })
}

export function growTmpfs(path: string, size: string): void {
  execFileSync('mount', ['-o', `remount,size=${size}`, path])
}

export function unmount(path: string): void {
  execFileSync('umount', [path])
}

/** Takes the mount away even from programs that hold something open there (umount -l). */
export function detachMount(path: string): void {
  execFileSync('umount', ['-l', path])
}

/** Makes a file or directory immutable (chattr +i): not even root can change it. Returns the way back. */
export function freeze(stage: Stage, path: string): () => void {
  execFileSync('chattr', ['+i', path])
  const thaw = () => void spawnSync('chattr', ['-i', path])
  stage.defer(thaw)
  return thaw
}
