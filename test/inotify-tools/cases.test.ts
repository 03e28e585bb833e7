import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

// Every script in cases/ runs once with Debian's inotify-tools and once with ours, in a directory of the same path.
// What it prints and its exit code must be equal, byte for byte. INOTIFYWAIT_OURS, INOTIFYWATCH_OURS and
// FSNOTIFYWAIT_OURS put other commands in our place: with Debian's own there, this file tests its cases.

const PATIENCE_MS = 90_000 // a case waits 20 s at most for one thing; this ends one that hangs
const CASE_WENT_WRONG = 99 // lib.sh give_up()

const root = rootOf(dirname(fileURLToPath(import.meta.url)))
const cases = join(root, 'test/inotify-tools/cases')
const ours = (program: string, override: string) =>
  process.env[override] ?? `${process.execPath} ${join(root, 'packages/syncline/dist/src/main.cjs')} ${program}`

type Commands = Record<'INOTIFYWAIT' | 'INOTIFYWATCH' | 'FSNOTIFYWAIT', string>

const DEBIAN: Commands = { INOTIFYWAIT: 'inotifywait', INOTIFYWATCH: 'inotifywatch', FSNOTIFYWAIT: 'fsnotifywait' }
const OURS: Commands = {
  INOTIFYWAIT: ours('inotifywait', 'INOTIFYWAIT_OURS'),
  INOTIFYWATCH: ours('inotifywatch', 'INOTIFYWATCH_OURS'),
  FSNOTIFYWAIT: ours('fsnotifywait', 'FSNOTIFYWAIT_OURS'),
}

/** The workspace, whether this file runs from its source or from dist. */
function rootOf(dir: string): string {
  return fs.existsSync(join(dir, 'biome.json')) ? dir : rootOf(dirname(dir))
}

interface Shown {
  exit: number | null
  stdout: string
  stderr: string
}

/** Runs one case; the bytes it prints come back as latin1. */
async function play(stage: string, name: string, commands: Commands): Promise<Shown> {
  const dir = join(stage, name.replace(/\.sh$/, ''))
  const [work, scratch] = [join(dir, 'work'), join(dir, 'scratch')] as const
  for (const made of [work, scratch]) fs.mkdirSync(made, { recursive: true })
  const { PATH, HOME } = process.env
  const env = { PATH, HOME, LANG: 'C.UTF-8', TZ: 'UTC', LIB: join(cases, 'lib.sh'), SCRATCH: scratch, ...commands }
  const shell = spawn('sh', [join(cases, name)], { cwd: work, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  const shown: Shown = { exit: null, stdout: '', stderr: '' }
  shell.stdout.setEncoding('latin1').on('data', (text) => {
    shown.stdout += text
  })
  shell.stderr.setEncoding('latin1').on('data', (text) => {
    shown.stderr += text
  })
  const deadline = setTimeout(() => process.kill(-shell.pid!, 'SIGKILL'), PATIENCE_MS)
  shown.exit = await new Promise((resolve, reject) => shell.on('error', reject).on('close', resolve))
  clearTimeout(deadline)
  fs.rmSync(dir, { recursive: true, force: true })
  return shown
}

/** The two shows side by side where lines differ, with bytes that are not text escaped. */
function difference(debian: Shown, ours: Shown): string {
  const lines: string[] = []
  if (debian.exit !== ours.exit) lines.push(`exit code: ${debian.exit} with Debian's, ${ours.exit} with ours`)
  for (const stream of ['stdout', 'stderr'] as const) {
    if (debian[stream] === ours[stream]) continue
    const [theirs, own] = [debian[stream].split('\n'), ours[stream].split('\n')]
    let same = 0
    while (same < theirs.length && theirs[same] === own[same]) same++
    lines.push(`${stream} differs from line ${same + 1}:`)
    lines.push(...theirs.slice(0, same).map((line) => `  ${visible(line)}`))
    lines.push(...theirs.slice(same).map((line) => `D ${visible(line)}`))
    lines.push(...own.slice(same).map((line) => `O ${visible(line)}`))
  }
  return lines.join('\n')
}

function visible(line: string): string {
  const escaped = line.replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return escaped.length > 400 ? `${escaped.slice(0, 400)}... (${line.length} bytes)` : escaped
}

// Most of a case is waiting, so several go side by side.
describe("inotifywait and inotifywatch print what Debian's print", { concurrency: 4 }, () => {
  let stage: string

  before(() => {
    for (const program of Object.values(DEBIAN)) {
      const help = spawnSync(program, ['-h'], { encoding: 'utf8' }).stdout
      assert.equal(help?.split('\n', 1)[0], `${program} 3.22.6.0`, 'install Debian 12 inotify-tools')
    }
    stage = fs.mkdtempSync(join(tmpdir(), 'inotify-tools-'))
    fs.chmodSync(stage, 0o755) // some cases watch as nobody
  })
  after(() => fs.rmSync(stage, { recursive: true, force: true }))

  for (const name of fs.readdirSync(cases).sort()) {
    if (name === 'lib.sh') continue
    test(name.replace(/\.sh$/, ''), async () => {
      const debian = await play(stage, name, DEBIAN)
      assert.notEqual(debian.exit, CASE_WENT_WRONG, `the case fails with Debian's:\n${debian.stdout}${debian.stderr}`)
      assert.notEqual(debian.exit, null, `the case hangs with Debian's:\n${debian.stdout}${debian.stderr}`)
      const own = await play(stage, name, OURS)
      if (difference(debian, own) !== '') assert.fail(`${commentOf(name)}\n${difference(debian, own)}`)
    })
  }
})

/** What the case shows, in its own words. */
function commentOf(name: string): string {
  return fs.readFileSync(join(cases, name), 'utf8').split('\n', 1)[0]!
}
