import { closeSync, openSync, writeSync } from 'node:fs'

/** Each file begins and ends with its number, so that a reader can tell which version is there, and that all of it is. */
export const MARK_BYTES = 8
const SIZE_BYTES = 4096

const content = Buffer.alloc(SIZE_BYTES, 'syncline ')

/** Writes a 4 KiB file with that number; returns the time just after its close. */
export function writeNumbered(path: string, serial: number): bigint {
  for (const offset of [0, SIZE_BYTES - MARK_BYTES]) {
    content.writeUInt32LE(serial, offset)
    content.writeUInt32LE(~serial >>> 0, offset + 4)
  }
  const file = openSync(path, 'w')
  writeSync(file, content)
  closeSync(file)
  return process.hrtime.bigint()
}
