import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, linkSync, lutimesSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { randomBytes, repeat } from './stage.js'

const MINUTE = 60

/** Every type of file and every attribute that rsync -aH carries, and names of all kinds. */
export async function plantSample(root: string): Promise<void> {
  mkdirSync(root, { recursive: true })
  const at = (path: string) => Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')])
  const write = (path: string, content: string | Buffer, mode = 0o644, sec = 981_173_106) => {
    writeFileSync(at(path), content)
    chmodSync(at(path), mode)
    utimesSync(at(path), sec, sec)
  }
  mkdirSync(at('dir'))
  mkdirSync(at('dir/deep'))
  mkdirSync(at('empty dir'))
  write('plain', 'hello\n')
  write('empty', '')
  write('secret', 'x', 0o600)
  write('before 1970', 'x', 0o644, -315_619_200)
  write('after 2106', 'x')
  write('nanoseconds', 'x', 0o644, 1_500_000_000.25)
  write('dir/large', randomBytes(300_000, 1))
  write('dir/deep/text', repeat('a line of text that repeats itself\n', 200_000))
  write('gbk \xb2\xe2\xca\xd4\xff\xfe', 'GBK')
  write('new\nline', 'x')
  write('-rf *?[a]\\', 'x')
  write('n'.repeat(255), 'x')
  for (let byte = 1; byte < 256; byte += 9) if (byte !== 0x2f) write(`byte ${String.fromCharCode(byte)}.`, 'x')
  write('owned', 'x')
  chownSync(at('owned'), 1, 2)
  write('numbers', 'x')
  chownSync(at('numbers'), 4_000_000_000, 3_999_999_999)
  write('setuid', 'x', 0o4755)
  write('dir/first', 'linked')
  linkSync(at('dir/first'), at('dir/second'))
  linkSync(at('dir/first'), at('third'))
  symlinkSync('nowhere', at('dangling'))
  symlinkSync('/etc/passwd', at('absolute'))
  symlinkSync(Buffer.from('\xb2\xe2', 'latin1'), at('to gbk'))
  linkSync(at('dangling'), at('dangling too'))
  lutimesSync(at('dangling'), 981_173_107, 981_173_107)
  chownSync(at('dir/deep'), 1, 2)
  chmodSync(at('dir/deep'), 0o3711)
  execFileSync('sh', ['-c', 'mkfifo fifo; mknod null c 1 3; mknod loop b 7 300; chmod 640 null'], { cwd: root })
  await listenOnce(`${root}/socket`)
  // Old times for the rest too: before 3.2.7 receivers take for equal what differs by less than a second.
  const older = 'find . ! -type d -newermt 2020-01-01 -exec touch -h -d "2001-02-03 04:05:11.000000123 UTC" {} +'
  execFileSync('sh', ['-c', `${older}; touch -d "2001-02-03 04:05:12 UTC" "empty dir"`], { cwd: root })
  utimesSync(at('after 2106'), 2 ** 32 + MINUTE, 2 ** 32 + MINUTE)
  utimesSync(at('dir/deep'), 981_173_108, 981_173_108)
  utimesSync(at('dir'), 981_173_109, 981_173_109)
  utimesSync(at(''), 981_173_110, 981_173_110)
}

/** A socket in the filesystem. Node removes it when its server closes, so it gets a second name first. */
function listenOnce(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(`${path}.bound`, () => {
      linkSync(`${path}.bound`, path)
      server.close(() => resolve())
    })
  })
}
