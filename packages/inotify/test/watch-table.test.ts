import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RawPath } from '../src/index.js'
import { NONE, WatchTable, type Wd } from '../src/watch-table.js'

const ROOT_WD = 1

/** The same, of objects and by exhaustive search. */
class Model {
  readonly nodes = new Map<Wd, { parent: Wd; name: string }>([[ROOT_WD, { parent: NONE, name: '' }]])

  child(parent: Wd, name: string): Wd {
    for (const [wd, node] of this.nodes) if (node.parent === parent && node.name === name && parent !== NONE) return wd
    return NONE
  }

  pathOf(wd: Wd): string | undefined {
    if (wd === ROOT_WD) return ''
    const { parent, name } = this.nodes.get(wd) ?? { parent: NONE, name: '' }
    const above = parent === NONE ? undefined : this.pathOf(parent)
    return above === undefined ? undefined : above === '' ? name : `${above}/${name}`
  }

  contains(wd: Wd, descendant: Wd): boolean {
    for (let at = descendant; at !== NONE; at = this.nodes.get(at)!.parent) if (at === wd) return true
    return false
  }

  attach(wd: Wd, parent: Wd, name: string): Wd | undefined {
    if (!this.nodes.has(wd)) this.nodes.set(wd, { parent: NONE, name: '' })
    const before = this.child(parent, name)
    if (before === wd) return NONE
    if (this.contains(wd, parent)) return undefined
    if (before !== NONE) this.nodes.get(before)!.parent = NONE
    this.nodes.set(wd, { parent, name })
    return before
  }

  remove(wd: Wd): Wd[] {
    this.nodes.delete(wd)
    const orphans = [...this.nodes].filter(([, { parent }]) => parent === wd)
    for (const [, node] of orphans) node.parent = NONE
    return orphans.map(([orphan]) => orphan)
  }
}

/** xorshift: the same numbers in each run. */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

test('a table of watches says what a plain model says, whatever is attached, detached and removed', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const next = numbers(seed)
    const [table, model] = [new WatchTable(ROOT_WD), new Model()]
    const names = Array.from({ length: 12 }, (_, i) => String.fromCharCode(0xf0 + i).repeat(1 + (i % 4) * 60))
    let lastWd = ROOT_WD
    for (let step = 0; step < 600; step++) {
      const known = [...model.nodes.keys()]
      const any = () => known[next(known.length)]!
      const act = next(10)
      if (act < 6) {
        const wd = act < 4 ? ++lastWd : any()
        if (wd === ROOT_WD) continue
        const [parent, name] = [any(), names[next(names.length)]!]
        assert.equal(table.attach(wd, parent, name as RawPath), model.attach(wd, parent, name))
      } else {
        const wd = any()
        if (wd === ROOT_WD) continue
        if (act === 6) {
          table.detach(wd)
          model.nodes.get(wd)!.parent = NONE
        } else assert.deepEqual(table.remove(wd).sort(), model.remove(wd).sort())
      }
      const wd = any()
      assert.equal(table.pathOf(wd), model.pathOf(wd))
      assert.equal(table.size, model.nodes.size)
    }
    for (const [wd, { parent, name }] of model.nodes) {
      assert.equal(table.parentOf(wd), parent)
      assert.equal(table.pathOf(wd), model.pathOf(wd))
      if (parent !== NONE) assert.equal(table.child(parent, name as RawPath), wd)
    }
    assert.equal(table.has(lastWd + 1), false)
  }
})

test('what a scan has not seen is named', () => {
  const table = new WatchTable(ROOT_WD)
  table.attach(2, ROOT_WD, 'a' as RawPath)
  table.attach(3, 2, 'b' as RawPath)
  table.beginScan()
  table.attach(2, ROOT_WD, 'a' as RawPath)
  assert.deepEqual(table.unseen(), [3])
})

test('a hundred thousand directories that come and go leave the right hundred', () => {
  const table = new WatchTable(ROOT_WD)
  for (let wd = 2; wd <= 100_000; wd++) {
    table.attach(wd, ROOT_WD, `directory ${wd}` as RawPath)
    if (wd > 100) table.remove(wd - 99)
  }
  assert.equal(table.size, 100)
  assert.equal(table.at('directory 100000' as RawPath), 100_000)
  assert.equal(table.at('directory 99901' as RawPath), NONE)
})
