import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { chmodSync, chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type DaemonConfig, expandModule } from '../src/daemon/config.js'
import { escapeControls, LOG, REPLY } from '../src/daemon/log.js'
import {
  type AuthDigest,
  authenticate,
  chooseDigest,
  digestTooWeak,
  findRule,
  newChallenge,
  parseResponse,
} from '../src/daemon/secrets.js'
import { authResponse, parseGreeting } from '../src/handshake.js'
import type { RawPath } from '../src/raw-path.js'
import { type Client, configured, GREETING, StockConfiguration } from './conversation.js'
import { temporaryDirectory } from './stage.js'

const SECRETS = [
  'anna:secret',
  '# a comment',
  '#com:x',
  '',
  'bert:two:parts',
  '@root:grouppw',
  'root:rootpw',
  'empty:',
  'carl:first',
  'carl:second',
  '  sp:pw',
  'cr:pw\r',
  '\xfcser:p\xe4ss',
  'sp ace:pw',
].join('\n')

const secretsIn = (home: string, name: string, mode: number, uid = 0) => {
  const file = join(home, name)
  writeFileSync(file, SECRETS, 'latin1')
  chmodSync(file, mode)
  chownSync(file, uid, 0)
}

const module = (name: string, users: string, more = 'secrets file = HOME/secrets') =>
  `[${name}]\npath = HOME/module\nauth users = ${users}\n${more}\n`

const MODULES = [
  'log file = HOME/log\nreverse lookup = no\nuse chroot = no\nuid = root\ngid = root\n',
  module('m', 'anna bert, empty #com carl sp cr \xfcser'),
  module('any', '*'),
  module('wild', 'a* [bc]*'),
  module('classes', '[!a-y]* ?oot'),
  module('deny', 'anna:deny bert:RO carl:rw empty:x cr:Deny'),
  module('group', '@ro?t:ro'),
  module('groupdeny', '@root:deny anna'),
  module('nogroup', '@nosuch anna'),
  module('comma', ', anna:deny, sp ace , bert'),
  module('none', 'anna', ''),
  module('missing', 'anna', 'secrets file = HOME/nowhere'),
  module('directory', 'anna', 'secrets file = HOME/module'),
  module('open', 'anna', 'secrets file = HOME/open'),
  module('writable', 'anna', 'secrets file = HOME/writable'),
  module('grouped', 'anna', 'secrets file = HOME/grouped'),
  module('execute', 'anna', 'secrets file = HOME/execute'),
  module('owned', 'anna', 'secrets file = HOME/owned'),
  module('lax', 'anna', 'secrets file = HOME/open\nstrict modes = no'),
  module('sha256', 'anna', 'secrets file = HOME/secrets\nauth digest = sha256'),
  module('SHA1', 'anna', 'secrets file = HOME/secrets\nauth digest = SHA1'),
  module('sha3', 'anna', 'secrets file = HOME/secrets\nauth digest = sha3'),
].join('')

/** As a client that knows `digest` alone would answer. */
const answer = (user: string, password: string, digest: AuthDigest = 'sha512') => {
  return (challenge: string) => {
    const hash = createHash(digest).update(Buffer.from(password + challenge, 'latin1'))
    return `${user} ${hash.digest('base64').replace(/=+$/, '')}`
  }
}

type Case = Required<Pick<Client, 'module' | 'greeting' | 'answer'>>

const say = (module: string, user: string, password: string, digest?: AuthDigest, greeting = GREETING): Case => ({
  module,
  greeting,
  answer: answer(user, password, digest),
})

