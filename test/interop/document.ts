import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { REPOSITORY } from '../support/daemon.js'
import type { Group } from './case.js'
import { type Block, GROUPS, PROTOCOLS, type Role } from './plan.js'
import { CURRENT, PEERS } from './sides.js'

/** How many of a block's cells ended as with stock rsync. */
export interface Result {
  block: Block
  equal: number
}

const FILE = join(REPOSITORY, 'docs/protocol.md')
const BEGIN = '<!-- Written by test/interop; INTEROP_WRITE=1 writes it anew. -->'
const END = '<!-- The end of what test/interop wrote. -->'

/** Fails when docs/protocol.md claims another matrix than the one that was just run. */
export function assertDocumented(results: readonly Result[]): void {
  const text = readFileSync(FILE, 'utf8')
  const [head, rest = ''] = text.split(BEGIN)
  const [documented, tail = ''] = rest.split(END)
  const generated = `\n${tables(results, currentVersion(documented))}\n`
  if (process.env.INTEROP_WRITE !== undefined)
    writeFileSync(FILE, `${head}${BEGIN}\n${tables(results, CURRENT.name)}\n${END}${tail}`)
  else
    assert.equal(documented, generated, 'docs/protocol.md is out of date: run the interop tests with INTEROP_WRITE=1')
}

/** The document names the version with which it was written; another machine may have another one. */
const currentVersion = (documented: string) => /the machine's own, (\S+),/.exec(documented)?.[1] ?? CURRENT.name

function tables(results: readonly Result[], current: string): string {
  const name = (version: string) => (version === CURRENT.name ? current : version)
  const older = PEERS.slice(1).map((peer) => peer.name)
  return `
Stock rsync here is the machine's own, ${current}, and Debian's ${older.join(' and ')}. A number counts the cases that were run and ended equal, pushed + pulled.

| ours | with | ${PROTOCOLS.map((protocol) => `protocol ${protocol}`).join(' | ')} |
|---|---|${PROTOCOLS.map(() => '---').join('|')}|
${rows(results)
  .map(([ours, peer, ...cells]) => `| ${[ours, name(peer), ...cells].join(' | ')} |`)
  .join('\n')}

The cases. Those in bold run in every field of the table above, the others where a field counts more: with ${current} at protocol ${PROTOCOLS[0]}, and as local copies.

${GROUPS.map(list).join('\n\n')}
`.trimStart()
}

const OURS: Record<Role, string> = { client: 'client', server: 'server', both: 'client and server' }

function rows(results: readonly Result[]): string[][] {
  const found = new Map<string, string[]>()
  for (const { block, equal } of results) {
    const role =
      block.transport === 'local'
        ? 'local copy'
        : `${OURS[block.role]}, ${block.transport === 'rsh' ? 'remote shell' : 'daemon'}`
    const row = found.get(`${role} ${block.peer.name}`) ?? [role, block.peer.name, ...PROTOCOLS.map(() => '')]
    const at = 2 + PROTOCOLS.indexOf(block.protocol as (typeof PROTOCOLS)[number])
    const count = equal === block.cells.length ? `${equal}` : `${equal} of ${block.cells.length}`
    row[at] = row[at] === '' ? count : `${row[at]} + ${count}`
    found.set(`${role} ${block.peer.name}`, row)
  }
  return [...found.values()].map((row) => row.map((text) => (text === '' ? '–' : text)))
}

function list({ name, cases }: Group): string {
  const words = cases.map((one) => {
    const [, options, note = ''] = /^(.*?)( \([^(]*\))?$/.exec(one.name) ?? []
    const text = `${options === '' ? 'no option' : `\`${options}\``}${note}`
    return one.essential ? `**${text}**` : text
  })
  return `*${name}*, ${cases.length}: ${words.join(' · ')}`
}
