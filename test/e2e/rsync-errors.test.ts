import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { CURRENT, OURS, type Side } from '../interop/sides.js'
import { freePort } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { type ClientOptions, Rsyncd, runRsync, served } from '../support/rsyncd.js'
import { Stage } from '../support/stage.js'

// The errors that users of rsync know by heart, and search the web for: whichever end is ours, the client prints them
// word for word as two stock rsyncs would have it, ends with the same code, and the daemon logs the same cause.

const NOBODY = 65534
const LARGE = 8 << 20
const LOOKS_MAX = 30 // at a log in which nothing appears

/** One run: a client's own directory, and the directory of the case's module, fresh for each. */
interface Place {
  client: Side
  daemon: Rsyncd
  local: string
  module: string
  /** `rsync://127.0.0.1:PORT/MODULE` */
  url: string
  name: string
}

interface DaemonCase {
  name: string
  /** What the module says beside its path. */
  module?: Record<string, string>
  prepare?: (place: Place) => void | Promise<void>
  args: (place: Place) => string[]
  options?: (place: Place) => ClientOptions
  /** A stock daemon may reset the connection before its refusal is read: its client then has 10 for 4, or not. */
  hasty?: boolean
  /** Which of a stock rsync's processes says so is left to chance; ours has one. */
  interrupted?: boolean
  /** Looks at what is left, and puts back what the next run must find. */
  afterwards?: (place: Place) => void | Promise<void>
}

const write = (file: string, text: string | Buffer = 'text\n', mode = 0o644) => {
  fs.writeFileSync(file, text)
  fs.chmodSync(file, mode)
}
const several = (directory: string) => {
  for (const name of ['a', 'b', 'c']) write(`${directory}/${name}`)
}
const push =
  (...options: string[]) =>
  ({ local, url }: Place) => [...options, '-r', `${local}/src/`, `${url}/`]
const pull =
  (...options: string[]) =>
  ({ local, url }: Place) => [...options, '-r', `${url}/`, `${local}/dst/`]

const secret = (text: string, mode = 0o600) => ({
  prepare: ({ daemon, name }: Place) => write(`${daemon.home}/secrets-${name}`, text, mode),
})
const guarded = (more: Record<string, string> = {}) => ({
  'auth users': 'user',
  'secrets file': 'HOME/secrets-NAME',
  ...more,
})
const login =
  (user: string, ...options: string[]) =>
  ({ daemon, name, local }: Place) => [
    ...options,
    '-r',
    `rsync://${user}@127.0.0.1:${daemon.port}/${name}/`,
    `${local}/dst/`,
  ]
const password = (text: string) => () => ({ env: { RSYNC_PASSWORD: text } })

const nothingTemporary = (directory: string) =>
  assert.deepEqual(
    fs.readdirSync(directory).filter((name) => name.startsWith('.')),
    [],
    'no temporary file is left behind',
  )

/** Stops the client with `signal` as soon as data has arrived in a temporary file of `directory`. */
const interrupt =
  (directory: (place: Place) => string, signal: NodeJS.Signals) =>
  (place: Place): ClientOptions => ({
    during: async (child: ChildProcess) => {
      const arriving = () => fs.readdirSync(directory(place)).some((name) => name.startsWith('.large.'))
      await until('the transfer runs', arriving)
      child.kill(signal)
    },
  })

const largeToPush = ({ local }: Place) => write(`${local}/src/large`, Buffer.alloc(LARGE, 'x'))
const largeToPull = ({ module }: Place) => write(`${module}/large`, Buffer.alloc(LARGE, 'x'))

