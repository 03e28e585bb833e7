import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { CURRENT, OURS, type Side } from '../interop/sides.js'
import { freePort, occupy } from '../support/daemon.js'
import { eventually, sleep, until } from '../support/eventually.js'
import { type Ending, listens, Rsyncd, type RsyncdOptions, runRsync, served as servedAt } from '../support/rsyncd.js'
import { type Stage, staged } from '../support/stage.js'
import { TcpProxy } from '../support/tcp-proxy.js'

// Our daemon as an operator knows rsync's: its configuration, processes, signals, sockets and log.

const OPEN = 'use chroot = no\nread only = no\nuid = root\ngid = root\nreverse lookup = no\n'
const NOBODY = 65534
const MEBIBYTE = 1 << 20

const write = (file: string, text: string | Buffer = 'text\n', mode = 0o644) => {
  fs.writeFileSync(file, text)
  fs.chmodSync(file, mode)
}

/** A daemon of ours with one module `m` that anyone may do anything in. */
async function served(stage: Stage, more = '', options: RsyncdOptions = {}, side: Side = OURS) {
  fs.chmodSync(stage.root, 0o755)
  const module = stage.dir(`module-${side.name}`)
  write(`${module}/present`)
  const rsyncd = await Rsyncd.start(stage, side, `${OPEN}${more}[m]\npath = ${module}\n`, options)
  return { rsyncd, module, url: `rsync://127.0.0.1:${rsyncd.port}/m` }
}

const succeeded = ({ exit, stderr }: Ending) => assert.deepEqual({ exit, stderr }, { exit: '0', stderr: '' })
const lists = async (port: number, host = '127.0.0.1') =>
  (await runRsync(CURRENT, [`rsync://${host}:${port}/`])).exit === '0'

/** A pull that takes its time, and how it ends. */
async function slowPull(stage: Stage, url: string, module: string): Promise<{ ended: Promise<Ending> }> {
  write(`${module}/large`, Buffer.alloc(2 * MEBIBYTE, 'x'))
  const into = stage.dir('slow')
  const ended = runRsync(CURRENT, ['-r', '--bwlimit=1000', `${url}/`, `${into}/`])
  await until('it runs', () => fs.readdirSync(into).some((name) => name.startsWith('.large.')))
  return { ended }
}

const childrenOf = (pid: number) =>
  fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').filter(Boolean).map(Number)
/** Empty when it has ended. */
const commandOf = (pid: number) => orEmpty(() => fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1'))
const childNamed = (rsyncd: Rsyncd, name: string) => childrenOf(rsyncd.pid).find((pid) => commandOf(pid).includes(name))

function orEmpty(read: () => string): string {
  try {
    return read()
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return ''
    throw error
  }
}

/** The real, effective, saved and filesystem uid or gid, and the groups, as the kernel has them. */
const status = (pid: number, field: 'Uid' | 'Gid' | 'Groups') =>
  new RegExp(`^${field}:\\s*(.*)$`, 'm')
    .exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]
    .trim()
    .split(/\s+/)

test(
  'who hears slowly of many deletions is waited for',
  staged(async (stage) => {
    const { rsyncd, module } = await served(stage)
    const proxy = await TcpProxy.start(stage, rsyncd.port)
    proxy.throttle(4 * MEBIBYTE)
    // Each name is told with its path: some 30 MiB in all, of which no end keeps as much.
    const directory = `${module}/${'d'.repeat(240)}`
    fs.mkdirSync(directory)
    for (let i = 0; i < 60_000; i++) fs.closeSync(fs.openSync(`${directory}/${'f'.repeat(230)}${i}`, 'w'))
    const url = `rsync://127.0.0.1:${proxy.port}/m`
    succeeded(await runRsync(CURRENT, ['-a', '--delete', `${stage.dir('empty')}/`, `${url}/`]))
    assert.deepEqual(fs.readdirSync(module), [])
  }),
)

