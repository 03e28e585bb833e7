import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setXattr } from './kernel.js'

const SHARED_MEMORY = '/dev/shm'

/** A filesystem in memory where it can hold extended attributes (Linux 6.6 and newer); it halves the time of a run. */
export function memory(): string {
  try {
    const probe = mkdtempSync(`${SHARED_MEMORY}/interop-`)
    try {
      setXattr(probe, 'user.probe', Buffer.from('x'))
      return SHARED_MEMORY
    } finally {
      rmSync(probe, { recursive: true })
    }
  } catch {
    return tmpdir()
  }
}
