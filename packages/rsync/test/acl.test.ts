import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import {
  type Acl,
  AclCodec,
  type AclOptions,
  type Acls,
  applyAcls,
  decodePosixAcl,
  defaultPermissions,
  encodePosixAcl,
  NO_ENTRY,
  readAcls,
  sameAcls,
  stripped,
} from '../src/attributes/acl.js'
import { fakeStat } from '../src/attributes/fake-super.js'
import type { Power } from '../src/attributes/xattr.js'
import type { IdNames } from '../src/flist/codec.js'
import { type FileEntry, FileError, missing, ProtocolError, type RawPath } from '../src/index.js'
import { changeMode, groupName, type Place, setXattr, statAt, userName } from '../src/kernel.js'
import { Cursor } from '../src/wire/cursor.js'
import { describeXattrs, encoded, formatOf, placeIn, push, readList, Spy, setfacl } from './attributes.js'
import { everySplit, Feed } from './feed.js'
import { temporaryDirectory } from './stage.js'
import { VERSIONS } from './stock.js'

const ROOT = '' as RawPath
const NUMERIC: AclOptions = { power: 'super', ids: null, incRecurse: false }
const FILES = ['plain', 'named', 'equal', 'masked', 'only-mask', 'many', 'fifo', 'closed']
const DIRECTORIES = ['dir', 'dir/named', 'dir/equal', 'dir/strange']

/** Every form that an ACL takes against its file's mode. */
function makeTree(root: string): void {
  for (const name of FILES.filter((name) => name !== 'fifo')) writeFileSync(join(root, name), '')
  for (const name of DIRECTORIES) mkdirSync(join(root, name))
  execFileSync('mkfifo', [join(root, 'fifo')])
  symlinkSync('plain', join(root, 'link'))
  for (const name of ['named', 'equal']) setfacl(root, name, '-m', 'u:1:rwx,u:7:r,g:2:rx')
  setfacl(root, 'masked', '-m', 'u:1:rwx,g::w,m::r')
  setfacl(root, 'only-mask', '-m', 'g::rx,m::r')
  for (let i = 0; i < 40; i++) setfacl(root, 'many', '-m', `u:${70_000 - i}:rw,g:${4294967000 + i}:x`)
  setfacl(root, 'fifo', '-m', 'g:3:rw')
  setfacl(root, 'closed', '-m', 'u:9:-,m::-')
  chmodSync(join(root, 'closed'), 0)
  for (const name of ['dir', 'dir/equal']) setfacl(root, name, '-d', '-m', 'u::rwx,g::rx,o::-,u:5:rwx,g:6:r,m::rwx')
  setfacl(root, 'dir/named', '-m', 'g:2:rwx')
  setfacl(root, 'dir/named', '-d', '-m', 'u::rw,g::r,o::r')
  setfacl(root, 'dir/strange', '-m', 'u:1:x,g::-,m::w', '-d', '-m', 'u:1:w')
  chmodSync(join(root, 'dir/strange'), 0o3770)
}

function placesOf(t: TestContext, root: string): (path: string) => Place {
  const top = placeIn(t, root)
  const inDir = placeIn(t, join(root, 'dir'))
  return (path) => (path.startsWith('dir/') ? inDir(path.slice(4)) : top(path))
}

/** Names as a sender tells them: once each. */
function namesOnce(): IdNames {
  const told = new Set<string>()
  const once = (key: string, name: string | null) => {
    const first = !told.has(key)
    told.add(key)
    return first ? (name ?? '') : ''
  }
  return {
    userName: (uid) => once(`u${uid}`, userName(uid)),
    groupName: (gid) => once(`g${gid}`, groupName(gid)),
    user: (uid) => uid,
    group: (gid) => gid,
  }
}

const modesOf = (root: string) =>
  execFileSync('find', ['.', '-printf', '%p %m\\n'], { cwd: root }).toString().split('\n').sort()

for (const version of VERSIONS) {
  for (const protocol of version === 'stock' ? [30, 31, 32] : [30, 31]) {
    for (const incRecurse of [false, true]) {
      const what = `rsync ${version}, protocol ${protocol}, ${incRecurse ? 'incremental' : 'whole'} list`
      test(`the list of a sender (${what}): read as on its disk, and ours has the same bytes`, async (t) => {
        const source = temporaryDirectory(t)
        makeTree(source)
        const recursion = incRecurse ? '--inc-recursive' : '--no-inc-recursive'
        const stock = await push(t, version, source, ['-aA', `--protocol=${protocol}`, recursion])
        assert.equal((stock.compatFlags & 1) !== 0, incRecurse)
        const options = { power: 'super', incRecurse } as const
        const spy = new Spy(new AclCodec({ ...options, ids: namesOnce() }), stock.client)
        const format = formatOf(stock, [spy], incRecurse ? namesOnce() : undefined)
        const entries = readList(new Cursor(stock.client), format)
        assert.equal(entries.length, incRecurse ? 11 : 14)

        const at = placesOf(t, source)
        const ours = new AclCodec({ ...options, ids: namesOnce() })
        for (const entry of entries) {
          const onDisk = readAcls(at(entry.path), entry.mode, 'super', ROOT)
          if (entry.path !== 'link') assert.ok(sameAcls(entry.acl as Acls, onDisk, entry.mode), entry.path)
          const copy = { ...entry, acl: onDisk }
          assert.equal(encoded((w) => ours.encode(w, copy)).toString('hex'), spy.taken.get(entry), entry.path)
        }
      })
    }
  }
}

