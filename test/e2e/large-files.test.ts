import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { CURRENT, OURS, type Side } from '../interop/sides.js'
import { sleep, until } from '../support/eventually.js'
import { mountTmpfs } from '../support/mount.js'
import { Rsyncd, runRsync } from '../support/rsyncd.js'
import { content } from '../support/sample.js'
import { Stage } from '../support/stage.js'
import { TcpProxy } from '../support/tcp-proxy.js'

// Files that are long enough to be read ahead and written behind by other threads, with every option that changes how a
// file is put together.

const MIB = 1 << 20
const SIZE = 9 * MIB + 4321
const PAIRS: readonly [client: Side, daemon: Side][] = [
  [OURS, OURS],
  [OURS, CURRENT],
  [CURRENT, OURS],
]

/** What is there before, made of what is sent. */
const BASES: Record<string, (whole: Buffer) => Buffer | null> = {
  'nothing there': () => null,
  'a few bytes changed': (whole) => {
    const bytes = Buffer.from(whole)
    for (const at of [0, MIB, 5 * MIB + 77, SIZE - 1]) bytes[at] ^= 0xff
    return bytes
  },
  'its parts in another order': (whole) =>
    Buffer.concat([whole.subarray(6 * MIB), whole.subarray(3 * MIB, 6 * MIB), whole.subarray(0, 3 * MIB)]),
  'something inserted, and a piece missing': (whole) =>
    Buffer.concat([whole.subarray(0, MIB + 100), Buffer.from('inserted'), whole.subarray(4 * MIB)]),
  'only its beginning': (whole) => whole.subarray(0, 4 * MIB + 5),
  longer: (whole) => Buffer.concat([whole, whole.subarray(0, 3 * MIB)]),
}

const OPTIONS: readonly string[][] = [
  [],
  ['--inplace'],
  ['--sparse'],
  ['--inplace', '--sparse'],
  ['--append'],
  ['--append-verify'],
  ['--preallocate'],
  ['--partial-dir=.part'],
  ['--compress'],
  ['--backup'],
  ['--fsync', '--delay-updates'],
]

/** Random, with long runs of zeros in it. */
function sample(): Buffer {
  const whole = content(SIZE, 1)
  whole.fill(0, 2 * MIB + 10, 4 * MIB + 20_000)
  whole.fill(0, SIZE - MIB)
  return whole
}