const DAEMON_CASES: DaemonCase[] = [
  { name: 'unknown module', args: ({ daemon, local }) => ['-r', `rsync://127.0.0.1:${daemon.port}/no-such/`, local] },
  {
    name: 'unknown module, pushed to',
    args: ({ daemon, local }) => [`${local}/src`, `rsync://127.0.0.1:${daemon.port}/no-such/`],
  },
  {
    name: 'a command for a module',
    args: ({ daemon, local }) => ['-r', `rsync://127.0.0.1:${daemon.port}/#what/`, local],
  },
  { name: 'hosts deny, listed', module: { 'hosts deny': '*' }, args: pull() },
  { name: 'hosts deny, not listed', module: { 'hosts deny': '*', list: 'no' }, args: pull() },
  { name: 'hosts allow of others', module: { 'hosts allow': '192.0.2.0/24' }, args: push() },
  { name: 'max connections below 0', module: { 'max connections': '-1' }, args: pull() },
  {
    name: 'lock file that cannot be opened',
    module: { 'max connections': '2', 'lock file': 'HOME/no/such/lock' },
    args: pull(),
  },
  { name: 'no path', module: { path: '' }, args: pull() },
  { name: 'chdir failed', module: { path: 'HOME/no-such' }, args: pull() },
  { name: 'chroot failed', module: { path: 'HOME/no-such', 'use chroot': 'yes' }, args: pull() },
  { name: 'invalid uid', module: { uid: 'no-such-user' }, args: pull() },
  { name: 'invalid gid', module: { gid: 'no-such-group' }, args: push() },
  { name: 'read only', module: { 'read only': 'yes' }, args: push() },
  { name: 'write only', module: { 'write only': 'yes' }, args: pull() },
  {
    name: 'remove source files of a read only module',
    module: { 'read only': 'yes' },
    args: pull('--remove-source-files'),
  },

  // The five causes of a failed login, and their relatives
  {
    name: 'auth: user not in auth users',
    module: guarded(),
    ...secret('other:secret\n'),
    args: login('other'),
    options: password('secret'),
  },
  {
    name: 'auth: no such user in the secrets',
    module: guarded(),
    ...secret('other:secret\n'),
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: wrong password',
    module: guarded(),
    ...secret('user:secret\n'),
    args: login('user'),
    options: password('guess'),
  },
  { name: 'auth: secrets file missing', module: guarded(), args: login('user'), options: password('secret') },
  {
    name: 'auth: no secrets file configured',
    module: { 'auth users': 'user' },
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: secrets file that others may read',
    module: guarded(),
    ...secret('user:secret\n', 0o644),
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: secrets file of another user',
    module: guarded(),
    prepare: ({ daemon, name }) => {
      write(`${daemon.home}/secrets-${name}`, 'user:secret\n', 0o600)
      fs.chownSync(`${daemon.home}/secrets-${name}`, NOBODY, NOBODY)
    },
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: secrets file is a directory',
    module: guarded({ 'secrets file': 'HOME' }),
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: denied by rule',
    module: guarded({ 'auth users': 'user:deny *' }),
    ...secret('user:secret\n'),
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: read only by rule',
    module: guarded({ 'auth users': 'user:ro' }),
    ...secret('user:secret\n'),
    args: ({ daemon, name, local }) => ['-r', `${local}/src/`, `rsync://user@127.0.0.1:${daemon.port}/${name}/`],
    options: password('secret'),
  },
  {
    name: 'auth: user name in a comment',
    module: guarded({ 'auth users': '*' }),
    ...secret('#user:secret\n'),
    args: login('%23user'),
    options: password('secret'),
  },
  {
    name: 'auth: right without strict modes',
    module: guarded({ 'strict modes': 'no' }),
    ...secret('user:secret\n', 0o644),
    args: login('user'),
    options: password('secret'),
  },
  {
    name: 'auth: a password file of the client others may read',
    module: guarded(),
    ...secret('user:secret\n'),
    args: (place) => {
      write(`${place.local}/password`, 'secret\n', 0o644)
      return login('user', `--password-file=${place.local}/password`)(place)
    },
  },
  {
    name: 'auth: a password file that is missing',
    module: guarded(),
    ...secret('user:secret\n'),
    args: (place) => login('user', `--password-file=${place.local}/password`)(place),
  },
  {
    name: 'auth: an empty password file',
    module: guarded(),
    ...secret('user:secret\n'),
    args: (place) => {
      write(`${place.local}/password`, '', 0o600)
      return login('user', `--password-file=${place.local}/password`)(place)
    },
  },
  {
    name: 'auth: a password file of another user',
    module: guarded(),
    ...secret('user:secret\n'),
    args: (place) => {
      write(`${place.local}/password`, 'secret\n', 0o600)
      fs.chownSync(`${place.local}/password`, NOBODY, NOBODY)
      return login('user', `--password-file=${place.local}/password`)(place)
    },
  },
  {
    name: 'auth: a password file that is right',
    module: guarded(),
    ...secret('user:secret\n'),
    args: (place) => {
      write(`${place.local}/password`, 'secret\nsecond line\n', 0o600)
      return login('user', `--password-file=${place.local}/password`)(place)
    },
  },
  {
    name: 'auth: a password file that nobody asks for',
    args: (place) => {
      write(`${place.local}/password`, 'secret\n', 0o644)
      return pull(`--password-file=${place.local}/password`)(place)
    },
  },

  // Options
  { name: 'refused option', hasty: true, module: { 'refuse options': 'delete' }, args: push('--delete') },
  { name: 'refused short option', hasty: true, module: { 'refuse options': 'checksum' }, args: push('-c') },
  { name: 'refused compression', hasty: true, module: { 'refuse options': 'compress' }, args: pull('-z') },
  { name: 'everything refused', hasty: true, module: { 'refuse options': '*' }, args: pull('-S') },
  { name: 'an option that the server does not know', hasty: true, args: push('-M--no-such-option') },
  { name: 'an option of the server without its argument', hasty: true, args: push('-M--max-delete') },

  // Single files
  {
    name: 'no permission to read one file',
    module: { uid: 'nobody' },
    prepare: ({ module }) => write(`${module}/closed`, 'x', 0o600),
    args: pull(),
  },
  {
    name: 'no permission to read one directory',
    module: { uid: 'nobody' },
    prepare: ({ module }) => fs.mkdirSync(`${module}/closed`, { mode: 0o700 }),
    args: pull(),
  },
  {
    name: 'no permission to read one file, pushed',
    prepare: ({ local }) => write(`${local}/src/closed`, 'x', 0o600),
    args: push(),
    options: () => ({ uid: NOBODY }),
  },
  {
    name: 'no permission to write',
    module: { uid: 'nobody' },
    prepare: ({ local }) => write(`${local}/src/new`),
    args: push(),
  },
  {
    name: 'no permission to write, pulled',
    prepare: ({ module }) => write(`${module}/new`),
    args: pull(),
    options: () => ({ uid: NOBODY }),
  },
  {
    name: 'no permission to make a directory',
    module: { uid: 'nobody' },
    prepare: ({ local }) => fs.mkdirSync(`${local}/src/new`),
    args: push(),
  },
  {
    name: 'no permission to delete',
    module: { uid: 'nobody' },
    prepare: ({ module }) => write(`${module}/old`),
    args: push('--delete'),
  },
  { name: 'no permission to set times', module: { uid: 'nobody' }, args: push('-t') },
  { name: 'no such file, pulled', args: ({ url, local }) => [`${url}/no-such`, `${url}/present`, `${local}/dst/`] },
  { name: 'no such file, pushed', args: ({ url, local }) => [`${local}/no-such`, `${local}/src/present`, `${url}/`] },
  { name: 'no such directory, listed', args: ({ url }) => [`${url}/no/such/`] },
  { name: 'a directory without -r', args: ({ url, local }) => [`${local}/src`, `${url}/`] },
  {
    name: 'an excluded file is pushed',
    module: { exclude: '*.o' },
    prepare: ({ local }) => write(`${local}/src/a.o`),
    args: push(),
  },
  {
    name: 'an excluded file is pulled by name',
    module: { exclude: '*.o' },
    prepare: ({ module }) => write(`${module}/a.o`),
    args: ({ url, local }) => [`${url}/a.o`, `${local}/dst/`],
  },
  {
    name: 'an excluded destination',
    module: { exclude: '/hidden' },
    args: ({ url, local }) => ['-r', `${local}/src/`, `${url}/hidden/`],
  },
  { name: 'out of the module', args: ({ url, local }) => [`${url}/../../present`, `${local}/dst/`] },

  // The destination
  {
    name: 'destination is no directory, several sources',
    prepare: ({ module, local }) => {
      write(`${module}/file`)
      write(`${local}/src/second`)
    },
    args: ({ url, local }) => [`${local}/src/present`, `${local}/src/second`, `${url}/file`],
  },
  {
    name: 'destination is a file, a directory comes',
    prepare: ({ module }) => write(`${module}/file`),
    args: ({ url, local }) => ['-r', `${local}/src`, `${url}/file`],
  },
  { name: 'destination cannot be made', args: ({ url, local }) => ['-r', `${local}/src/`, `${url}/no/such/deep`] },
  { name: 'destination cannot be made, pulled', args: ({ url, local }) => ['-r', `${url}/`, `${local}/no/such/deep`] },
  {
    name: 'destination below a file, pulled',
    prepare: ({ local }) => write(`${local}/file`),
    args: ({ url, local }) => ['-r', `${url}/`, `${local}/file/deep/`],
  },
  {
    name: 'destination is a file, several come, pulled',
    prepare: ({ local, module }) => {
      write(`${local}/file`)
      write(`${module}/second`)
    },
    args: ({ url, local }) => [`${url}/present`, `${url}/second`, `${local}/file`],
  },
  {
    name: 'a directory that is not empty is in the way',
    prepare: ({ module, local }) => {
      fs.mkdirSync(`${module}/way`)
      write(`${module}/way/kept`)
      write(`${local}/src/way`)
    },
    args: push(),
  },

  // Deleting
  {
    name: '--max-delete',
    prepare: ({ module }) => several(`${module}`),
    args: push('--delete', '--max-delete=1'),
  },
  {
    name: '--max-delete, pulled',
    prepare: ({ local }) => several(`${local}/dst`),
    args: pull('--delete', '--max-delete=1'),
  },
  {
    name: 'an error keeps from deleting',
    module: { uid: 'nobody' },
    prepare: ({ module, local }) => {
      fs.mkdirSync(`${module}/closed`, { mode: 0o700 })
      write(`${local}/dst/old`)
    },
    args: pull('--delete-before'),
    afterwards: ({ local }) => assert.ok(fs.existsSync(`${local}/dst/old`)),
  },

  // Interrupted
  {
    name: 'SIGINT while pushing',
    interrupted: true,
    prepare: largeToPush,
    args: push('--bwlimit=1000', '-W'),
    options: interrupt(({ module }) => module, 'SIGINT'),
    afterwards: async ({ module }) => {
      await until('the daemon has cleaned up', () => !fs.readdirSync(module).some((name) => name.startsWith('.')))
      nothingTemporary(module)
    },
  },
  {
    name: 'SIGTERM while pulling',
    interrupted: true,
    prepare: largeToPull,
    args: pull('--bwlimit=1000', '-W'),
    options: interrupt(({ local }) => `${local}/dst`, 'SIGTERM'),
    afterwards: ({ local }) => nothingTemporary(`${local}/dst`),
  },
  {
    name: 'SIGHUP while pulling',
    interrupted: true,
    prepare: largeToPull,
    args: pull('--bwlimit=1000', '-W'),
    options: interrupt(({ local }) => `${local}/dst`, 'SIGHUP'),
    afterwards: ({ local }) => nothingTemporary(`${local}/dst`),
  },
  {
    name: 'a file vanishes, pushed',
    prepare: (place) => {
      largeToPush(place)
      write(`${place.local}/src/last`)
    },
    args: push('--bwlimit=4000', '-W'),
    options: ({ local, module }) => ({
      during: async () => {
        await until('the transfer runs', () => fs.readdirSync(module).some((name) => name.startsWith('.large.')))
        fs.rmSync(`${local}/src/last`)
      },
    }),
  },
  {
    name: 'a file vanishes, pulled',
    prepare: (place) => {
      largeToPull(place)
      write(`${place.module}/last`)
    },
    args: pull('--bwlimit=4000', '-W'),
    options: ({ local, module }) => ({
      during: async () => {
        await until('the transfer runs', () =>
          fs.readdirSync(`${local}/dst`).some((name) => name.startsWith('.large.')),
        )
        fs.rmSync(`${module}/last`)
      },
    }),
  },
]