describe('configurations from the field', () => {
  const USER = 'rsync'
  const UID = 8731

  /** A network of its own, in which there is a user `rsync`. Returns the command that goes in there. */
  function elsewhere(stage: Stage, ...addresses: string[]): string[] {
    const name = `syncline-${process.pid}-${Math.random().toString(36).slice(2, 8)}`
    execFileSync('ip', ['netns', 'add', name])
    stage.defer(() => void spawnSync('ip', ['netns', 'del', name]))
    execFileSync('ip', ['-n', name, 'link', 'set', 'lo', 'up'])
    for (const address of addresses) execFileSync('ip', ['-n', name, 'addr', 'add', `${address}/24`, 'dev', 'lo'])
    const known = (file: string, line: string) => {
      const others = fs
        .readFileSync(file, 'latin1')
        .split('\n')
        .filter((other) => !other.startsWith(`${USER}:`))
      write(stage.path(file.slice(1).replace('/', '-')), `${line}\n${others.join('\n')}`)
    }
    known('/etc/passwd', `${USER}:x:${UID}:${UID}::/:/usr/sbin/nologin`)
    known('/etc/group', `${USER}:x:${UID}:`)
    const bind = ['passwd', 'group'].map((file) => `mount --bind ${stage.path(`etc-${file}`)} /etc/${file} && `)
    return ['ip', 'netns', 'exec', name, 'sh', '-c', `${bind.join('')}exec "$@"`, 'sh']
  }

  const ONE = `uid = rsync
gid = rsync
port = 873
fake super = yes
use chroot = no
max connections = 200
timeout = 300
pid file = HOME/rsyncd.pid
lock file = HOME/rsync.lock
log file = HOME/log
ignore errors
read only = false
list = false
hosts allow = 192.168.37.0/24
hosts deny = 0.0.0.0/32
auth users = rsync_backup
secrets file = HOME/rsync.passwd
[backup]
comment = welcome
path = HOME/backup
`

  const TWO = `uid = root
gid = root
use chroot = no
max connections = 10
strict modes = yes
pid file = HOME/rsyncd.pid
lock file = HOME/rsync.lock
log file = HOME/log
[web]
path = HOME/web
comment = web
ignore errors = yes
reverse lookup = no
read only = no
list = no
auth users = rsync_backup
secrets file = HOME/rsync.passwd
hosts allow = 10.255.50.63,10.255.50.64
[data]
path = HOME/data
comment = data
ignore errors = yes
reverse lookup = no
read only = no
list = no
auth users = rsync_backup
secrets file = HOME/rsync.passwd
hosts allow = 10.255.50.63,10.255.50.64
`

  async function field(stage: Stage, side: Side, configuration: string, prefix: string[]): Promise<Rsyncd> {
    fs.chmodSync(stage.root, 0o755)
    const options = { unbound: true, elsewhere: true, prefix, port: await freePort() }
    const home = stage.dir(`rsyncd-${side.name}-${options.port}`)
    for (const name of ['backup', 'web', 'data']) fs.mkdirSync(`${home}/${name}`)
    fs.chownSync(`${home}/backup`, UID, UID)
    write(`${home}/rsync.passwd`, 'rsync_backup:oldboy\n', 0o600)
    return Rsyncd.start(stage, side, configuration, options)
  }

  for (const side of [OURS, CURRENT]) {
    test(
      `one module for the user rsync, who keeps what belongs to others: ${side.name}`,
      staged(async (stage) => {
        const inside = elsewhere(stage, '192.168.37.5', '172.16.1.1')
        const rsyncd = await field(stage, side, ONE, inside)
        const source = stage.dir('source')
        write(`${source}/script`, '#!/bin/sh\n', 0o755)
        fs.chownSync(`${source}/script`, 1234, 2345)
        fs.symlinkSync('script', `${source}/link`)
        const password = stage.path('password')
        write(password, 'oldboy\n', 0o600)
        const run = (...args: string[]) => runRsync(OURS, [`--password-file=${password}`, ...args], { prefix: inside })
        succeeded(await run('-a', `${source}/`, 'rsync_backup@192.168.37.5::backup'))
        const { uid } = fs.statSync(`${rsyncd.home}/backup/script`)
        assert.equal(uid, UID)
        const back = stage.dir('back')
        succeeded(await run('-a', 'rsync://rsync_backup@192.168.37.5/backup/', back))
        const restored = fs.statSync(`${back}/script`)
        assert.deepEqual([restored.uid, restored.gid, restored.mode & 0o777], [1234, 2345, 0o755])
        assert.equal(fs.readlinkSync(`${back}/link`), 'script')
        // `hosts deny = 0.0.0.0/32` denies one address that nobody has: everyone gets as far as the password.
        const stranger = await run('--address=172.16.1.1', 'rsync_backup@172.16.1.1::backup')
        succeeded(stranger)
        const wrong = await runRsync(OURS, ['192.168.37.5::backup'], { prefix: inside, env: { RSYNC_PASSWORD: 'x' } })
        assert.match(wrong.stderr, /^@ERROR: auth failed on module backup\nrsync error: error starting client-server/)
        assert.equal(wrong.exit, '5')
        const listed = await runRsync(OURS, ['192.168.37.5::'], { prefix: inside })
        assert.equal(listed.stdout, '')
      }),
    )

    test(
      `two modules for two hosts: ${side.name}`,
      staged(async (stage) => {
        const inside = elsewhere(stage, '10.255.50.63', '10.255.50.99')
        const rsyncd = await field(stage, side, TWO, inside)
        const source = stage.dir('source')
        write(`${source}/file`)
        const env = { RSYNC_PASSWORD: 'oldboy' }
        for (const module of ['web', 'data']) {
          const to = `rsync_backup@10.255.50.63::${module}`
          succeeded(await runRsync(OURS, ['-a', `${source}/`, to], { prefix: inside, env }))
          assert.ok(fs.existsSync(`${rsyncd.home}/${module}/file`))
        }
        const args = ['--address=10.255.50.99', 'rsync_backup@10.255.50.99::web']
        const stranger = await runRsync(OURS, args, { prefix: inside, env })
        assert.match(stranger.stderr, /^@ERROR: Unknown module 'web'\n/)
        assert.equal(stranger.exit, '5')
        await until('it is logged', () =>
          rsyncd.lines().some((line) => /^rsync denied on module web from \S+ \(10\.255\.50\.99\)$/.test(line)),
        )
      }),
    )
  }
})