/** Sets what was sent as a receiver does, and the mode after it. */
function receive(at: Place, entry: FileEntry, power: Power): void {
  const { mode } = statAt(at.dir, at.name)
  const have = readAcls(at, mode, power, entry.path)
  const wanted = entry.acl as Acls
  const now = applyAcls(at, wanted, have, { power, mode, newMode: entry.mode })
  if (power === 'fake') return
  assert.equal(statAt(at.dir, at.name).mode, now, `${entry.path}: the mode that setting the ACL leaves`)
  if (now !== entry.mode) changeMode(at.dir, at.name, entry.mode)
  assert.ok(sameAcls(wanted, readAcls(at, entry.mode, power, entry.path), entry.mode))
}

test('a stock receiver and ours make the same of one list, whatever was there before', async (t) => {
  const source = temporaryDirectory(t)
  makeTree(source)
  const stock = await push(t, 'stock', source, ['-aA'])
  const entries = readList(new Cursor(stock.client), formatOf(stock, [new AclCodec(NUMERIC)]))
  const expected = describeXattrs(stock.destination)
  assert.deepEqual(expected, describeXattrs(source))
  for (const before of ['nothing', 'the same', 'other']) {
    const destination = temporaryDirectory(t)
    makeTree(destination)
    if (before === 'nothing') execFileSync('setfacl', ['-R', '-b', '-k', destination])
    if (before === 'other') {
      setfacl(destination, '.', '-R', '-m', 'u:88:rwx,g:89:x,g::w,m::x')
      for (const dir of DIRECTORIES) setfacl(destination, dir, '-d', '-m', 'u:90:rwx')
      for (const name of ['dir/named', 'plain']) chmodSync(join(destination, name), 0o6777)
    }
    const at = placesOf(t, destination)
    for (const entry of entries) if (entry.path !== 'link') receive(at(entry.path), entry, 'super')
    assert.deepEqual(describeXattrs(destination), expected, before)
    assert.deepEqual(modesOf(destination), modesOf(stock.destination), before)
  }
})

test('--fake-super: a stock receiver and ours keep the same, and what was kept is sent as the original', async (t) => {
  const source = temporaryDirectory(t)
  makeTree(source)
  const stock = await push(t, 'stock', source, ['-aA'], { 'fake super': 'yes' })
  const entries = readList(new Cursor(stock.client), formatOf(stock, [new AclCodec({ ...NUMERIC, power: 'fake' })]))
  const destination = temporaryDirectory(t)
  makeTree(destination)
  execFileSync('setfacl', ['-R', '-b', '-k', destination])
  execFileSync('sh', ['-c', 'rm fifo; >fifo'], { cwd: destination })
  const at = placesOf(t, destination)
  for (const entry of entries) if (entry.path !== 'link') receive(at(entry.path), entry, 'fake')
  const kept = /%[ad]acl/
  assert.deepEqual(describeXattrs(destination, kept), describeXattrs(stock.destination, kept))

  const [from, original] = [placesOf(t, stock.destination), placesOf(t, source)]
  const [fake, real] = [new AclCodec({ ...NUMERIC, power: 'fake' }), new AclCodec(NUMERIC)]
  for (const entry of entries.filter(({ path }) => path !== 'link')) {
    const place = from(entry.path)
    const stat = fakeStat(place, statAt(place.dir, place.name), entry.path)
    assert.equal(stat.mode, entry.mode, entry.path)
    const again = { ...entry, acl: readAcls(place, stat.mode, 'fake', entry.path) }
    const first = { ...entry, acl: readAcls(original(entry.path), entry.mode, 'super', entry.path) }
    assert.deepEqual(
      encoded((w) => fake.encode(w, again)),
      encoded((w) => real.encode(w, first)),
      entry.path,
    )
  }
  // And back to nothing.
  const plain: Acls = { access: { ...acl(), user: 7, group: 7, other: 7 }, inherit: acl() }
  for (const path of DIRECTORIES) receive(at(path), { ...missing(path as RawPath), mode: 0o40777, acl: plain }, 'fake')
  assert.deepEqual(describeXattrs(destination, /%dacl/), {})
})