/** Cases run side by side, each lane with daemons of its own: what a daemon logs belongs to one case at a time. */
const LANES = 3

let stage: Stage
const lanes: Rsyncd[][] = []

const nameOf = (one: DaemonCase) => `m${DAEMON_CASES.indexOf(one)}`

function configuration(): string {
  const modules = DAEMON_CASES.map((one) => {
    const name = nameOf(one)
    const open = { path: `HOME/${name}`, 'read only': 'no', uid: 'root', gid: 'root', 'use chroot': 'no' }
    const said = Object.entries({ ...open, ...one.module }).filter(([, value]) => value !== '')
    return `[${name}]\n${said.map(([key, value]) => `${key} = ${value.replaceAll('NAME', name)}\n`).join('')}`
  })
  return `reverse lookup = no\nmunge symlinks = no\n${modules.join('')}`
}

before(async () => {
  stage = new Stage()
  fs.chmodSync(stage.root, 0o755)
  const pairs = Array.from({ length: LANES }, () =>
    Promise.all([CURRENT, OURS].map((side) => Rsyncd.start(stage, side, configuration()))),
  )
  lanes.push(...(await Promise.all(pairs)))
})
after(() => stage.close())

interface Told {
  exit: string
  stderr: string[]
  log: string[]
}

describe('at a daemon, alike at every end', { concurrency: LANES }, () => {
  for (const one of DAEMON_CASES)
    test(one.name, async () => {
      const lane = lanes.pop()! // there are as many as tests at once
      try {
        await compare(one, lane)
      } finally {
        lanes.push(lane)
      }
    })
})

