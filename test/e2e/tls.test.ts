import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { describe, test } from 'node:test'
import { Daemon, writeSecret } from '../support/daemon.js'
import { sleep } from '../support/eventually.js'
import { content, makeEverything, makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'
import { Authority, type Certificate, TlsProxy } from '../support/tls-proxy.js'

// rsyncs://: a stock daemon behind TLS.

interface Setting {
  certificate?: (authority: Authority) => Certificate
  clients?: Authority
}

async function scene(stage: Stage, { certificate = (authority) => authority.issue('server'), clients }: Setting = {}) {
  const source = stage.dir('source')
  const module = stage.path('module')
  const secrets = writeSecret(stage.path('secrets'), 'user:right')
  const daemon = await Daemon.start(stage, {
    modules: { m: module, locked: { path: module, 'auth users': 'user', 'secrets file': secrets } },
  })
  const authority = new Authority(stage)
  const proxy = await TlsProxy.start(stage, daemon.port, certificate(authority), clients)
  const url = (name = 'm', host = 'localhost') => `rsyncs://${host}:${proxy.port}/${name}`
  return { source, module, daemon, authority, proxy, url, env: { RSYNC_SSL_CA_CERT: authority.file } }
}

test(
  'a mirror by TLS: equal, each change as it happens, with a password, by name and by address',
  staged(async (stage) => {
    const { source, module, url, env, proxy } = await scene(stage)
    makeEverything(source)
    const target = url('locked', 'user@127.0.0.1')
    const syncline = await Syncline.start(stage, source, target, { env: { ...env, RSYNC_PASSWORD: 'right' } })
    await syncline.equal(source, module)
    for (let i = 0; i < 40; i++) {
      fs.writeFileSync(`${source}/new ${i}`, content(3000, i))
      if (i % 3 === 0) fs.rmSync(`${source}/new ${i}`)
      await sleep(10)
    }
    fs.writeFileSync(`${source}/large`, content(20 << 20))
    fs.renameSync(`${source}/deep`, `${source}/deeper`)
    await syncline.equal(source, module)
    assert.ok(proxy.connections > 4)
    assert.equal(await syncline.stop(), 0)
    const byName = await Syncline.start(stage, source, url(), { env, stateDir: stage.dir('other state') })
    await byName.equal(source, module)
  }),
)

test(
  'the files are named in a configuration, a client certificate among them; they are read anew when they change',
  staged(async (stage) => {
    const clients = new Authority(stage, 'clients')
    const { source, module, daemon, url, authority } = await scene(stage, { clients })
    makeSmall(source)
    const own = clients.issue('own')
    const file = stage.path('config.yaml')
    const tls = { ca: authority.file, ...own }
    const write = (keys: object, to = url()) =>
      fs.writeFileSync(file, JSON.stringify({ sources: [{ path: source, targets: [{ to, ...keys }] }] }))
    write({ tls })
    const syncline = await Syncline.startFrom(stage, file, [url()])
    await syncline.equal(source, module)
    const renewed = clients.issue('renewed')
    for (const kind of ['certificate', 'key'] as const) fs.copyFileSync(renewed[kind], own[kind])
    for (let i = 0; i < 20; i++) fs.writeFileSync(`${source}/${i}`, `${i}`)
    await syncline.equal(source, module)
    await syncline.stop()

    const check = async () => (await run(['check', file])).stderr.replace(`syncline: ${file}`, '')
    write({ tls: { ca: stage.path('nosuch') } })
    assert.match(await check(), /^:1:\d+: .*a file for TLS cannot be used: .*nosuch/)
    write({ tls: { ca: own.key } })
    assert.match(await check(), /there is no CERTIFICATE in it/)
    write({ tls: { ...tls, authority: 1 } })
    assert.match(await check(), /there is no such key; known are ca, certificate, key/)
    write({ tls }, daemon.url('m'))
    assert.match(await check(), /it is for rsyncs:\/\//)
  }),
)

interface Refusal extends Setting {
  env?: (authority: Authority, stage: Stage) => Record<string, string>
  host?: string
  says: RegExp
  code?: number
}

const REFUSALS: Record<string, Refusal> = {
  'of an authority that the system does not know': {
    env: () => ({}),
    says: /signed by nobody whom this system trusts: name the file of its CA as RSYNC_SSL_CA_CERT/,
  },
  'of another authority than the one that is named': {
    env: (_, stage) => ({ RSYNC_SSL_CA_CERT: new Authority(stage, 'another').file }),
    says: /signed by nobody whom .*another\.crt trusts/,
  },
  'for another name': {
    certificate: (authority) => authority.issue('server', { names: 'DNS:elsewhere.example' }),
    says: /is not for localhost, but for DNS:elsewhere\.example/,
  },
  'for a name, where an address was given': {
    certificate: (authority) => authority.issue('server', { names: 'DNS:localhost' }),
    host: '127.0.0.1',
    says: /is not for 127\.0\.0\.1, but for DNS:localhost/,
  },
  'that has expired': {
    certificate: (authority) => authority.issue('server', { days: -1 }),
    says: /has expired: renew it there/,
  },
}

describe('a certificate is refused with one line, and nothing is sent:', () => {
  for (const [name, { env, host, says, code = 5, ...setting }] of Object.entries(REFUSALS)) {
    test(
      name,
      staged(async (stage) => {
        const { source, module, authority, url, env: usual } = await scene(stage, setting)
        makeSmall(source)
        const found = await run(
          [`--state-dir=${stage.path('state')}`, source, url('m', host)],
          env?.(authority, stage) ?? usual,
        )
        assert.match(found.stderr, says)
        assert.equal(found.stderr.trimEnd().split('\n').length, 1, found.stderr)
        assert.equal(found.code, code)
        assert.deepEqual(fs.readdirSync(module), [])
      }),
    )
  }

  test(
    'ours is missing, and wanted',
    staged(async (stage) => {
      const { source, url, env } = await scene(stage, { clients: new Authority(stage, 'clients') })
      makeSmall(source)
      const { stderr, code } = await run([`--state-dir=${stage.path('state')}`, source, url()], env)
      assert.match(stderr, /refuses us by TLS \(certificate required\): it may want a certificate; name one as/)
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr)
      assert.equal(code, 5)
    }),
  )

  test(
    'there is none: the port speaks no TLS',
    staged(async (stage) => {
      const { source, daemon, env } = await scene(stage)
      const { stderr, code } = await run(
        [`--state-dir=${stage.path('state')}`, source, `rsyncs://localhost:${daemon.port}/m`],
        env,
      )
      assert.match(stderr, /does not speak TLS: name its TLS port \(874\), or write rsync:\/\//)
      assert.equal(code, 5)
    }),
  )
})

test(
  'an empty RSYNC_SSL_CA_CERT checks nothing, as with rsync-ssl',
  staged(async (stage) => {
    const { source, module, url } = await scene(stage, {
      certificate: (authority) => authority.issue('server', { names: 'DNS:elsewhere.example', days: -1 }),
    })
    makeSmall(source)
    const syncline = await Syncline.start(stage, source, url(), { env: { RSYNC_SSL_CA_CERT: '' } })
    await syncline.equal(source, module)
  }),
)

test(
  'a certificate that is replaced by a bad one while we run: refused, retried, and taken again when it is good',
  staged(async (stage) => {
    const { source, module, authority, proxy, url, env } = await scene(stage)
    makeSmall(source)
    const syncline = await Syncline.start(stage, source, url(), { env })
    await syncline.equal(source, module)
    proxy.show(authority.issue('bad', { days: -1 }))
    fs.writeFileSync(`${source}/new`, 'new')
    await syncline.reaches('it is refused', ({ state, reason }) => state === 'refused' && /expired/.test(reason ?? ''))
    assert.ok(!fs.existsSync(`${module}/new`))
    proxy.show(authority.issue('good'))
    await syncline.equal(source, module)
  }),
)