const acl = (more: Partial<Acl> = {}): Acl => {
  return { user: NO_ENTRY, group: NO_ENTRY, mask: NO_ENTRY, other: NO_ENTRY, names: [], ...more }
}
const entryWith = (mode: number, acls: Acls | null): FileEntry => ({ ...missing('x' as RawPath), mode, acl: acls })

test('what the mode says is left out', () => {
  const names = [{ id: 1, user: true, access: 7 }]
  const full = { user: 6, other: 4, names }
  assert.deepEqual(stripped({ ...full, group: 4, mask: NO_ENTRY, names: [] }, 0o644), acl())
  assert.deepEqual(stripped({ ...full, group: 4, mask: 4 }, 0o644), acl({ names }))
  assert.deepEqual(stripped({ ...full, group: 6, mask: 4 }, 0o644), acl({ names, group: 6 }))
  assert.deepEqual(stripped({ ...full, group: 4, mask: 4, names: [] }, 0o644), acl({ mask: 4 }))
  // The mode was changed by --chmod meanwhile: it is not the mask any more.
  assert.deepEqual(stripped({ ...full, group: 4, mask: 4 }, 0o664), acl({ names, group: 4, mask: 4 }))
})

test('lists are read alike wherever they were cut, and what has not arrived leaves no trace', () => {
  const some = { access: acl({ group: 5, names: [{ id: 4294967295, user: false, access: 7 }] }), inherit: null }
  const both = {
    access: acl(),
    inherit: acl({ user: 7, group: 5, other: 0, mask: 5, names: [{ id: 1, user: true, access: 1 }] }),
  }
  const entries = [
    entryWith(0o100644, some),
    entryWith(0o40755, both),
    entryWith(0o120777, null),
    entryWith(0o40711, both),
  ]
  entries.push(entryWith(0o100600, null), entryWith(0, null))
  const bytes = encoded((w) => {
    const codec = new AclCodec(NUMERIC)
    for (const entry of entries) codec.encode(w, entry)
  })
  let whole: unknown
  for (const pieces of everySplit(bytes)) {
    const feed = new Feed(pieces)
    const codec = new AclCodec(NUMERIC)
    const read = entries.map(({ mode }) => {
      const entry = entryWith(mode, null)
      feed.receive((c) => codec.decode(c, entry))()
      return entry.acl as Acls
    })
    assert.ok(feed.exhausted)
    whole ??= read
    assert.deepEqual(read, whole)
    assert.equal(read[1].inherit, read[3].inherit, 'equal lists are shared')
    assert.equal(read[2], null)
  }
})

test('a list of names without a mask gets one: the mode’s group bits, or what its entries have together', () => {
  const names = [
    { id: 1, user: true, access: 4 },
    { id: 2, user: false, access: 1 },
  ]
  const bytes = encoded((w) =>
    new AclCodec(NUMERIC).encode(
      w,
      entryWith(0o40730, { access: acl({ names, mask: 3 }), inherit: acl({ user: 7, group: 2, other: 0, names }) }),
    ),
  )
  const entry = entryWith(0o40730, null)
  new AclCodec(NUMERIC).decode(new Cursor(bytes), entry)()
  const { access, inherit } = entry.acl as Acls
  assert.deepEqual([access.mask, inherit?.mask], [3, 7])
})

test('names are mapped to our ids: at once with incremental recursion, otherwise when all lists have come', () => {
  const theirs: IdNames = { ...namesOnce(), userName: (id) => `user${id}`, groupName: () => '' }
  const heard: string[] = []
  const hear = (id: number, name: string) => {
    heard.push(name)
    return id
  }
  const ours: IdNames = {
    ...namesOnce(),
    user: (id, name) => hear(id, name) + 1000,
    group: (id, name) => hear(id, name) + 2000,
  }
  const names = () => [
    { id: 1, user: true, access: 4 },
    { id: 1, user: false, access: 4 },
  ]
  for (const incRecurse of [true, false]) {
    heard.length = 0
    const entry = entryWith(0o100644, { access: acl({ names: names(), mask: 4 }), inherit: null })
    const bytes = encoded((w) => new AclCodec({ power: 'super', ids: theirs, incRecurse }).encode(w, entry))
    const codec = new AclCodec({ power: 'super', ids: ours, incRecurse })
    const read = entryWith(0o100644, null)
    codec.decode(new Cursor(bytes), read)()
    const ids = () => (read.acl as Acls).access.names.map(({ id }) => id)
    if (!incRecurse) {
      assert.deepEqual(ids(), [1, 1])
      codec.mapIds()
    }
    assert.deepEqual(ids(), [1001, 2001])
    assert.deepEqual(heard, incRecurse ? ['user1', ''] : ['', ''])
  }
})

