// A process of its own that watches one directory and prints, for each numbered file, when its complete content was
// there: `name serial nanoseconds`, in CLOCK_MONOTONIC, comparable between processes. It must be quick without being in
// the way: it asks the kernel for two events only (fs.watch() would wake for every touch of rsync's temporary files), and
// blocks in read(2), so that nothing but a thread's wake-up lies between the event and the clock.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { MARK_BYTES } from './numbered.js'

const IN = { CLOSE_WRITE: 0x8, MOVED_TO: 0x80 } as const
const HEADER_BYTES = 16 // struct inotify_event: wd, mask, cookie, len

const libc = koffi.load('libc.so.6')
const inotifyInit = libc.func('int inotify_init1(int flags)')
const inotifyAddWatch = libc.func('int inotify_add_watch(int fd, const char *path, uint32_t mask)')

const [first, last] = [Buffer.alloc(MARK_BYTES), Buffer.alloc(MARK_BYTES)]
const known = new Map<string, number>()

const directory = process.argv[2]
const instance: number = inotifyInit(0)
if (inotifyAddWatch(instance, directory, IN.CLOSE_WRITE | IN.MOVED_TO) < 0) throw new Error(`cannot watch ${directory}`)
console.log('ready')
for (const events = Buffer.alloc(1 << 16); ; ) {
  const length = readSync(instance, events)
  const atNs = process.hrtime.bigint()
  for (let at = 0; at < length; at += HEADER_BYTES + events.readUInt32LE(at + 12)) {
    const end = events.indexOf(0, at + HEADER_BYTES)
    report(events.toString('latin1', at + HEADER_BYTES, end), atNs)
  }
}

function report(name: string, atNs: bigint): void {
  if (name.startsWith('.')) return // rsync writes to `.name.XXXXXX` and renames: only the final name counts
  const serial = serialOf(join(directory, name))
  if (serial === undefined || known.get(name) === serial) return
  known.set(name, serial)
  writeSync(1, `${name} ${serial} ${atNs}\n`)
}

/** The number that the file carries at its start and its end, if it is the same: then the content is complete. */
function serialOf(path: string): number | undefined {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return undefined // already gone
  }
  try {
    const { size } = fstatSync(file)
    if (readSync(file, first, 0, MARK_BYTES, 0) < MARK_BYTES) return undefined
    if (readSync(file, last, 0, MARK_BYTES, size - MARK_BYTES) < MARK_BYTES) return undefined
    return first.equals(last) ? first.readUInt32LE(0) : undefined
  } finally {
    closeSync(file)
  }
}