describe('processes', () => {
  test(
    'who accepts is nobody, who serves is whom the module names, and in a chroot nothing else is there',
    staged(async (stage) => {
      const jail = stage.dir('jail')
      fs.chownSync(jail, 1234, 2345)
      const { rsyncd, url } = await served(
        stage,
        `[jail]\npath = ${jail}\nuse chroot = yes\nuid = 1234\ngid = 2345,2346\n`,
      )
      const source = stage.dir('source')
      write(`${source}/file`)
      succeeded(await runRsync(CURRENT, ['-r', `${source}/`, `${url.replace(/m$/, 'jail')}/`]))
      assert.equal(fs.statSync(`${jail}/file`).uid, 1234)
      const [front, worker] = ['front.js', 'worker.js'].map((name) => childNamed(rsyncd, name)!)
      assert.deepEqual(status(front, 'Uid'), Array(4).fill(`${NOBODY}`))
      assert.deepEqual(status(front, 'Gid'), Array(4).fill(`${NOBODY}`))
      assert.deepEqual(status(worker, 'Uid'), Array(4).fill('1234'))
      assert.deepEqual(status(worker, 'Gid'), Array(4).fill('2345'))
      assert.deepEqual(status(worker, 'Groups'), ['2345', '2346'])
      assert.equal(fs.readlinkSync(`/proc/${worker}/root`), jail)
      assert.deepEqual(status(rsyncd.pid, 'Uid'), Array(4).fill('0'))
    }),
  )

  test(
    'the front or a worker is killed: the daemon goes on serving',
    staged(async (stage) => {
      const { rsyncd, url } = await served(stage)
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('one')]))
      const serves = async () => (await runRsync(CURRENT, [`${url}/present`, stage.dir('two')])).exit === '0'
      process.kill(childNamed(rsyncd, 'worker.js')!, 'SIGKILL')
      await until('it serves again', serves) // who comes before it is known may be lost with it
      process.kill(childNamed(rsyncd, 'front.js')!, 'SIGKILL')
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('three')])) // it waits in the queue
    }),
  )

  test(
    'the directory of a module is replaced: the new one is served',
    staged(async (stage) => {
      const { module, url } = await served(stage)
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('one')]))
      fs.renameSync(module, `${module} of old`)
      fs.mkdirSync(module)
      write(`${module}/new`)
      succeeded(await runRsync(CURRENT, [`${url}/new`, stage.dir('two')]))
      fs.rmSync(module, { recursive: true })
      const { stderr, exit } = await runRsync(CURRENT, [`${url}/`])
      assert.match(stderr, /^@ERROR: chdir failed\n/)
      assert.equal(exit, '5')
    }),
  )

  test(
    '50 clients at once',
    staged(async (stage) => {
      const { module, url } = await served(stage)
      for (let i = 0; i < 20; i++) write(`${module}/file ${i}`, Buffer.alloc(10_000, `${i}`))
      const clients = Array.from({ length: 50 }, (_, i) =>
        runRsync(CURRENT, ['-r', `${url}/`, `${stage.dir(`c${i}`)}/`]),
      )
      for (const ending of await Promise.all(clients)) succeeded(ending)
      for (let i = 0; i < 50; i++) assert.equal(fs.readdirSync(stage.path(`c${i}`)).length, 21)
    }),
  )

  test(
    'max connections are shared with a stock daemon that has the same lock file',
    staged(async (stage) => {
      const more = `lock file = ${stage.path('lock')}\nmax connections = 1\n`
      const both = [await served(stage, more), await served(stage, more, {}, CURRENT)]
      for (const [one, other] of [both, [...both].reverse()]) {
        const release = await occupy(one.rsyncd.port, 'm')
        const refused = await runRsync(CURRENT, [`${other.url}/`])
        assert.match(refused.stderr, /^@ERROR: max connections \(1\) reached -- try again later\n/)
        assert.ok(other.rsyncd.lines().includes('max connections (1) reached'))
        release()
        await until('the place is free', async () => (await runRsync(CURRENT, [`${other.url}/`])).exit === '0')
        await until('and so is the one that this took', () => servedAt(other.rsyncd.port) === 0)
      }
    }),
  )
})

