import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  clientAddress,
  isAllowed,
  type Resolver,
  reverseName,
  SYSTEM_RESOLVER,
  UNDETERMINED,
  UNKNOWN,
} from '../src/daemon/access.js'
import { type DaemonConfig, needsReverseLookup } from '../src/daemon/config.js'
import { LOG, REPLY } from '../src/daemon/log.js'
import { configured, StockConfiguration } from './conversation.js'
import { temporaryDirectory } from './stage.js'

/** `hosts allow` and `hosts deny`. */
type Table = Record<string, [allow: string, deny?: string]>

const ADDRESSES: Table = {
  none: [''],
  exact: ['127.0.0.5'],
  net8: ['127.0.0.0/8'],
  net32: ['127.0.0.5/32'],
  net31: ['127.0.0.5/31'],
  netbits: ['127.0.0.7/29'],
  mask: ['127.0.0.0/255.255.255.252'],
  everyone: ['1.2.3.4/0'],
  everyone6: ['::/0'],
  toolong: ['127.0.0.0/33'],
  negative: ['127.0.0.0/-1'],
  nomask: ['127.0.0.5/'],
  wordmask: ['127.0.0.0/x'],
  hexmask: ['127.0.0.5/0x20'],
  dotmask: ['127.0.0.5/8.'],
  mask6: ['127.0.0.5/ffff::'],
  plusmask: ['127.0.0.4/+30'],
  octalmask: ['127.0.0.5/032'],
  nobyte: ['127.0.0.999'],
  short: ['127.5'],
  shortnet: ['127/8'],
  number: ['2130706437'],
  hex: ['0x7f000005'],
  octal: ['0177.0.0.5'],
  mapped: ['::ffff:127.0.0.5'],
  mappednet: ['::ffff:127.0.0.0/104'],
  deny: ['', '127.0.0.5'],
  denynet: ['', '127.0.0.4/30'],
  denybad: ['', '127.0.0.0/x'],
  both: ['127.0.0.5', '127.0.0.0/8'],
  neither: ['10.0.0.1', '10.0.0.2'],
  butone: ['127.0.0.5', '*'],
  field: ['192.168.37.0/24', '0.0.0.0/32'],
  field2: ['10.255.50.63,10.255.50.64'],
  commas: ['10.255.50.63,127.0.0.5'],
  tabs: ['10.0.0.1\t127.0.0.5'],
  untidy: [' ,, 127.0.0.5 , '],
  blank: [','],
  star: ['*'],
  denystar: ['', '*'],
  all: ['ALL'],
  nobody: ['UNDETERMINED'],
  nobodies: ['undeter*'],
  netgroup: ['@nosuchgroup'],
}

function configuration(table: Table, head: string): string {
  const modules = Object.entries(table).map(
    ([name, [allow, deny]]) => `[${name}]\npath = HOME/module\nhosts allow = ${allow}\nhosts deny = ${deny ?? ''}\n`,
  )
  return `log file = HOME/log\nuse chroot = no\nuid = root\ngid = root\n${head}\n${modules.join('')}`
}

/** What our parts come to: the last line of the conversation, and the log. */
async function decide(config: DaemonConfig, module: string, address: string, resolver: Resolver) {
  const log: string[] = []
  const note = (line: string) => void log.push(line)
  const name = needsReverseLookup(config) ? await reverseName(address, note, resolver) : UNDETERMINED
  log.push(LOG.connect(config.defaults.reverseLookup ? name : UNDETERMINED, address))
  const lists = config.modules.get(module)!
  const known = lists.reverseLookup ? name : UNDETERMINED
  const { allowed, host } = await isAllowed(address, known, lists, note, resolver)
  log.push((allowed ? LOG.allowed : LOG.denied)(module, host, address))
  return { reply: allowed ? '@RSYNCD: OK' : REPLY.denied(module, lists.list, host, address), log }
}

async function compare(t: TestContext, stock: StockConfiguration, text: string, from: string[], resolver: Resolver) {
  const config = configured(t, text)
  for (const module of config.modules.keys()) {
    for (const address of from) {
      const { reply, log } = await stock.converse({ module, from: address })
      assert.deepEqual(await decide(config, module, address, resolver), { reply, log }, `${module} from ${address}`)
    }
  }
  t.diagnostic(`${config.modules.size * from.length} decisions`)
}

