/** Changes a tree as fast as it can: node torturer.js ROOT OUTSIDE ID SECONDS. A child process of torture.test.ts. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [root, outside, id, seconds] = process.argv.slice(2) as [string, string, string, string]
const endMs = performance.now() + Number(seconds) * 1000

let fileCount = 0
/** Its name tells when it was begun: a 'tree' hint from before then does not count for it. */
function write(directory: string): void {
  const nowMs = performance.timeOrigin + performance.now()
  writeFileSync(join(directory, `${nowMs}-${id}-${fileCount++}`), 'x')
}

const acts: ((n: number) => void)[] = [
  // A deep new directory with a file at once, as unpacking an archive does.
  (n) => {
    const deep = join(root, `new-${id}-${n}`, 'b', 'c', 'd')
    mkdirSync(deep, { recursive: true })
    write(deep)
  },
  // Renamed as soon as it is there, then changed below its new name.
  (n) => {
    const from = join(root, `from-${id}-${n}`)
    mkdirSync(join(from, 'x', 'y'), { recursive: true })
    write(join(from, 'x', 'y'))
    const to = join(root, `new-${id}-${n - 1}`, 'b', `to-${n}`)
    renameSync(from, to)
    write(join(to, 'x'))
    mkdirSync(join(to, 'x', 'z'))
    write(join(to, 'x', 'z'))
  },
  // Moved in from outside, and back and forth.
  (n) => {
    const away = join(outside, `away-${id}-${n}`)
    const here = join(root, `here-${id}-${n}`)
    mkdirSync(join(away, 'p', 'q'), { recursive: true })
    write(join(away, 'p', 'q'))
    renameSync(away, here)
    write(join(here, 'p'))
    renameSync(here, away)
    mkdirSync(join(away, 'late'))
    renameSync(away, here)
    write(join(here, 'late'))
  },
  // One name, several directories in quick succession.
  (n) => {
    const name = join(root, `same-${id}`)
    rmSync(name, { recursive: true, force: true })
    mkdirSync(join(name, 'k'), { recursive: true })
    write(join(name, 'k'))
    renameSync(name, join(root, `same-${id}-${n}`))
    mkdirSync(join(name, 'k', 'l'), { recursive: true })
    write(join(name, 'k', 'l'))
    write(join(root, `same-${id}-${n}`, 'k'))
  },
  // The parent is renamed while a child is being made.
  (n) => {
    const parent = join(root, `parent-${id}-${n}`)
    mkdirSync(parent)
    mkdirSync(join(parent, 'child'))
    renameSync(parent, `${parent}-2`)
    mkdirSync(join(`${parent}-2`, 'child', 'grandchild'))
    write(join(`${parent}-2`, 'child', 'grandchild'))
    renameSync(join(`${parent}-2`, 'child'), join(root, `moved-${id}-${n}`))
    write(join(root, `moved-${id}-${n}`, 'grandchild'))
  },
]

/** So that an hour of it needs no more room than a second. */
function forget(n: number): void {
  for (const kind of ['new', 'here', 'same', 'moved'])
    rmSync(join(root, `${kind}-${id}-${n}`), { recursive: true, force: true })
  rmSync(join(root, `parent-${id}-${n}-2`), { recursive: true, force: true })
}

const KEPT = 5000
for (let n = 0; performance.now() < endMs; n++) {
  acts[n % acts.length]!(n)
  if (n >= KEPT) forget(n - KEPT)
}