describe('life', () => {
  test(
    'SIGHUP: a new module appears, a transfer goes on, and a log that was moved away is begun anew',
    staged(async (stage) => {
      const { rsyncd, module, url } = await served(stage)
      const running = await slowPull(stage, url, module)
      fs.renameSync(`${rsyncd.home}/log`, `${rsyncd.home}/log.1`)
      rsyncd.configure(`${OPEN}[m]\npath = ${module}\n[new]\npath = ${module}\n`)
      rsyncd.signal('SIGHUP')
      const listed = async () => (await runRsync(CURRENT, [`rsync://127.0.0.1:${rsyncd.port}/`])).stdout.includes('new')
      await until('the new module is listed', listed)
      succeeded(await runRsync(CURRENT, [`rsync://127.0.0.1:${rsyncd.port}/new/present`, stage.dir('new')]))
      succeeded(await running.ended)
      await until('the new log is written', () => rsyncd.log().includes('rsync on new/present'))
      assert.ok(!fs.readFileSync(`${rsyncd.home}/log.1`, 'latin1').includes('rsync on new/'))
    }),
  )

  test(
    'the process that accepts dies: who was logging in gives the place back, who is in goes on, and the next get in',
    staged(async (stage) => {
      const secrets = stage.path('secrets')
      write(secrets, 'user:secret\n', 0o600)
      const locked = `[locked]\npath = /\nmax connections = 1\nauth users = user\nsecrets file = ${secrets}\n`
      const { rsyncd, module, url } = await served(stage, locked)
      const running = await slowPull(stage, url, module)
      const half: Socket = connect(rsyncd.port, '127.0.0.1')
      half.on('error', () => undefined)
      half.write('@RSYNCD: 32.0 sha512\nlocked\n')
      await until('it is asked for a password', () => half.read()?.toString('latin1').includes('AUTHREQD') === true)
      process.kill(childNamed(rsyncd, 'front.js')!, 'SIGKILL')
      await until(
        'another accepts',
        async () => (await lists(rsyncd.port)) && childNamed(rsyncd, 'front.js') !== undefined,
      )
      half.destroy()
      assert.equal(await logIn(rsyncd.port, 'locked', 'sha512'), '@RSYNCD: OK')
      succeeded(await running.ended)
      process.kill(childNamed(rsyncd, 'front.js')!, 'SIGKILL')
      await sleep(100)
      rsyncd.signal('SIGTERM')
      assert.equal(await rsyncd.ended(), '0')
    }),
  )

  test(
    'many modules, each with a log of its own: so many processes and files stay open, and nothing is lost',
    staged(async (stage) => {
      const MANY = 70
      const file = (i: number) => stage.path(`own-${i}`)
      const modules = Array.from({ length: MANY }, (_, i) => `[m${i}]\npath = /\nlog file = ${file(i)}\n`)
      const { rsyncd } = await served(stage, modules.join(''))
      for (const i of [...Array(MANY).keys(), 0])
        succeeded(await runRsync(CURRENT, ['-d', `rsync://127.0.0.1:${rsyncd.port}/m${i}/`]))
      const workers = () => childrenOf(rsyncd.pid).filter((pid) => commandOf(pid).includes('worker.js'))
      await until('the other processes have ended', () => workers().length <= 33)
      const open = fs.readdirSync(`/proc/${rsyncd.pid}/fd`).map((fd) => `/proc/${rsyncd.pid}/fd/${fd}`)
      const logs = open.filter((fd) => orEmpty(() => fs.readlinkSync(fd)).includes('/own-'))
      assert.ok(logs.length > 0 && logs.length <= 64, `${logs.length} logs are open`)
      const begun = (i: number) =>
        orEmpty(() => fs.readFileSync(file(i), 'latin1')).split('building file list').length - 1
      for (let i = 0; i < MANY; i++) await until(`m${i} has its log`, () => begun(i) === (i === 0 ? 2 : 1))
    }),
  )

  test(
    'SIGHUP while its certificate is away: the old configuration stays',
    staged(async (stage) => {
      const [certificate, key] = [stage.path('certificate'), stage.path('key')]
      const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost']
      execFileSync('openssl', [...request, '-keyout', key, '-out', certificate], { stdio: 'ignore' })
      const tls = `ssl certificate = ${certificate}\nssl key = ${key}\nssl port = ${await freePort()}\n`
      const { rsyncd, url } = await served(stage, tls)
      fs.rmSync(certificate)
      rsyncd.signal('SIGHUP')
      await until('it is logged', () => rsyncd.log().includes('the configuration was not reloaded'))
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('one')]))
    }),
  )

  test(
    'SIGHUP with a configuration that cannot be read: the old one stays',
    staged(async (stage) => {
      const { rsyncd, url } = await served(stage)
      write(rsyncd.file, '[broken/name]\n')
      rsyncd.signal('SIGHUP')
      await until('it is logged', () => rsyncd.log().includes('the configuration was not reloaded'))
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('one')]))
    }),
  )

  test(
    'SIGTERM: who is in may finish, nobody else gets in, and then it ends',
    staged(async (stage) => {
      const { rsyncd, module, url } = await served(stage)
      const running = await slowPull(stage, url, module)
      rsyncd.signal('SIGTERM')
      await until('it does not listen any more', () => !listens(rsyncd.port))
      assert.match((await runRsync(CURRENT, [`${url}/`])).stderr, /Connection refused \(111\)/)
      succeeded(await running.ended)
      assert.equal(await rsyncd.ended(), '0')
      assert.ok(!fs.existsSync(`${rsyncd.home}/pid`), 'the pid file is gone')
    }),
  )

  test(
    'a second SIGTERM ends it at once',
    staged(async (stage) => {
      const { rsyncd, module, url } = await served(stage)
      const running = await slowPull(stage, url, module)
      rsyncd.signal('SIGTERM')
      await until('it does not listen any more', () => !listens(rsyncd.port))
      rsyncd.signal('SIGTERM')
      assert.equal(await rsyncd.ended(), '0')
      assert.notEqual((await running.ended).exit, '0')
    }),
  )

  test(
    'the pid file: written, in the way of a second daemon, but not when it was left behind',
    staged(async (stage) => {
      const { rsyncd } = await served(stage)
      const pidFile = `${rsyncd.home}/pid`
      assert.equal(fs.readFileSync(pidFile, 'latin1'), `${rsyncd.pid}\n`)
      const second = await runRsync(OURS, [
        '--daemon',
        '--no-detach',
        `--port=${await freePort()}`,
        `--config=${rsyncd.file}`,
      ])
      assert.notEqual(second.exit, '0')
      assert.match(second.stderr, /failed to create pid file .*: File exists \(17\)/)
      assert.equal(fs.readFileSync(pidFile, 'latin1'), `${rsyncd.pid}\n`)
      await rsyncd.kill()
      assert.ok(fs.existsSync(pidFile))
      await rsyncd.start()
      assert.equal(fs.readFileSync(pidFile, 'latin1'), `${rsyncd.pid}\n`)
    }),
  )

  test(
    'without --no-detach it returns when it listens, and says when it cannot',
    staged(async (stage) => {
      const port = await freePort()
      const module = stage.dir('module')
      const file = stage.path('rsyncd.conf')
      write(file, `${OPEN}log file = ${stage.path('log')}\npid file = ${stage.path('pid')}\n[m]\npath = ${module}\n`)
      const args = ['--daemon', `--port=${port}`, '--address=127.0.0.1', `--config=${file}`]
      succeeded(await runRsync(OURS, args))
      const pid = Number(fs.readFileSync(stage.path('pid'), 'latin1'))
      stage.defer(() => void process.kill(pid, 'SIGKILL'))
      assert.ok(await lists(port))
      assert.equal(fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(' ')[5], `${pid}`, 'a session of its own')
      write(file, fs.readFileSync(file, 'latin1').replace('/pid', '/pid2'))
      const taken = await runRsync(OURS, args)
      assert.equal(taken.exit, '10')
      assert.match(taken.stderr, /bind\(\) failed: Address already in use/)
    }),
  )
})

