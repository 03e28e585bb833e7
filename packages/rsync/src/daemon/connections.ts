import { closeSync, constants, openSync } from 'node:fs'
import { lockRange, SystemError } from '../kernel.js'
import { type RawPath, toBytes } from '../raw-path.js'

const EINVAL = 22
const SLOT = 4 // bytes of the lock file that stand for one connection, as every rsync has it

/** One of a module's connections, counted in its lock file until it is released or the process ends. */
export interface Claim {
  release(): void
}

const UNLIMITED: Claim = { release: () => undefined }

/**
 * connection.c claim_connection(): null where `max` connections are there already; below 0 that is always so, and 0 is
 * without a limit. Modules with one lock file share its slots, other daemons on this machine included. Throws what
 * opening the file throws.
 */
export function claimConnection(lockFile: RawPath, max: number): Claim | null {
  if (max === 0) return UNLIMITED
  if (max < 0) return null
  if (lockFile === '') throw new SystemError('open', EINVAL, 'EINVAL') // where open(2) itself would say ENOENT
  const fd = openSync(toBytes(lockFile), constants.O_RDWR | constants.O_CREAT, 0o600)
  for (let slot = 0; slot < max; slot++) {
    if (lockRange(fd, slot * SLOT, SLOT)) return { release: () => closeSync(fd) }
  }
  closeSync(fd)
  return null
}