const CASES: Case[] = [
  say('m', 'anna', 'secret'),
  say('m', 'anna', 'guess'),
  say('m', 'anna', ''),
  say('m', 'ANNA', 'secret'),
  say('m', 'nobody', 'secret'),
  say('m', 'bert', 'two:parts'),
  say('m', 'bert', 'two'),
  say('m', 'empty', ''),
  say('m', '#com', 'x'),
  say('m', 'carl', 'first'),
  say('m', 'carl', 'second'),
  say('m', 'sp', 'pw'),
  say('m', 'cr', 'pw'),
  say('m', '\xfcser', 'p\xe4ss'),
  say('m', 'an\x01\x7f\xffna\\#012', 'x'),
  say('m', 'a'.repeat(900), 'x'),
  say('m', 'a'.repeat(6000), 'x'),
  say('any', '', ''),
  say('any', '@root', 'grouppw'),
  say('any', 'bert:two', 'parts'),
  say('any', 'ghost', ''),
  say('wild', 'anna', 'secret'),
  say('wild', 'axel', 'secret'),
  say('wild', 'bert', 'two:parts'),
  say('wild', 'root', 'rootpw'),
  say('classes', 'root', 'rootpw'),
  say('classes', 'anna', 'secret'),
  say('deny', 'anna', 'secret'),
  say('deny', 'bert', 'two:parts'),
  say('deny', 'carl', 'first'),
  say('deny', 'empty', ''),
  say('deny', 'cr', 'pw'),
  say('group', 'root', 'rootpw'),
  say('group', 'root', 'grouppw'),
  say('group', 'root', 'guess'),
  say('group', 'anna', 'secret'),
  say('groupdeny', 'root', 'rootpw'),
  say('groupdeny', 'anna', 'secret'),
  say('nogroup', 'root', 'rootpw'),
  say('nogroup', 'anna', 'secret'),
  say('comma', 'anna', 'secret'),
  say('comma', 'sp ace', 'pw'),
  say('comma', 'bert', 'two:parts'),
  ...['none', 'missing', 'directory', 'open', 'writable', 'grouped', 'execute', 'owned', 'lax'].map((name) =>
    say(name, 'anna', 'secret'),
  ),
  say('sha256', 'anna', 'secret'),
  say('sha256', 'anna', 'secret', 'sha256', '@RSYNCD: 31.0 md5 sha256'),
  say('sha256', 'anna', 'secret', 'md5', '@RSYNCD: 31.0 md5'),
  say('sha256', 'anna', 'secret', 'md5', '@RSYNCD: 31.0'),
  say('SHA1', 'anna', 'secret', 'md5', '@RSYNCD: 31.0 md5'),
  say('sha3', 'anna', 'secret'),
  say('m', 'anna', 'secret', 'md5', '@RSYNCD: 31.0'),
  say('m', 'anna', 'secret', 'md5', '@RSYNCD: 30.0'),
  say('m', 'anna', 'secret', 'sha512', '@RSYNCD: 31.0 md5 sha512'),
  say('m', 'anna', 'secret', 'md5', '@RSYNCD: 31.0 md5 sha512'),
  say('m', 'anna', 'secret', 'sha1', '@RSYNCD: 31.0 sha3 SHA1'),
  say('m', 'anna', 'secret', 'sha512', '@RSYNCD: 31.0 sha3'),
  { module: 'm', greeting: GREETING, answer: () => 'noblank' },
  { module: 'm', greeting: GREETING, answer: () => '' },
  { module: 'm', greeting: GREETING, answer: () => ' x' },
  { module: 'm', greeting: GREETING, answer: () => 'anna  two blanks' },
  { module: 'm', greeting: GREETING, answer: () => `anna ${'x'.repeat(2000)}` },
]

/** What our parts come to: the last line of the conversation, and the log. */
async function decide(config: DaemonConfig, client: Case): Promise<{ reply: string; log: string[] }> {
  const name = client.module
  const settings = config.modules.get(name)!
  const who = ['UNDETERMINED', '127.0.0.1'] as const
  const log = [LOG.connect(...who), LOG.allowed(name, ...who)]
  const fail = (user: string | null, cause: string, ...before: string[]) => {
    log.push(...before, LOG.authFailed(name, ...who, user, cause))
    return { reply: REPLY.authFailed(name), log }
  }
  const digest = chooseDigest(parseGreeting(client.greeting).digests)
  if (digest === null) return { reply: REPLY.noDigest, log }
  const weak = digestTooWeak(digest, settings.authDigest)
  if (weak !== null) return fail(null, weak)
  const challenge = newChallenge(digest)
  const request = parseResponse(client.answer(challenge), challenge, digest)
  if (request === null) return fail(null, LOG.invalidResponse)
  const result = await authenticate(request, settings)
  return result.ok ? { reply: '@RSYNCD: OK', log } : fail(request.user, result.cause, ...result.log)
}