describe('sockets', () => {
  test(
    'port and address, from the command line and from the configuration',
    staged(async (stage) => {
      const port = await freePort()
      const { rsyncd } = await served(stage, `port = ${port}\naddress = 127.0.0.2\n`, { unbound: true, port })
      assert.ok(await lists(port, '127.0.0.2'))
      assert.ok(!(await lists(port)))
      await rsyncd.kill()
      const other = await freePort()
      await rsyncd.start({
        args: ['--no-detach', `--port=${other}`, '--address=127.0.0.3'],
        unbound: true,
        elsewhere: true,
      })
      await until('it listens', () => lists(other, '127.0.0.3'))
    }),
  )

  test(
    'started by systemd with its sockets, for the first client',
    staged(async (stage) => {
      const port = await freePort()
      const module = stage.dir('module')
      write(`${module}/present`)
      const file = stage.path('rsyncd.conf')
      write(file, `${OPEN}log file = ${stage.path('log')}\n[m]\npath = ${module}\n`)
      const daemon = [...OURS.command, '--daemon', '--no-detach', `--config=${file}`]
      const activator = spawn('systemd-socket-activate', ['-l', `127.0.0.1:${port}`, '--', ...daemon], {
        stdio: 'ignore',
        detached: true,
      })
      stage.defer(() => void process.kill(-activator.pid!, 'SIGKILL'))
      stage.witness('activated', () =>
        fs.existsSync(stage.path('log')) ? fs.readFileSync(stage.path('log'), 'latin1') : '',
      )
      await until('systemd listens', () => listens(port))
      const url = `rsync://127.0.0.1:${port}/m/present`
      succeeded(await runRsync(CURRENT, [url, stage.dir('one')]))
      const front = childrenOf(activator.pid!).find((pid) => commandOf(pid).includes('front.js'))!
      process.kill(front, 'SIGKILL')
      succeeded(await runRsync(CURRENT, [url, stage.dir('two')]))
    }),
  )

  test(
    'started by inetd for one connection, which is its standard input',
    staged(async (stage) => {
      const module = stage.dir('module')
      write(`${module}/present`)
      const file = stage.path('rsyncd.conf')
      write(file, `${OPEN}log file = ${stage.path('log')}\n[m]\npath = ${module}\n`)
      const ended: Promise<unknown[]>[] = []
      const inetd = createServer({ pauseOnConnect: true }, (socket) => {
        const [program, ...args] = [...OURS.command, '--daemon', `--config=${file}`]
        const child = spawn(program, args, { stdio: [socket, socket, 'ignore'] })
        ended.push(once(child, 'exit'))
        child.once('spawn', () => socket.destroy())
      })
      await once(inetd.listen(0, '127.0.0.1'), 'listening')
      stage.defer(() => void inetd.close())
      const { port } = inetd.address() as { port: number }
      for (const into of ['one', 'two'])
        succeeded(await runRsync(CURRENT, [`rsync://127.0.0.1:${port}/m/present`, stage.dir(into)]))
      for (const [code] of await Promise.all(ended)) assert.equal(code, 0)
    }),
  )

  test(
    'TLS, to a stock client behind openssl',
    staged(async (stage) => {
      const tlsPort = await freePort()
      const [key, certificate] = [stage.path('key.pem'), stage.path('certificate.pem')]
      const request = [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '1',
      ]
      execFileSync('openssl', [...request, '-subj', '/CN=localhost', '-keyout', key, '-out', certificate], {
        stdio: 'ignore',
      })
      fs.chmodSync(key, 0o600) // the front is nobody: the monitor reads it
      const tls = `ssl certificate = ${certificate}\nssl key = ${key}\nssl port = ${tlsPort}\n`
      const { rsyncd, module, url } = await served(stage, tls)
      write(`${module}/large`, Buffer.alloc(3 * MEBIBYTE, 'y'))
      const env = {
        RSYNC_CONNECT_PROG: `openssl s_client -quiet -verify_quiet -verify_return_error -CAfile ${certificate} -connect 127.0.0.1:${tlsPort}`,
      }
      assert.equal((await runRsync(CURRENT, ['-r', 'rsync://localhost/m/', stage.dir('one')], { env })).exit, '0')
      assert.equal(fs.statSync(stage.path('one/large')).size, 3 * MEBIBYTE)
      assert.equal(
        (await runRsync(CURRENT, [stage.path('one/large'), 'rsync://localhost/m/pushed'], { env })).exit,
        '0',
      )
      assert.equal(fs.statSync(`${module}/pushed`).size, 3 * MEBIBYTE)
      succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir('plain')]))
      await until('both are logged', () => rsyncd.lines().filter((line) => line.startsWith('connect from')).length >= 3)
      assert.ok(rsyncd.lines().every((line) => !line.startsWith('connect from') || line.includes('127.0.0.1')))
    }),
  )
})

