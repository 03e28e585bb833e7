import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { CHECKSUMS, checksumNamed, createSums } from '../src/digest.js'
import { AUTH_DIGESTS, authResponse, greetingLine } from '../src/handshake.js'
import { RemoteError } from '../src/index.js'
import { randomBytes, temporaryDirectory } from './stage.js'
import { checksumsOf, openSession, RSYNCS, rsync, StockDaemon, VERSIONS } from './stock.js'

/** Sums of `abc`: RFC 1320 and 1321, and xxHash's own sanity values in the byte order of rsync. */
const ABC: Record<string, string> = {
  md4: 'a448017aaf21d8525fc10ae87aa6729d',
  md5: '900150983cd24fb0d6963f7d28e17f72',
  sha1: 'a9993e364706816aba3e25717850c26c9cd0d89d',
  xxh64: Buffer.from('44bc2cf5ad770999', 'hex').reverse().toString('hex'),
  xxh3: Buffer.from('78af5f94892f3950', 'hex').reverse().toString('hex'),
  xxh128: Buffer.from('06b05ab6733a618578af5f94892f3950', 'hex').reverse().toString('hex'),
}

test('the sum of `abc` is the published one, and reset starts anew', async () => {
  for (const name of CHECKSUMS) {
    const { file, length } = await createSums(name, 1, true)
    for (let i = 0; i < 2; i++) {
      file.reset()
      file.update(Buffer.from('a'))
      file.update(Buffer.from('bc'))
      const sum = file.final()
      assert.equal(sum.toString('hex'), ABC[name], name)
      assert.equal(sum.length, length)
    }
  }
})

test('whole-file sums are those that every stock rsync computes', async (t) => {
  const home = temporaryDirectory(t)
  const sizes = [0, 1, 15, 16, 17, 128, 129, 240, 241, 1024, 1025, 100_000]
  const content = (size: number) => randomBytes(size, size + 1)
  for (const size of sizes) writeFileSync(join(home, `${size}`), content(size))
  for (const version of VERSIONS) {
    for (const name of checksumsOf(version)) {
      const args = [
        '-n',
        '-r',
        '-c',
        '--out-format=%n %C',
        `--checksum-choice=${name}`,
        `${home}/`,
        join(home, 'nowhere'),
      ]
      const theirs = new Map(
        rsync(RSYNCS[version], args)
          .trim()
          .split('\n')
          .map((line) => line.split(' ') as [string, string]),
      )
      const { file } = await createSums(name, 1, true)
      for (const size of sizes) {
        file.reset()
        file.update(content(size))
        const ours = file.final()
        // rsync prints the integers of xxHash from their highest byte on.
        const shown = name.startsWith('xx') ? Buffer.from(ours).reverse() : ours
        assert.equal(shown.toString('hex'), theirs.get(`${size}`), `${name} of ${size} bytes, rsync ${version}`)
      }
    }
  }
})

test('a checksum that was not offered is refused', () => {
  assert.equal(checksumNamed('xxh3'), 'xxh3')
  assert.throws(() => checksumNamed('crc32'), /the peer chose "crc32"/)
})

/** Logs in by hand, offering one digest alone, and returns the daemon's last line. */
function login(port: number, password: string, digest: string | null): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    socket.setEncoding('latin1')
    let said = ''
    socket.on('error', reject)
    socket.on('close', () => resolve(said))
    socket.on('data', (text) => {
      const before = said.length
      said += text
      const challenge = /AUTHREQD (\S+)\n/.exec(said)
      if (said.includes('@RSYNCD: OK') || said.includes('@ERROR')) {
        resolve(said.trim().split('\n').at(-1) ?? '')
        socket.destroy()
      } else if (challenge !== null) {
        void authResponse({ user: 'anna', password }, challenge[1], digest === null ? null : [digest]).then((line) =>
          socket.write(`${line}\n`),
        )
      } else if (before === 0) socket.write(digest === null ? '@RSYNCD: 31.0\nm\n' : `@RSYNCD: 32.0 ${digest}\nm\n`)
    })
  })
}

test('stock daemons let in who knows the password, by each digest that they know, and nobody else', async (t) => {
  const home = temporaryDirectory(t)
  const password = 'pass wörd#'
  writeFileSync(join(home, 'secrets'), `bert:other\nanna:${password}\n`, { mode: 0o600 })
  for (const version of VERSIONS) {
    const daemon = await StockDaemon.start(t, version, { 'auth users': 'anna', 'secrets file': join(home, 'secrets') })
    // 3.2.3 lists no digests: md5 it is.
    for (const digest of version === '3.2.3' ? [null] : [...AUTH_DIGESTS, null]) {
      assert.equal(await login(daemon.port, password, digest), '@RSYNCD: OK', `${version} ${digest}`)
      assert.match(await login(daemon.port, 'guess', digest), /^@ERROR: auth failed/, `${version} ${digest}`)
    }
    const session = await openSession(daemon, '', { credentials: { user: 'anna', password } })
    assert.ok(session.alive)
    session.destroy()
    const refused = (credentials: { user: string; password: string } | undefined, why: RegExp) =>
      assert.rejects(openSession(daemon, '', { credentials }), (error) => {
        assert.ok(error instanceof RemoteError)
        assert.equal(error.reason, 'auth')
        assert.equal(error.exitCode, 5)
        assert.ok(error.permanent)
        return why.test(error.message)
      })
    await refused({ user: 'anna', password: 'guess' }, /auth failed on module m/)
    await refused({ user: 'nobody', password }, /auth failed on module m/)
    await refused(undefined, /wants a user and a password/)
  }
})

test('our greeting is one that stock rsync sends', () => {
  assert.equal(greetingLine(32), '@RSYNCD: 32.0 sha512 sha256 sha1 md5 md4\n') // 3.5.0 and 3.2.7, recorded
})