async function compare(one: DaemonCase, lane: readonly Rsyncd[]): Promise<void> {
  const pairs = lane.map(async (daemon) => [await tell(one, daemon, CURRENT), await tell(one, daemon, OURS)])
  const [expected, ...rest] = (await Promise.all(pairs)).flat()
  if (one.interrupted) for (const told of [expected, ...rest]) unanimous(told)
  if (one.hasty) {
    assert.equal(rest[2].exit, '4')
    for (const told of [expected, ...rest]) unhurried(told)
  }
  for (const [i, who] of ['our client, stock daemon', 'stock client, our daemon', 'both ours'].entries())
    assert.deepEqual(rest[i], expected, who)
}

function unanimous(told: Told): void {
  const alike = (lines: string[]) =>
    [...new Set(lines.map((line) => line.replace(/\[\w+=/, '[ROLE=')))].filter((line) => !line.includes('SIGUSR1'))
  told.stderr = alike(told.stderr)
  told.log = alike(told.log)
}

function unhurried(told: Told): void {
  if (told.exit === '10') told.exit = '4'
  told.stderr = told.stderr.filter((line) => !/^rsync error: |unexpectedly closed|safe_write/.test(line))
  told.log = [...new Set(told.log.filter((line) => !line.startsWith('rsync error: ')))]
}

async function tell(one: DaemonCase, daemon: Rsyncd, client: Side): Promise<Told> {
  const name = nameOf(one)
  const local = stage.path(`${name}-${daemon.port}-${client.name}`)
  const module = join(daemon.home, name)
  const place: Place = { client, daemon, local, module, name, url: `rsync://127.0.0.1:${daemon.port}/${name}` }
  fs.rmSync(module, { recursive: true, force: true })
  for (const directory of [module, `${local}/src`, `${local}/dst`]) fs.mkdirSync(directory, { recursive: true })
  write(`${local}/src/present`)
  write(`${module}/present`)
  await one.prepare?.(place)
  const from = daemon.lines().length
  const ending = await runRsync(client, one.args(place), { cwd: local, ...one.options?.(place) })
  const words = (text: string) => normal(text, place)
  await until('the daemon is done with it', () => served(daemon.port) === 0, { problem: () => daemon.log() })
  const log = await settledLog(daemon, from, words, one.interrupted ? 'rsync error: ' : '')
  await one.afterwards?.(place)
  return { exit: ending.exit, stderr: words(ending.stderr), log: ended(log, ending.exit) }
}

/** Until it says so, and nothing more is logged: workers log through another process, perhaps after the client has gone. */
async function settledLog(
  daemon: Rsyncd,
  from: number,
  words: (text: string) => string[],
  said: string,
): Promise<string[]> {
  let before: string[] = []
  const most = said === '' ? LOOKS_MAX : 10 * LOOKS_MAX
  for (let quiet = 0, looks = 0; quiet < 3 && looks < most; looks++) {
    await sleep(30)
    const now = daemon.lines().slice(from)
    const isSaid = now.some((line) => line.includes(said))
    quiet = now.length === before.length && isSaid ? quiet + 1 : 0
    before = now
  }
  return words(before.join('\n'))
}

/** What depends on the directory, the port, the moment or the version is not compared; nor which process prints first. */
function normal(text: string, { local, daemon }: Place): string[] {
  return plain(text.replaceAll(local, 'LOCAL').replaceAll(daemon.home, 'HOME').replaceAll(String(daemon.port), 'PORT'))
}

function plain(text: string): string[] {
  return text
    .replaceAll(/ at [\w.]+\(\d+\) \[(\w+)=[\w.]+\]/g, ' at PLACE [$1=VERSION]')
    .replaceAll(/(["/]\.[^/"\n]*)\.\w{6}(?=")/g, '$1.XXXXXX') // a temporary file
    .replaceAll(/^sent [\d,]+ bytes {2}received [\d,]+ bytes {2}total size [\d,]+/gm, COUNTED)
    .replaceAll(/\([\d,]+ bytes received so far\)/g, '(N bytes received so far)')
    .split('\n')
    .filter((line) => line !== '' && !HASTE.test(line))
    .sort()
}

/** One end may have gone before the other has read, or said, all that there was. */
const HASTE = / (read|write) error: (Connection reset by peer|Broken pipe) /

/** A stock sender counts what it has moved, and says how it ended, at each of its ends; how often is left to chance. */
function ended(log: string[], exit: string): string[] {
  return log.filter(
    (line, i) => !(exit !== '0' && line === COUNTED) && !(line.startsWith('rsync error: ') && line === log[i - 1]),
  )
}

const COUNTED = 'sent and received'

/** A client alone: there is no daemon, or none that answers as one should, or a remote shell that does not. */
interface ClientCase {
  name: string
  /** What the other end does with a connection. */
  server?: (socket: Socket) => void
  args: (place: { port: number; local: string }) => string[]
  options?: ClientOptions
  /** Lines to compare, where others are ours to word or those of another process. */
  only?: RegExp
  /** A stock rsync may be too hasty to learn it from the shell: it ends with 12 then. */
  exit?: string
}

const greeting = '@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n'
const says = (text: string) => (socket: Socket) => void socket.write(text)
const saysAndCloses = (text: string) => (socket: Socket) => void socket.end(text)
/** Says the second once it has heard something. */
const answers = (first: string, second: string) => (socket: Socket) => {
  socket.write(first)
  socket.once('data', () => socket.end(second))
}
const from = ({ port, local }: { port: number; local: string }) => [`rsync://127.0.0.1:${port}/m/`, `${local}/`]
const to = ({ port, local }: { port: number; local: string }) => ['-r', `${local}/`, `rsync://127.0.0.1:${port}/m/`]
const inNetwork = (...commands: string[]): ClientOptions => ({
  prefix: ['unshare', '--net', 'sh', '-c', `${commands.join(' && ')}; exec "$@"`, 'sh'],
})
const byShell =
  (shell: string, ...options: string[]) =>
  ({ local }: { local: string }) => ['-e', shell, ...options, `host:${local}/`, `${local}/to/`]

const CLIENT_CASES: ClientCase[] = [
  { name: 'connection refused', args: from },
  { name: 'connection refused, pushing', args: to },
  { name: 'connection refused at each address', args: ({ port, local }) => [`rsync://localhost:${port}/m/`, local] },
  {
    name: 'no route',
    args: ({ local }) => ['rsync://192.0.2.1/m/', local],
    options: inNetwork('ip route add unreachable 192.0.2.0/24'),
  },
  { name: 'no network', args: ({ local }) => ['192.0.2.1::m/', local], options: inNetwork('true') },
  { name: 'no such host', args: ({ local }) => ['rsync://host.invalid/m/', local], options: inNetwork('true') },
  {
    name: 'no answer to the connection within --contimeout',
    args: ({ local }) => ['--contimeout=1', 'rsync://192.0.2.1/m/', local],
    options: inNetwork('ip link add d type dummy', 'ip addr add 192.0.2.2/24 dev d', 'ip link set d up'),
  },
  { name: 'a path where the module should be', args: ({ local }) => ['host::/m/file', local] },
  { name: 'a path where the module should be, in a URL', args: ({ local }) => ['rsync://host//m/file', local] },
  { name: 'both remote', args: () => ['a::m/', 'b::m/'] },
  { name: 'sources of several hosts', args: ({ local }) => ['a::m/x', 'b::m/y', local] },
  { name: 'an unknown option', args: ({ local }) => ['--no-such-option', local, local] },
  { name: 'an option without its argument', args: () => ['--max-delete'] },
  { name: 'a number that is none', args: ({ local }) => ['--timeout=soon', local, local] },
  {
    name: 'options that exclude each other',
    args: ({ local }) => ['--inplace', '--sparse', '--append', '--whole-file', '--partial-dir=x', local, local],
  },
  { name: 'nothing to copy', only: /^rsync error/, args: () => ['-a'] },
  { name: 'a password file without a daemon', args: ({ local }) => ['--password-file=x', `${local}/`, `${local}/to/`] },
  { name: 'no greeting within --timeout', server: says(''), args: (place) => ['--timeout=1', ...from(place)] },
  { name: 'no greeting at all', server: saysAndCloses(''), args: from },
  { name: 'another protocol', server: saysAndCloses('220 mail.example ESMTP\r\n'), args: from },
  {
    name: 'an error for a greeting',
    only: /^rsync error/,
    server: saysAndCloses('@ERROR: no room at the inn\n'),
    args: to,
  },
  { name: 'gone after the greeting', server: answers(greeting, ''), args: from },
  { name: 'an unheard-of error', server: answers(greeting, '@ERROR: the disk is tired\n'), args: to },
  { name: 'an end instead of a module', server: answers(greeting, '@RSYNCD: EXIT\n'), args: from },
  { name: 'gone after the module', server: answers(greeting, '@RSYNCD: OK\n'), args: from },
  { name: 'no remote shell', exit: '14', args: byShell('/no/such/shell') },
  { name: 'a remote shell that fails', args: byShell('false') },
  { name: 'a remote shell that cannot connect', exit: '255', args: byShell('sh -c "exit 255"') },
  { name: 'no rsync at the other end', exit: '127', args: byShell('HERE/shell', '--rsync-path=/no/such/rsync') },
  {
    name: 'no rsync in the path at the other end',
    exit: '127',
    args: byShell('HERE/shell', '--rsync-path=no-such-rsync'),
  },
  { name: 'a chatty login', only: /^(?!.*\[sender)/, args: byShell('HERE/chatty') },
  { name: 'a remote shell that is killed', args: byShell('HERE/killed') },
]

describe('a client alone, word for word', { concurrency: LANES }, () => {
  for (const one of CLIENT_CASES)
    test(one.name, async () => {
      const [expected, actual] = await Promise.all([CURRENT, OURS].map((side) => alone(one, side)))
      if (one.exit !== undefined) {
        assert.equal(actual.exit, one.exit)
        for (const told of [expected, actual]) unhurried(Object.assign(told, { exit: '', log: [] }))
      }
      assert.deepEqual(actual, expected)
    })
})

async function alone(one: ClientCase, client: Side): Promise<Omit<Told, 'log'>> {
  const local = stage.dir(`c${CLIENT_CASES.indexOf(one)}-${client.name}`)
  write(`${local}/file`)
  write(`${local}/shell`, '#!/bin/sh\nshift\nexec sh -c "$*"\n', 0o755)
  write(`${local}/chatty`, '#!/bin/sh\necho Welcome to this machine\nshift\nexec sh -c "$*"\n', 0o755)
  write(`${local}/killed`, '#!/bin/sh\nkill -9 $$\n', 0o755)
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    one.server?.(socket)
  })
  const port = one.server === undefined ? await freePort() : await listening(server)
  const args = one.args({ port, local }).map((arg) => arg.replace('HERE', local))
  const { exit, stderr } = await runRsync(client, args, { cwd: local, ...one.options })
  server.close()
  const lines = plain(stderr.replaceAll(local, 'LOCAL').replaceAll(String(port), 'PORT'))
  return { exit, stderr: lines.filter((line) => one.only?.test(line) ?? true) }
}

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as { port: number }).port
}