test('who gets in, who does not, and what the log says of it: all as at a stock daemon', async (t) => {
  const home = temporaryDirectory(t)
  secretsIn(home, 'secrets', 0o600)
  secretsIn(home, 'open', 0o604)
  secretsIn(home, 'writable', 0o602)
  secretsIn(home, 'grouped', 0o660)
  secretsIn(home, 'execute', 0o601)
  secretsIn(home, 'owned', 0o600, 1000)
  const stock = await StockConfiguration.start(t, MODULES, { home })
  const config = configured(t, stock.text(MODULES))
  const causes = new Set<string>()
  for (const client of CASES) {
    const { reply, log } = await stock.converse(client)
    const expected = log.filter((line) => !line.startsWith('rsync error: requested action not supported'))
    const what = `${client.module}: ${client.answer('x')}, ${client.greeting}`
    const { log: ours, ...rest } = await decide(config, client)
    assert.deepEqual({ ...rest, log: ours.map(escapeControls) }, { reply, log: expected }, what)
    for (const line of log) causes.add(/^auth failed.*: (.*)$/.exec(line)?.[1] ?? '')
  }
  for (const cause of ['no matching rule', 'denied by rule', 'no secrets file', 'ignoring secrets file'])
    assert.ok(causes.has(cause), cause)
  for (const cause of ['secret not found', 'password mismatch', 'invalid username', 'invalid challenge response'])
    assert.ok(causes.has(cause), cause)
})

test('a digest that old clients have works as well, and so does our own client', async (t) => {
  const home = temporaryDirectory(t)
  secretsIn(home, 'secrets', 0o600)
  const settings = { authUsers: 'anna', secretsFile: join(home, 'secrets') as RawPath, strictModes: true }
  for (const digest of ['sha512', 'sha256', 'sha1', 'md5', 'md4'] as const) {
    const challenge = newChallenge(digest)
    assert.notEqual(challenge, newChallenge(digest))
    for (const [password, ok] of [['secret', true] as const, ['guess', false] as const]) {
      const line = await authResponse({ user: 'anna', password }, challenge, [digest])
      const result = await authenticate(parseResponse(line, challenge, digest)!, settings)
      assert.equal(result.ok, ok, `${digest} ${password}`)
    }
  }
})

test('a rule decides between reading and writing, whatever the module says', async (t) => {
  const home = temporaryDirectory(t)
  secretsIn(home, 'secrets', 0o600)
  const may = async (authUsers: string) => {
    const settings = { authUsers, secretsFile: join(home, 'secrets') as RawPath, strictModes: true }
    const result = await authenticate(parseResponse(answer('anna', 'secret')('c'), 'c', 'sha512')!, settings)
    return result.ok ? result.readOnly : result.cause
  }
  assert.equal(await may('anna'), null)
  assert.equal(await may('anna:ro'), true)
  assert.equal(await may('anna:Rw'), false)
  assert.equal(await may('anna:deny'), 'denied by rule')
  assert.equal(await may('anna:nonsense'), null)
  assert.equal(await may('bert:deny a*:ro anna:rw'), true)
})

test('names that are too long are nobody, and no pattern makes them cost time', () => {
  assert.equal(findRule('anna', 'a'.repeat(5000)), null)
  const started = performance.now()
  assert.equal(findRule('*a*a*a*a*a*a*a*a*a*b', 'a'.repeat(1000)), null)
  assert.ok(performance.now() - started < 1000)
})

test('the path of a module may name the user, once there is one', (t) => {
  const text = '[home]\npath = /home/%RSYNC_USER_NAME%\nuid = %RSYNC_USER_NAME%\n'
  const config = configured(t, text)
  const before = expandModule(config.modules.get('home')!, {})
  assert.equal(before.path, '/home/%RSYNC_USER_NAME%')
  const after = expandModule(config.modules.get('home')!, { RSYNC_USER_NAME: 'anna' })
  assert.deepEqual([after.path, after.uid], ['/home/anna', 'anna'])
})