test('lists that no sender sends end the session before they cost anything', () => {
  const NAMES = 16
  const numbers = (flags: number, ...values: number[]) =>
    encoded((w) => {
      w.varint(0)
      w.u8(flags)
      for (const value of values) w.varint(value)
    })
  const bad: [string, Buffer, RegExp][] = [
    ['index', encoded((w) => w.varint(1)), /ACL index: 1/],
    ['negative index', encoded((w) => w.varint(-1)), /ACL index: -1/],
    ['count', numbers(NAMES, 8193), /number of names in an ACL: 8193/],
    ['negative count', numbers(NAMES, -1), /number of names in an ACL: -1/],
    ['permissions', numbers(1, 8), /ACL permissions: 8/],
    ['negative permissions', numbers(1, -1), /ACL permissions: -1/],
    ['permissions of a name', numbers(NAMES, 1, 5, 8 << 2), /ACL permissions: 8/],
  ]
  for (const [what, bytes, problem] of bad) {
    assert.throws(
      () => new AclCodec(NUMERIC).decode(new Cursor(bytes), entryWith(0o100644, null)),
      (error) => error instanceof ProtocolError && problem.test(error.message),
      what,
    )
  }
  const fake = new AclCodec({ ...NUMERIC, power: 'fake' })
  fake.decode(new Cursor(numbers(NAMES, 1, 5, 8 << 2)), entryWith(0o100644, null))() // other systems' permissions
  const codec = new AclCodec(NUMERIC)
  const many = numbers(NAMES, 8192, ...Array(8192 * 2).fill(4))
  const full = () => {
    for (let i = 0; i <= 128; i++) codec.decode(new Cursor(many), entryWith(0o100644, null))()
  }
  assert.throws(full, /number of names in all ACLs/)
})

test('the kernel’s form: its order whatever ours is, and nothing but it is understood', () => {
  const names = [
    { id: 3, user: false, access: 1 },
    { id: 70_000, user: true, access: 2 },
    { id: 2, user: true, access: 4 },
  ]
  const bytes = encodePosixAcl({ user: 7, group: 5, mask: 6, other: 0, names })
  const tags = Array.from({ length: 7 }, (_, i) => [bytes.readUInt16LE(4 + 8 * i), bytes.readUInt32LE(8 + 8 * i)])
  const none = 0xffffffff
  assert.deepEqual(tags, [
    [1, none],
    [2, 2],
    [2, 70_000],
    [4, none],
    [8, 3],
    [16, none],
    [32, none],
  ])
  assert.deepEqual(decodePosixAcl(bytes)?.names, [names[2], names[1], names[0]])
  const strange = Buffer.from(bytes)
  strange.writeUInt16LE(64, 4)
  for (const bad of [Buffer.alloc(0), bytes.subarray(0, 10), Buffer.alloc(12), strange])
    assert.equal(decodePosixAcl(bad), null)
})

test('an ACL of --fake-super that is none fails for its file alone', (t) => {
  const root = temporaryDirectory(t)
  writeFileSync(join(root, 'file'), '')
  const at = placeIn(t, root)('file')
  for (const length of [0, 15, 20]) {
    setXattr(at, 'user.rsync.%aacl', Buffer.alloc(length))
    assert.throws(() => readAcls(at, 0o100644, 'fake', 'file' as RawPath), FileError)
  }
})

test('permissions of new files come from a default ACL, or the umask', (t) => {
  const root = temporaryDirectory(t)
  const at = placeIn(t, root)('')
  assert.equal(defaultPermissions(at, 0o027), 0o750)
  setfacl(root, '.', '-d', '-m', 'u::rwx,g::rx,o::r')
  assert.equal(defaultPermissions(at, 0o027), 0o754)
  setfacl(root, '.', '-d', '-m', 'u:1:rwx,m::w')
  assert.equal(defaultPermissions(at, 0o027), 0o724)
})

test('until a sticky bit is set, or set-id bits are gone, others get nothing', (t) => {
  const root = temporaryDirectory(t)
  mkdirSync(join(root, 'dir'), 0o777)
  writeFileSync(join(root, 'file'), '')
  chmodSync(join(root, 'file'), 0o6777)
  const at = placeIn(t, root)
  const wanted = { access: acl({ names: [{ id: 1, user: true, access: 7 }], mask: 7 }), inherit: null }
  for (const [name, newMode] of [
    ['dir', 0o41777],
    ['file', 0o100777],
  ] as const) {
    const { mode } = statAt(at(name).dir, name)
    const now = applyAcls(at(name), wanted, readAcls(at(name), mode, 'super', ROOT), { power: 'super', mode, newMode })
    assert.equal(now & 0o777, 0o700)
    assert.equal(statAt(at(name).dir, name).mode, now, name)
  }
})
