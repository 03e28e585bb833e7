import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { changeMode, parseChmod } from '../src/chmod.js'
import { temporaryDirectory } from './stage.js'
import { RSYNCS } from './stock.js'

const UMASK = 0o027
const ENTRIES: Record<string, number> = {
  dir: 0o042701,
  sticky: 0o041777,
  f: 0o100640,
  x: 0o100711,
  s: 0o106444,
  t: 0o101604,
}
const VALID = (
  'u+x a+s +s D2755,F644 Du=rwx,go=rx F-x a=rX 755 D755,F+X 7777 0644 64 000 F0 u= u=s g=s o=s go=s a=s =s =t u-s,o=t o+t +t =rw ' +
  '+w -w Dg+s,ug+w,Fo-w,+X ug=rwx,o= + u+ ugo+rwxst go-rwx u=g g=u u+g u-g a=u =g o+u u=u +u -o D=g g=o,o=u ug=o a+g =u +g o=u ' +
  'a-s D+x,644 DDu+x uDg+w u=rws u=rwxt ug=xs ua+r a-x,a+X D-x,+X F=X,o=u g=u,u=o g-u'
).split(' ')
const INVALID =
  '77777 8 u+x,,g+x u+x, ,u+x DFu+x D F x u u+5 5+x D5x u++x u+-x u=gx u=xg u=go g=us g+uo go=ut u=gX 7 x+u'.split(' ')

test('--chmod: changes modes as stock rsync does', (t) => {
  const home = temporaryDirectory(t)
  mkdirSync(join(home, 'src'))
  for (const [name, mode] of Object.entries(ENTRIES)) {
    const path = join(home, 'src', name)
    if (mode >> 12 === 4) mkdirSync(path)
    else writeFileSync(path, '')
    chmodSync(path, mode & 0o7777)
  }
  const ours: Record<string, unknown> = {}
  const stock: Record<string, unknown> = {}
  for (const [i, text] of VALID.entries()) {
    const script = `umask ${UMASK.toString(8)}; exec "$0" "$@"`
    const args = ['-rp', `--chmod=${text}`, `${home}/src/`, `${home}/${i}`]
    const run = spawnSync('sh', ['-c', script, RSYNCS.stock, ...args], { encoding: 'utf8', timeout: 10_000 })
    assert.equal(run.status, 0, `${text}: ${run.stderr}`)
    const rules = parseChmod(text)!
    for (const [name, mode] of Object.entries(ENTRIES)) {
      stock[`${text}: ${name}`] = (statSync(join(home, `${i}`, name)).mode & 0o7777).toString(8)
      ours[`${text}: ${name}`] = (changeMode(rules, mode, UMASK) & 0o7777).toString(8)
    }
  }
  assert.deepEqual(ours, stock)
})

test('--chmod: refuses what stock rsync refuses', () => {
  for (const text of ['', ...INVALID]) {
    const run = spawnSync(RSYNCS.stock, [`--chmod=${text}`, 'a', 'b'], { encoding: 'utf8', timeout: 10_000, cwd: '/' })
    const refused = run.stderr.startsWith(`rsync: Invalid argument passed to --chmod (${text})`)
    assert.equal(parseChmod(text) === null, refused, text)
  }
})
