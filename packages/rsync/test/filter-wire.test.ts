import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  decodeRule,
  encodeRules,
  type FilterArgument,
  FilterList,
  PER_DIRECTORY_OPTION,
  type Reading,
  RULES_MAX,
  readRuleFile,
  receiveRules,
} from '../src/filter.js'
import { ProtocolError } from '../src/index.js'
import { Cursor } from '../src/wire/cursor.js'
import { Writer } from '../src/wire/writer.js'
import { temporaryDirectory } from './stage.js'

const f = (...texts: string[]): FilterArgument[] => texts.map((text) => ({ option: 'filter', text }))

/** What --filter and its like say; `-C` stands for itself. */
const RULE_SETS: { given: FilterArgument[]; cvs?: true }[] = [
  { given: [] },
  { given: f('- a', '+ b/', 'exclude /c/d', 'include,! *.x') },
  { given: f('H a', 'S b', 'P c', 'R d', 'hide,p e', 'protect,/ f', 'risk,! g', 'show,x h') },
  { given: f('-s a', '-r b', '-sr c', '+rs d/', '-p e', '-/ f', '-x g', '-!/pxs h') },
  { given: f(': .r', ':n .n', ':e .e', ':w .w', ':- .m', ':+ .p', ':/ .s', ':s .side', ':r .receiver', ':p .perish') },
  { given: f(':s- .side', ':r+ .receiver', ':sr .both', ':C', '- z') },
  { given: f(':C other', ':sC third', 'dir-merge,en- .long', 'dir-merge_.again') },
  { given: f(': /.top', ': ../up', ': a/b/.deep', ': .deep') },
  { given: f('. merged', '.s merged', '.e merged', '.- merged', '.p merged', './ merged') },
  { given: f('- a', '!', '- b') },
  { given: f('- trailing ', '-   leading', '- a b c', '- #x', '- ;y', '- \xe4\xff') },
  { given: f('-C') },
  { given: f('-Cs', '- a') },
  { given: f('-Cr', '+ a') },
  { given: f('+C', '-C ignored') },
  { given: f('- a'), cvs: true },
  { given: f(':C', '+ a', '-C'), cvs: true },
  { given: f(...PER_DIRECTORY_OPTION) },
  {
    given: [
      { option: 'exclude', text: '- - a' },
      { option: 'exclude', text: '+ b' },
      { option: 'include', text: 'c' },
      { option: 'exclude', text: '!x' },
      { option: 'exclude-from', text: 'list' },
      { option: 'include-from', text: 'list' },
    ],
  },
  { given: f(`- ${'x'.repeat(4090)}/`) },
]

const EMPTY_ENVIRONMENT = { HOME: '/nonexistent' }

const reading = (more: Partial<Reading> = {}): Reading => ({
  read: readRuleFile,
  from0: false,
  deleteExcluded: false,
  environment: EMPTY_ENVIRONMENT,
  warn: () => undefined,
  ...more,
})

/** What stock rsync's client sends to its server before the file list. */
function recordList(home: string, options: readonly string[], push: boolean): Buffer {
  const script = join(home, 'shell')
  // The client keeps its end open until the server has gone, so that nothing else ends tee.
  const tee = 'rm -f pipe; mkfifo pipe; exec 3<&0; tee sent <&3 >pipe & "$@" <pipe; status=$?; kill $!; exit $status'
  writeFileSync(script, `#!/bin/sh\nshift\n${tee}\n`, { mode: 0o755 })
  const operands = push ? [`${home}/src/`, `host:${home}/dst/`] : [`host:${home}/src/`, `${home}/dst/`]
  const args = Buffer.from(['rsync', '-an', '-e', script, ...options, ...operands].join('\0'), 'latin1')
  // An argument that is not UTF-8 cannot be given to node:child_process.
  const { status, stderr } = spawnSync('xargs', ['-0', 'env', '-i', `PATH=${process.env.PATH}`, 'HOME=/nonexistent'], {
    cwd: home,
    input: args,
    timeout: 20_000,
  })
  assert.equal(status, 0, `${options.join(' ')}: ${stderr}`)
  return demultiplexed(readFileSync(join(home, 'sent')))
}

/** Behind the version (4 bytes) and the list of checksums (its length, and that much). */
function demultiplexed(sent: Buffer): Buffer {
  const data: Buffer[] = []
  for (let at = 5 + sent[4]; at < sent.length; ) {
    const header = sent.readUInt32LE(at)
    const payload = sent.subarray(at + 4, at + 4 + (header & 0xffffff))
    if (header >>> 24 === 7) data.push(payload)
    at += 4 + payload.length
  }
  return Buffer.concat(data)
}

const optionOf = ({ option, text }: FilterArgument) => `--${option}=${text}`

