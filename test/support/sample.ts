import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { HOSTILE_NAMES } from './names.js'
import { Random } from './random.js'

/** A path below `root` whose last part is raw bytes, written as latin1. */
export function raw(root: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name, 'latin1')])
}

/** Content that is the same for the same seed. */
export function content(length: number, seed = 1): Buffer {
  return new Random(seed).bytes(length)
}

/** Every type of file and every attribute that -a and -H carry, once at least; `outward` symlinks leave the tree. */
export function makeEverything(root: string, { outward = true } = {}): void {
  const at = (name: string) => join(root, name)
  fs.mkdirSync(at('deep/er/still'), { recursive: true })
  fs.writeFileSync(at('empty'), '')
  fs.writeFileSync(at('small'), 'hello\n')
  fs.writeFileSync(at('large'), content(3_000_000))
  fs.writeFileSync(at('zeros'), Buffer.alloc(200_000))
  fs.writeFileSync(at('deep/er/still/leaf'), 'leaf')
  fs.mkdirSync(at('empty-directory'))

  fs.writeFileSync(at('linked'), content(5000, 2))
  fs.linkSync(at('linked'), at('deep/linked too'))
  fs.linkSync(at('linked'), at('a third name'))
  fs.symlinkSync('small', at('symlink'))
  fs.symlinkSync('nowhere/at all', at('dangling'))
  fs.symlinkSync(Buffer.from('\xff\n$(x)', 'latin1'), at('symlink to bytes'))
  if (outward) {
    fs.symlinkSync('/etc/passwd', at('absolute'))
    fs.symlinkSync('../..//etc/passwd', at('deep/outwards'))
  }
  fs.linkSync(at('symlink'), at('symlink, linked'))
  execFileSync('mkfifo', [at('fifo')])
  execFileSync('mknod', [at('null'), 'c', '1', '3'])
  execFileSync('mknod', [at('block'), 'b', '259', '70000'])
  makeSocket(at('socket'))

  for (const [i, mode] of [0o000, 0o400, 0o4755, 0o2711, 0o1666].entries()) {
    fs.writeFileSync(at(`mode ${i}`), `mode ${i}`)
    fs.chmodSync(at(`mode ${i}`), mode)
  }
  fs.mkdirSync(at('sticky'))
  fs.chmodSync(at('sticky'), 0o1777)
  fs.mkdirSync(at('closed'))
  fs.writeFileSync(at('closed/inside'), 'inside')
  fs.chmodSync(at('closed'), 0o000)
  fs.writeFileSync(at('owned'), 'owned')
  fs.chownSync(at('owned'), 1000, 4_000_000)
  fs.lchownSync(at('symlink'), 65534, 65534)
  fs.chownSync(at('empty-directory'), 12345, 54321)

  for (const name of HOSTILE_NAMES) {
    fs.writeFileSync(raw(root, name), name)
    fs.writeFileSync(raw(at('deep'), name), `deep ${name}`)
  }
  fs.mkdirSync(raw(root, 'dir \n*\xff'))
  fs.writeFileSync(raw(root, 'dir \n*\xff/--delete'), 'x')

  for (const [i, seconds] of [0, 1, 999999999.123456, 2147483647.5, 4102444800.25].entries()) {
    fs.writeFileSync(at(`mtime ${i}`), `${seconds}`)
    fs.utimesSync(at(`mtime ${i}`), seconds, seconds)
  }
  fs.lutimesSync(at('dangling'), 1234567890.987654, 1234567890.987654)
  fs.utimesSync(at('fifo'), 1111111111.111111, 1111111111.111111)
  fs.utimesSync(at('empty-directory'), 1000000000.5, 1000000000.5)
}

/** A socket file that no one listens on any more. */
export function makeSocket(path: string): void {
  const made = spawnSync(process.execPath, [
    '-e',
    // Node removes the socket file when the server closes; an exit by signal leaves it.
    `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  if (!fs.lstatSync(path).isSocket()) throw new Error(`no socket at ${path}: ${made.stderr}`)
}

/** A few plain files and directories, for tests whose subject is something else. */
export function makeSmall(root: string): void {
  fs.mkdirSync(join(root, 'sub/below'), { recursive: true })
  fs.writeFileSync(join(root, 'one'), 'one\n')
  fs.writeFileSync(join(root, 'sub/two'), content(20_000))
  fs.writeFileSync(join(root, 'sub/below/three'), content(70_000, 3))
  fs.symlinkSync('one', join(root, 'link'))
}
