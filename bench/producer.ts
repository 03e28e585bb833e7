// A process of its own that changes a directory: producer.js touch DIR SECONDS RATE | stamp DIR COUNT | fill DIR COUNT | unpack DIR COUNT.
import { closeSync, mkdirSync, openSync, utimesSync, writeFileSync, writeSync } from 'node:fs'
import koffi from 'koffi'

const PAUSE_MS = 5

const [mode, dir = '', amount = '', rate = 'Infinity'] = process.argv.slice(2)
mkdirSync(dir, { recursive: true })
const modes = { touch, stamp, fill, unpack }
modes[mode as keyof typeof modes](Number(amount))

/** Sets the times of two files in turn, RATE times a second: neighbours that are equal the kernel would merge. Says how often. */
function touch(seconds: number): void {
  const utimensat = koffi.load(null).func('int utimensat(int dirfd, void *path, void *times, int flags)')
  const files = ['a', 'b'].map((name) => `${dir}/${name}`)
  for (const file of files) writeFileSync(file, '')
  const paths = files.map((file) => Buffer.from(`${file}\0`))
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const beganMs = performance.now()
  let count = 0
  for (let tookMs = 0; tookMs < seconds * 1000; tookMs = performance.now() - beganMs) {
    const aheadMs = (count / Number(rate)) * 1000 - tookMs
    if (aheadMs >= 1) Atomics.wait(sleeper, 0, 0, aheadMs)
    for (let i = 0; i < 1000; i++) utimensat(-100, paths[count++ % 2], null, 0)
  }
  console.log(count)
}

/**
 * Changes the times of files that are there, with pauses in which whoever listens falls asleep. Says when (CLOCK_MONOTONIC,
 * ns), as soon as the kernel has returned: the last thing that it did was to tell of it.
 */
function stamp(count: number): void {
  const at: string[] = []
  for (let i = 0; i < count; i++) {
    const untilMs = performance.now() + PAUSE_MS
    while (performance.now() < untilMs);
    utimesSync(`${dir}/stamp-${i}`, 0, 0)
    at.push(String(process.hrtime.bigint()))
  }
  console.log(JSON.stringify(at))
}

/** Makes files in ten directories in turn. Says how long it takes, in milliseconds. */
function fill(count: number): void {
  for (let i = 0; i < 10; i++) mkdirSync(`${dir}/${i}`, { recursive: true })
  makeFiles(count, (i) => `${i % 10}`)
}

/** Makes files in new directories, twenty in each. */
function unpack(count: number): void {
  makeFiles(count, (i) => {
    const name = `new-${Math.floor(i / 20)}`
    if (i % 20 === 0) mkdirSync(`${dir}/${name}`)
    return name
  })
}

function makeFiles(count: number, directoryOf: (i: number) => string): void {
  const began = performance.now()
  for (let i = 0; i < count; i++) {
    const fd = openSync(`${dir}/${directoryOf(i)}/${i}`, 'w')
    writeSync(fd, 'x')
    closeSync(fd)
  }
  console.log(performance.now() - began)
}