describe('what a stock daemon does and says', () => {
  const alike = (what: string, look: (stage: Stage, side: Side) => Promise<unknown>) =>
    test(
      `${what}: as a stock daemon`,
      staged(async (stage) => {
        const [expected, actual] = await Promise.all([CURRENT, OURS].map((side) => look(stage, side)))
        assert.deepEqual(actual, expected)
      }),
    )

  const quiet = async (rsyncd: Rsyncd): Promise<string[]> => {
    await until('nobody is served any more', () => servedAt(rsyncd.port) === 0, { problem: () => rsyncd.log() })
    let before = -1
    await until('the log is quiet', async () => {
      await sleep(150)
      const { length } = rsyncd.log()
      const settled = length === before
      before = length
      return settled
    })
    return rsyncd
      .lines()
      .filter((line) => !line.startsWith('rsyncd version'))
      .map((line) => line.replace(/^sent .*/, 'sent'))
  }

  alike('modules are listed, with the message of the day', async (stage, side) => {
    const motd = stage.path(`motd-${side.name}`)
    write(motd, 'Welcome!\n\nTwo lines.\n')
    const more = `motd file = ${motd}\n[commented]\ncomment = what it is for\npath = /\n[hidden]\nlist = no\npath = /\n[a-rather-long-name-of-a-module]\npath = /\n`
    const { rsyncd } = await served(stage, more, {}, side)
    const all = await runRsync(CURRENT, [`rsync://127.0.0.1:${rsyncd.port}/`])
    const withoutMotd = await runRsync(CURRENT, ['--no-motd', `rsync://127.0.0.1:${rsyncd.port}/`])
    const entered = await runRsync(CURRENT, ['--no-motd', `rsync://127.0.0.1:${rsyncd.port}/m/no-such`])
    assert.match(all.stdout, /Two lines\./)
    return [all, withoutMotd.stdout, entered.exit, await quiet(rsyncd)]
  })

  alike('the log file of a module has what happens in it, the log of the daemon the rest', async (stage, side) => {
    const own = stage.path(`own-${side.name}`)
    const { rsyncd, url } = await served(stage, '', {}, side)
    await rsyncd.kill()
    rsyncd.configure(`${fs.readFileSync(rsyncd.file, 'latin1')}log file = ${own}\ntransfer logging = yes\n`)
    fs.rmSync(`${rsyncd.home}/log`)
    await rsyncd.start()
    succeeded(await runRsync(CURRENT, [`${url}/present`, stage.dir(`into-${side.name}`)]))
    const common = await quiet(rsyncd)
    const lines = fs.readFileSync(own, 'latin1').split('\n').slice(0, -1)
    return [common, lines.map((line) => line.replace(/^\S+ \S+ \[\d+\] /, '').replace(/^sent .*/, 'sent'))]
  })

  alike('the transfer log, for a push, a pull and deletions', async (stage, side) => {
    const { rsyncd, module, url } = await served(stage, 'transfer logging = yes\n', {}, side)
    const source = stage.dir(`source-${side.name}`)
    fs.mkdirSync(`${source}/directory/deep`, { recursive: true })
    for (const name of ['a', 'directory/b', 'directory/deep/c', 'empty'])
      write(`${source}/${name}`, name === 'empty' ? '' : name)
    fs.symlinkSync('a', `${source}/link`)
    succeeded(await runRsync(CURRENT, ['-a', `${source}/`, `${url}/`]))
    write(`${source}/a`, 'changed')
    fs.rmSync(`${source}/directory`, { recursive: true })
    succeeded(await runRsync(CURRENT, ['-a', '--delete', `${source}/`, `${url}/`]))
    succeeded(await runRsync(CURRENT, ['-a', '--exclude=link', `${url}/`, `${stage.dir(`back-${side.name}`)}/`]))
    const lines = await quiet(rsyncd)
    assert.ok(lines.some((line) => /^recv .* a \d+$/.test(line)) && lines.some((line) => line.startsWith('send ')))
    assert.ok(lines.some((line) => line.startsWith('del. ')))
    return lines.map((line) => line.replaceAll(module, 'MODULE')).sort()
  })

  alike('a log format of one’s own', async (stage, side) => {
    const more = 'transfer logging = yes\nlog format = %i %o %m %P|%f|%n|%L %l %u %B\n'
    const { rsyncd, module, url } = await served(stage, more, {}, side)
    const source = stage.dir(`source-${side.name}`)
    fs.mkdirSync(`${source}/directory`)
    write(`${source}/directory/b`, 'b')
    succeeded(await runRsync(CURRENT, ['-a', `${source}/`, `${url}/sub`]))
    succeeded(await runRsync(CURRENT, ['-a', `${url}/sub/directory`, `${stage.dir(`back-${side.name}`)}/`]))
    return (await quiet(rsyncd)).map((line) => line.replaceAll(module, 'MODULE')).sort()
  })

  alike('reverse look-ups', async (stage, side) => {
    const { rsyncd, url } = await served(
      stage,
      'reverse lookup = yes\n[named]\npath = /\nhosts allow = localhost\n',
      {},
      side,
    )
    await runRsync(CURRENT, [`${url}/present`])
    const named = await runRsync(CURRENT, ['--list-only', `rsync://127.0.0.1:${rsyncd.port}/named/etc/hostname`])
    return [named.exit, await quiet(rsyncd)]
  })

  /** Names, modes and targets of all that is in a directory. */
  const inventory = (directory: string) =>
    execFileSync('find', [directory, '-mindepth', '1', '-printf', '%P %y %m %l\n'], { encoding: 'latin1' })
      .split('\n')
      .sort()

  alike('exclude, filter, incoming and outgoing chmod, munged symlinks', async (stage, side) => {
    const name = side.name
    const parameters = [
      'exclude = *.o /private',
      'filter = - *.tmp',
      'incoming chmod = Du=rwx,Dg=rx,Do=,Fu=rw,Fg=r,Fo=',
      'outgoing chmod = Fa+r',
      'munge symlinks = yes',
    ]
    const { rsyncd, module, url } = await served(stage, `${parameters.join('\n')}\n`, {}, side)
    const source = stage.dir(`source-${name}`)
    fs.mkdirSync(`${source}/private`)
    for (const file of ['a', 'b.o', 'c.tmp', 'private/d']) write(`${source}/${file}`, 'x', 0o777)
    fs.symlinkSync('/etc/passwd', `${source}/link`)
    fs.mkdirSync(`${module}/private`)
    write(`${module}/private/kept`)
    write(`${module}/kept.o`)
    const push = await runRsync(CURRENT, ['-rlpt', '--delete', `${source}/`, `${url}/`])
    const back = stage.dir(`back-${name}`)
    const pull = await runRsync(CURRENT, ['-rlpt', `${url}/`, `${back}/`])
    const place = (text: string) =>
      text
        .replaceAll(/ at [\w.]+\(\d+\) \[(\w+)=[\w.]+\]/g, '')
        .split('\n')
        .sort()
    assert.equal(fs.readlinkSync(`${module}/link`), '/rsyncd-munged//etc/passwd')
    assert.ok(fs.existsSync(`${module}/private/kept`) && fs.existsSync(`${module}/kept.o`))
    return [
      push.exit,
      place(push.stderr),
      pull.exit,
      place(pull.stderr),
      inventory(module),
      inventory(back),
      await quiet(rsyncd),
    ]
  })

  alike('every digest of a login, and one that is too weak', async (stage, side) => {
    const secrets = stage.path(`secrets-${side.name}`)
    write(secrets, 'user:secret\n', 0o600)
    const login = `auth users = user\nsecrets file = ${secrets}\n`
    const { rsyncd, module } = await served(stage, `${login}[strict]\nauth digest = sha256\npath = /\n`, {}, side)
    const told: Record<string, string> = {}
    for (const digest of ['sha512', 'sha256', 'sha1', 'md5', '']) {
      told[digest] = await logIn(rsyncd.port, 'm', digest)
      assert.equal(told[digest], '@RSYNCD: OK')
      told[`strict ${digest}`] = await logIn(rsyncd.port, 'strict', digest)
    }
    for (const digest of ['whirlpool', 'md5 sha512'])
      told[digest] = (await logIn(rsyncd.port, 'm', digest)).replace(/:.*(?=\n)/, '')
    assert.ok(fs.existsSync(module))
    return told
  })
})

