import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { eventually, temporaryDirectory } from './watching.js'

// What Debian's commands cannot do, and so is not in test/inotify-tools.

const main = fileURLToPath(new URL('../src/commands/main.js', import.meta.url))

/** A command under its own name. */
function program(name: string, directory: string): string {
  const path = join(directory, name)
  fs.symlinkSync(main, path)
  return path
}

test('inotifywait -mr: a new directory that is large by the time it is seen', async (t) => {
  const COUNT = 70_000 // of which each is two events, and more than a call takes arguments
  const root = temporaryDirectory(t)
  const inotifywait = program('inotifywait', temporaryDirectory(t))
  const out = join(temporaryDirectory(t), 'out')
  const child = spawn(process.execPath, [inotifywait, '-mr', '-o', out, root], { stdio: ['ignore', 'ignore', 'pipe'] })
  t.after(() => child.kill('SIGKILL'))
  let err = ''
  child.stderr.on('data', (text) => {
    err += text
  })
  await eventually('the watches', () => err.endsWith('Watches established.\n'))
  child.kill('SIGSTOP')
  fs.mkdirSync(join(root, 'd'))
  execFileSync('sh', ['-c', `seq ${COUNT} | xargs touch`], { cwd: join(root, 'd') })
  child.kill('SIGCONT')
  fs.writeFileSync(join(root, 'last'), '')
  const text = () => fs.readFileSync(out, 'latin1')
  await eventually(
    'the last',
    () => fs.existsSync(out) && text().includes('CREATE last\n'),
    () => err,
  )
  const created = text()
    .split('\n')
    .filter((line) => line.startsWith(`${root}/d/ CREATE `))
  assert.equal(new Set(created).size, COUNT)
})