describe('large files', () => {
  const stage = new Stage()
  const daemons = new Map<Side, Rsyncd>()
  const whole = sample()
  const source = stage.dir('source')
  const module = stage.dir('module')
  const here = stage.dir('here')

  before(async () => {
    fs.writeFileSync(`${source}/large`, whole)
    const modules = `uid = root\ngid = root\nuse chroot = no\n[m]\npath = ${module}\nread only = no\n[s]\npath = ${source}\n`
    for (const side of [OURS, CURRENT]) daemons.set(side, await Rsyncd.start(stage, side, modules))
  })
  after(() => stage.close())

  const url = (side: Side, name: string) => `rsync://127.0.0.1:${daemons.get(side)?.port}/${name}/`

  const lay = (directory: string, base: Buffer | null) => {
    fs.rmSync(directory, { recursive: true, force: true })
    fs.mkdirSync(directory)
    if (base === null) return
    fs.writeFileSync(`${directory}/large`, base)
    fs.utimesSync(`${directory}/large`, 1, 1)
  }

  for (const options of OPTIONS)
    test(`with ${options.join(' ') || 'no option'}: what arrives is what was sent, whatever was there`, async () => {
      for (const [name, make] of Object.entries(BASES)) {
        const base = make(whole)
        // --append takes what is there for the beginning of the file, and leaves alone what is longer.
        const appends = options[0] === '--append'
        const expected =
          !appends || base === null
            ? whole
            : base.length >= whole.length
              ? base
              : Buffer.concat([base, whole.subarray(base.length)])
        const keeps = options[0] === '--append-verify' && base !== null && base.length >= whole.length
        const runs: [string, Side, string, string][] = [
          ...PAIRS.flatMap(([client, daemon]): [string, Side, string, string][] => [
            [`${client.name} pushes to ${daemon.name}`, client, `${source}/`, url(daemon, 'm')],
            [`${client.name} pulls from ${daemon.name}`, client, url(daemon, 's'), `${here}/`],
          ]),
          ['ours copies', OURS, `${source}/`, `${here}/`],
        ]
        for (const [how, client, from, to] of runs) {
          const directory = to.startsWith('/') ? here : module
          lay(directory, base)
          const ending = await runRsync(client, ['-a', '--no-whole-file', ...options, from, to])
          assert.deepEqual([ending.exit, ending.stderr], ['0', ''], `${name}: ${how}`)
          const arrived = fs.readFileSync(`${directory}/large`)
          assert.ok(arrived.equals(keeps ? (base as Buffer) : expected), `${name}: ${how}: the content is another`)
          if (options[0] !== '--backup' || base === null) continue
          assert.ok(fs.readFileSync(`${directory}/large~`).equals(base), `${name}: ${how}: the backup is another`)
        }
      }
    })

  test('a pull and a push that are cut leave a part that is the beginning of the file, and go on from there', async () => {
    const daemon = daemons.get(OURS) as Rsyncd
    for (const direction of ['up', 'down'] as const) {
      const directory = direction === 'up' ? module : here
      lay(directory, null)
      const proxy = await TcpProxy.start(stage, daemon.port)
      const through = `rsync://127.0.0.1:${proxy.port}/${direction === 'up' ? 'm' : 's'}/`
      const args = direction === 'up' ? [`${source}/`, through] : [through, `${here}/`]
      proxy.cutAfter(direction, 5 * MIB)
      const cut = await runRsync(OURS, ['-a', '--partial', ...args])
      assert.notEqual(cut.exit, '0')
      await until('the part is there', () => fs.existsSync(`${directory}/large`))
      await sleep(200)
      const part = fs.readFileSync(`${directory}/large`)
      assert.ok(part.length > MIB && part.length < SIZE, `${part.length} bytes`)
      assert.ok(part.equals(whole.subarray(0, part.length)), 'the part is no beginning of the file')
      assert.deepEqual(fs.readdirSync(directory), ['large'])
      assert.equal((await runRsync(OURS, ['-a', '--partial', ...args])).exit, '0')
      assert.ok(fs.readFileSync(`${directory}/large`).equals(whole))
      await proxy.close()
    }
  })

  test('a receiver takes what comes while the sender has no time for what its generator asks', async () => {
    // While the first file travels, the generator sends more sums of the others than fits between the two ends.
    const [many, basis] = [stage.dir('many'), stage.dir('basis')]
    fs.writeFileSync(`${many}/a-long-one`, content(48 * MIB, 2))
    fs.writeFileSync(`${basis}/a-long-one`, content(MIB, 3))
    for (let i = 0; i < 500; i++) {
      const bytes = content(100_001, 10 + i)
      fs.writeFileSync(`${many}/file-${i}`, bytes)
      fs.writeFileSync(`${basis}/file-${i}`, bytes.subarray(0, -1))
    }
    // A remote shell that stays here: pipes hold little.
    const shell = stage.path('shell')
    fs.writeFileSync(shell, '#!/bin/sh\nshift\nexec "$@"\n', { mode: 0o755 })
    const program = (side: Side) => {
      const path = stage.path(`rsync-${side.name}`)
      fs.writeFileSync(path, `#!/bin/sh\nexec '${side.command.join("' '")}' "$@"\n`, { mode: 0o755 })
      return path
    }
    const arrived = stage.path('arrived')
    const runs: [string, Side, string[]][] = [
      ['ours copies', OURS, [`${many}/`, `${arrived}/`]],
      ...PAIRS.flatMap(([client, server]): [string, Side, string[]][] => {
        const remote = ['-e', shell, `--rsync-path=${program(server)}`]
        return [
          [`${client.name} pulls from ${server.name}`, client, [...remote, `x:${many}/`, `${arrived}/`]],
          [`${client.name} pushes to ${server.name}`, client, [...remote, `${many}/`, `x:${arrived}/`]],
        ]
      }),
    ]
    for (const [how, client, args] of runs) {
      fs.rmSync(arrived, { recursive: true, force: true })
      fs.cpSync(basis, arrived, { recursive: true })
      const ending = await runRsync(client, ['-rI', '--no-whole-file', '--block-size=64', '--timeout=60', ...args])
      assert.deepEqual([ending.exit, ending.stderr], ['0', ''], how)
      for (const name of fs.readdirSync(many))
        assert.ok(fs.readFileSync(`${arrived}/${name}`).equals(fs.readFileSync(`${many}/${name}`)), `${how}: ${name}`)
    }
  })

  test('a full filesystem is told, leaves nothing behind, and takes the file once there is room', async () => {
    const small = stage.path('small')
    mountTmpfs(stage, small, '6m')
    for (const options of [[], ['--compress'], ['--inplace']]) {
      const full = await runRsync(OURS, ['-a', ...options, `${source}/`, `${small}/`])
      assert.match(full.stderr, /write failed on ".*large": No space left on device \(28\)/)
      assert.notEqual(full.exit, '0')
      assert.deepEqual(fs.readdirSync(small), options[0] === '--inplace' ? ['large'] : [])
    }
    fs.rmSync(`${small}/large`)
  })

  test('a file that grows or shrinks while it is sent arrives whole in the end', async () => {
    const changing = stage.dir('changing')
    const file = `${changing}/large`
    for (let round = 0; round < 6; round++) {
      lay(here, round % 2 === 0 ? null : whole)
      fs.writeFileSync(file, whole)
      const run = runRsync(OURS, ['-a', '--no-whole-file', '--bwlimit=40m', `${changing}/`, `${here}/`])
      await sleep(120 + round * 20)
      if (round < 3) fs.truncateSync(file, MIB + round)
      else fs.appendFileSync(file, 'more')
      await run
      assert.equal((await runRsync(OURS, ['-a', '--no-whole-file', `${changing}/`, `${here}/`])).exit, '0')
      assert.ok(fs.readFileSync(`${here}/large`).equals(fs.readFileSync(file)), `round ${round}`)
    }
  })
})