test('a client sends the rules that stock rsync sends', (t) => {
  const home = temporaryDirectory(t)
  for (const dir of ['src', 'dst']) mkdirSync(join(home, dir))
  writeFileSync(join(home, 'merged'), '- one\n+_two\n- /three/\n')
  writeFileSync(join(home, 'list'), '- one\n+ two\nthree\n')
  const before = process.cwd()
  t.after(() => process.chdir(before))
  process.chdir(home)
  let compared = 0
  for (const [index, { given, cvs }] of RULE_SETS.entries()) {
    for (const push of [true, false]) {
      for (const deletion of ['', '--delete', '--delete-excluded first', '--delete-excluded last']) {
        const sided = given.some(({ text }) => text.startsWith('.s'))
        const rules = sided ? given.filter(({ text }) => !text.startsWith('.-')) : given
        const options = rules.map(optionOf)
        if (deletion.endsWith('first')) options.unshift('--delete-excluded')
        else if (deletion !== '') options.push(deletion.split(' ')[0])
        if (cvs) options.push('-C')
        options.push(`--protocol=${30 + (compared++ % 3)}`)
        const how = reading({ deleteExcluded: deletion.endsWith('first') })
        const role = {
          sender: push,
          delete: deletion !== '',
          deleteExcluded: deletion.startsWith('--delete-excluded'),
          pruneEmptyDirs: false,
        }
        let list = FilterList.of(rules, how)
        if (cvs && push) list = list.cvs({ ...how, deleteExcluded: role.deleteExcluded })
        const texts = list.toWire(role)
        const what = `set ${index}: ${options.join(' ').slice(0, 500)}, ${push ? 'push' : 'pull'}`
        const theirs = recordList(home, options, push)
        if (texts === null) {
          assert.ok(push && deletion === '', what)
          continue
        }
        const writer = new Writer()
        encodeRules(writer, texts)
        const mine = writer.take()
        assert.deepEqual(show(theirs.subarray(0, mine.length)), show(mine), what)
      }
    }
  }
  assert.equal(compared, RULE_SETS.length * 8)
})

const show = (bytes: Buffer) => bytes.toString('latin1')

async function* entriesOf(bytes: Buffer): AsyncGenerator<string | null> {
  const cursor = new Cursor(bytes)
  for (;;) yield decodeRule(cursor)
}

const receive = (bytes: Buffer) => {
  const entries = entriesOf(bytes)
  return receiveRules(async () => (await entries.next()).value ?? null)
}

function listOf(...texts: string[]): Buffer {
  const writer = new Writer()
  encodeRules(writer, texts)
  return writer.take()
}

test('a server understands each rule as it was sent', async () => {
  const pull = { sender: false, delete: true, deleteExcluded: false, pruneEmptyDirs: false }
  for (const { given } of RULE_SETS) {
    if (given.some(({ text }) => /merged|^list$/.test(text))) continue
    const sent = FilterList.of(given, reading()).toWire(pull) ?? []
    const received = FilterList.fromWire(await receive(listOf(...sent)), reading())
    // What is for the receiver alone did not travel, so all of it is for the sender.
    assert.deepEqual(received.toWire(pull), sent)
  }
})

test('-C is answered with what HOME and CVSIGNORE are at the server', () => {
  const read = (file: string) => (file === '/home/u/.cvsignore' ? Buffer.from('x ! y z\n') : null)
  const how = reading({ read, environment: { HOME: '/home/u', CVSIGNORE: 'w' } })
  const push = { sender: true, delete: true, deleteExcluded: false, pruneEmptyDirs: false }
  const texts = FilterList.fromWire(['-C '], how).toWire(push)
  assert.deepEqual(texts, ['- y', '- z', '- w'])
})

test('what is not a list of rules ends the session', async () => {
  const length = (value: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    return bytes
  }
  for (const bytes of [length(-1), length(5120), Buffer.concat([length(4), Buffer.from('- \0a')])]) {
    await assert.rejects(receive(bytes), ProtocolError)
  }
  const refused: [string, RegExp][] = [
    ['x a', /Unknown filter rule: x a/],
    ['-', /unexpected end of filter rule: -/],
    ['-q a', /invalid modifier 'q' at position 1 in filter rule: -q a/],
    ['! a', /'!' rule has trailing characters: ! a/],
    // A stock client resolves these itself: nobody has our server read a file.
    ['. /etc/passwd', /Unknown filter rule: . \/etc\/passwd/],
    ['.e /etc/passwd', /Unknown filter rule/],
  ]
  for (const [text, problem] of refused) {
    const fails = (error: unknown) => error instanceof ProtocolError && problem.test(error.message)
    assert.throws(() => FilterList.fromWire(['- a', text], reading()), fails, text)
  }
})

test('a list has a limit in rules and in bytes', async () => {
  const endless = async () => '- a'
  await assert.rejects(receiveRules(endless), /too many rules/)
  const long = `- ${'x'.repeat(5000)}`
  let count = 0
  await assert.rejects(
    receiveRules(async () => {
      count++
      return long
    }),
    /too many rules/,
  )
  assert.ok(count < 1000)
  const warnings: string[] = []
  const list = FilterList.fromWire([long, '- a'], reading({ warn: (message) => void warnings.push(message) }))
  assert.equal(list.rules.length, 1)
  assert.match(warnings[0], /^discarding over-long filter: x+$/)
  const cleared = Array.from({ length: RULES_MAX }, () => '- a')
  assert.throws(() => FilterList.fromWire([...cleared, '- b'], reading()), /more than 65536 filter rules/)
})
