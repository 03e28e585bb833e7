// A process of its own that looks once a millisecond whether a file or directory has the wanted mtime, which the
// receiver sets last, and reports when it had. One lstat costs some microseconds: the measured ones do not notice.
import { lstatSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface Wanted {
  path: string
  mtimeNs: string
  /** For a directory: how many complete entries it must have. */
  entries?: number
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const pause = new Int32Array(new SharedArrayBuffer(4))
  process.on('message', (wanted: Wanted) => {
    while (!isThere(wanted)) Atomics.wait(pause, 0, 0, 1)
    process.send?.(String(process.hrtime.bigint()))
  })
  process.on('disconnect', () => process.exit())
}

function isThere({ path, mtimeNs, entries }: Wanted): boolean {
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  if (stats?.mtimeNs !== BigInt(mtimeNs)) return false
  return entries === undefined || readdirSync(path).filter((name) => !name.startsWith('.')).length === entries
}