/** A client by hand that knows one digest alone, or is too old to name any. Returns the daemon's verdict. */
async function logIn(port: number, module: string, digests: string): Promise<string> {
  const socket: Socket = connect(port, '127.0.0.1')
  let said = ''
  socket.setEncoding('latin1').on('data', (text: string) => {
    said += text
  })
  const closed = once(socket, 'close')
  const line = async (pattern: RegExp) =>
    eventually('the daemon answers', () => pattern.exec(said)?.[0], { problem: () => said })
  await line(/^@RSYNCD: .*\n/)
  socket.write(digests === '' ? `@RSYNCD: 31.0\n${module}\n` : `@RSYNCD: 31.0 ${digests}\n${module}\n`)
  const challenge = await line(/(?<=@RSYNCD: AUTHREQD ).*(?=\n)|@ERROR.*(?=\n)/)
  if (!challenge.startsWith('@ERROR')) {
    const digest = digests === '' ? 'md5' : digests.split(' ').includes('sha512') ? 'sha512' : digests
    const hash = createHash(digest).update(`secret${challenge}`).digest('base64').replace(/=+$/, '')
    socket.write(`user ${hash}\n`)
  }
  const verdict = await line(/@RSYNCD: OK(?=\n)|@ERROR.*(?=\n)/)
  socket.destroy()
  await closed
  return verdict
}