const NO_NAMES: Resolver = {
  nameOf: () => Promise.reject(Object.assign(new Error('none'), { code: 'ENOTFOUND' })),
  addressesOf: () => Promise.reject(Object.assign(new Error('none'), { code: 'ENOTFOUND' })),
}

test('by its address a client gets in, or not, as at a stock daemon, and both say the same of it', async (t) => {
  const text = configuration(ADDRESSES, 'reverse lookup = no')
  const stock = await StockConfiguration.start(t, text)
  await compare(t, stock, text, ['127.0.0.1', '127.0.0.5'], NO_NAMES)
})

test('an IPv6 client too', { skip: !hasIPv6() && 'this machine has no ::1' }, async (t) => {
  const table: Table = {
    none: [''],
    same: ['::1'],
    spelled: ['0:0:0:0:0:0:0:1'],
    zeros: ['::0001'],
    net: ['::/64'],
    netbits: ['::0/127'],
    other: ['::2'],
    mask: ['::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
    half: ['::ff01/ffff:ffff:ffff:ffff::'],
    mask4: ['::1/255.0.0.0'],
    toolong: ['::/129'],
    scope: ['::1%lo'],
    four: ['127.0.0.1'],
    dotted: ['::0.0.0.1'],
    broken: ['1::2::3'],
    short: ['1:2:3'],
    deny: ['', '::1/128'],
    nobody: ['UNDETERMINED'],
  }
  const text = configuration(table, 'reverse lookup = no')
  const stock = await StockConfiguration.start(t, text, { address: '::1' })
  await compare(t, stock, text, ['::1'], NO_NAMES)
})

const NO_MOUNTS = spawnSync('unshare', ['-m', 'true']).status !== 0 && 'no mount namespaces here'

const HOSTS: Record<string, string[]> = {
  '127.0.0.1': ['localhost'],
  '127.0.0.5': ['Anna.Test.Example', 'anna'],
  '127.0.0.6': ['bert.test.example'],
  '127.0.0.9': ['multi.test'],
  '127.0.0.10': ['multi.test'],
}

/** What /etc/hosts says, if it is the file that the stock daemon has in the test below. */
const FROM_HOSTS: Resolver = {
  nameOf: async (address) => HOSTS[address]?.[0] ?? NO_NAMES.nameOf(address),
  addressesOf: async (name) => {
    const same = (other: string) => other.toLowerCase() === name.toLowerCase()
    const found = Object.keys(HOSTS).filter((address) => HOSTS[address].some(same))
    return found.length > 0 ? found : NO_NAMES.addressesOf(name)
  },
}

const NAMES: Table = {
  none: ['', '1.2.3.4'],
  full: ['anna.test.example'],
  alias: ['anna'],
  capitals: ['ANNA.test.example'],
  wild: ['*.test.example'],
  capital: ['*.EXAMPLE'],
  one: ['anna.tes?.example'],
  some: ['[a-b]*.test.[!f]*'],
  either: ['bert.test.example anna'],
  multi: ['multi.test'],
  gone: ['nosuch.host.invalid'],
  unknown: ['UNKNOWN'],
  nobody: ['UNDETERMINED'],
  everyone: ['*'],
  deny: ['', 'anna.test.example'],
  denywild: ['', '*.test.example'],
}

for (const [head, what] of [
  ['reverse lookup = yes', 'with look-ups'],
  ['reverse lookup = no', 'without reverse look-up'],
  ['reverse lookup = no\nforward lookup = no', 'without any look-up'],
  ['forward lookup = no', 'without forward look-up'],
]) {
  test(`by its name a client gets in, or not, as at a stock daemon: ${what}`, { skip: NO_MOUNTS }, async (t) => {
    const home = temporaryDirectory(t)
    const lines = Object.entries(HOSTS).map(([address, names]) => `${address} ${names.join(' ')}\n`)
    writeFileSync(join(home, 'hosts'), lines.join(''))
    writeFileSync(join(home, 'nsswitch'), 'hosts: files\npasswd: files\ngroup: files\n')
    // The daemon has /etc/hosts to itself: a mount namespace of its own.
    const mounts = `mount --bind ${home}/hosts /etc/hosts && mount --bind ${home}/nsswitch /etc/nsswitch.conf`
    const wrap = ['unshare', '-m', 'sh', '-c', `${mounts} && exec "$@"`, 'sh']
    const text = configuration(NAMES, head)
    const stock = await StockConfiguration.start(t, text, { home, wrap })
    await compare(t, stock, text, ['127.0.0.5', '127.0.0.6', '127.0.0.10', '127.0.0.77'], FROM_HOSTS)
  })
}

test('one module that wants names has them looked up for all, so that nobody learns which one it is', {
  skip: NO_MOUNTS,
}, async (t) => {
  const home = temporaryDirectory(t)
  const text = `${configuration({ plain: [''] }, 'reverse lookup = no')}[named]\nreverse lookup = yes\npath = HOME/module\n`
  const wrap = ['unshare', '-m', 'sh', '-c', `mount --bind ${home}/hosts /etc/hosts && exec "$@"`, 'sh']
  writeFileSync(join(home, 'hosts'), '127.0.0.5 anna\n')
  const stock = await StockConfiguration.start(t, text, { home, wrap })
  await compare(t, stock, text, ['127.0.0.5'], { nameOf: async () => 'anna', addressesOf: async () => ['127.0.0.5'] })
})

test('a module that is not listed is unknown to whom it denies', async (t) => {
  const text = configuration({ m: ['10.0.0.1'] }, 'reverse lookup = no\nlist = no')
  const stock = await StockConfiguration.start(t, text)
  await compare(t, stock, text, ['127.0.0.1'], NO_NAMES)
  assert.equal((await decide(configured(t, text), 'm', '127.0.0.1', NO_NAMES)).reply, "@ERROR: Unknown module 'm'")
})

test('who owns a reverse zone cannot take on any name', async () => {
  const log: string[] = []
  const note = (line: string) => void log.push(line)
  const claims = (addressesOf: Resolver['addressesOf']): Resolver => ({
    nameOf: async () => 'bank.example',
    addressesOf,
  })
  assert.equal(
    await reverseName(
      '192.0.2.1',
      note,
      claims(async () => ['192.0.2.9']),
    ),
    UNKNOWN,
  )
  assert.equal(await reverseName('192.0.2.1', note, claims(NO_NAMES.addressesOf)), UNKNOWN)
  assert.deepEqual(log, [
    '192.0.2.1 is not a known address for "bank.example": spoofed address?',
    'forward name lookup for bank.example failed: Name or service not known',
  ])
  assert.equal(
    await reverseName(
      '192.0.2.1',
      note,
      claims(async () => ['192.0.2.9', '192.0.2.1']),
    ),
    'bank.example',
  )
})

test('a resolver that never answers denies, and does not wait for ever', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const silent: Resolver = {
    nameOf: () => new Promise(() => undefined),
    addressesOf: () => new Promise(() => undefined),
  }
  const lists = { hostsAllow: '', hostsDeny: 'evil.example', forwardLookup: true }
  const name = reverseName('192.0.2.1', () => undefined, silent)
  const verdict = isAllowed('192.0.2.1', UNDETERMINED, lists, () => undefined, silent)
  t.mock.timers.tick(15_000)
  assert.equal(await name, UNKNOWN)
  assert.deepEqual(await verdict, { allowed: false, host: UNDETERMINED })
})

test('the system finds the name of this machine, and none for an address of nobody', async () => {
  const log: string[] = []
  assert.equal(await reverseName('127.0.0.1', (line) => void log.push(line)), await SYSTEM_RESOLVER.nameOf('127.0.0.1'))
  assert.deepEqual(log, [])
  const lists = { hostsAllow: 'localhost', hostsDeny: '', forwardLookup: true }
  const verdict = await isAllowed('127.0.0.1', UNDETERMINED, lists, () => undefined)
  assert.deepEqual(verdict, { allowed: true, host: 'localhost' })
})

test('IPv4 that came in over IPv6 is IPv4', () => {
  assert.equal(clientAddress('::ffff:192.0.2.1'), '192.0.2.1')
  assert.equal(clientAddress('::FFFF:192.0.2.1'), '192.0.2.1')
  for (const other of ['::1', '192.0.2.1', '::ffff:1:2', 'fe80::1%lo']) assert.equal(clientAddress(other), other)
})

function hasIPv6(): boolean {
  return Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'))
}
