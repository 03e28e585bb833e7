import { createRequire } from 'node:module'

const KOFFI = createRequire(import.meta.url).resolve('koffi')

/**
 * A program that exchanges, in the directory that is its argument, `d`, `d/e` and `f` for the symlinks `.d`, `.e` and
 * `.f`, as fast as it can. Of `d/e` it holds the directory, so that it never acts on what the symlinks lead to itself.
 */
export const ATTACKER = `
const koffi = require(${JSON.stringify(KOFFI)})
const { openSync } = require('node:fs')
const renameat2 = koffi.load(null).func('int renameat2(int a, const char *from, int b, const char *to, unsigned int flags)')
const [dir] = process.argv.slice(-1)
const top = openSync(dir, 0o200000)
const inner = openSync(dir + '/d', 0o200000)
const parent = process.ppid
process.stdout.write('ready')
const usleep = koffi.load(null).func('int usleep(unsigned int us)')
for (let i = 0; ; i++) {
  if (i % 50 === 0) {
    if (process.ppid !== parent) process.exit()
    usleep(500)
  }
  renameat2(top, 'd', top, '.d', 2)
  renameat2(top, 'f', top, '.f', 2)
  renameat2(inner, 'e', top, '.e', 2)
}
`
