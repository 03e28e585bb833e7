import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync, watch, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { sleep, until } from '../support/eventually.js'
import { content, makeSmall } from '../support/sample.js'
import { staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'
import { differences } from '../support/tree.js'

// What people run below a mirrored directory: each has its own way with temporary files, backups and renames.

const git = (cwd: string, ...parameters: string[]) =>
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', '-c', 'core.pager=cat', ...parameters], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })

function makeProject(dir: string): void {
  for (let d = 0; d < 20; d++) {
    mkdirSync(`${dir}/src/d${d}`, { recursive: true })
    for (let i = 0; i < 30; i++) writeFileSync(`${dir}/src/d${d}/f${i}`, content(500 + i * 40, d * 100 + i))
  }
}

const sed = (file: string, text: string) => execFileSync('sed', ['-i', `1s/.*/${text}/`, file])
const vim = (file: string, text: string, ...commands: string[]) =>
  execFileSync('vim', ['-u', 'NONE', '-N', '-es', ...commands, '-c', `normal ggO${text}`, '-c', 'wq', file])
const vimWithBackup = (file: string, text: string) => vim(file, text, '-c', 'set backupskip=')

const PROGRAMS: Record<string, (source: string, scratch: string) => void> = {
  'sed -i': (source) => {
    for (let i = 0; i < 20; i++) sed(`${source}/one`, `edit ${i}`)
  },
  vim: (source) => {
    for (let i = 0; i < 5; i++) vim(`${source}/one`, `edit ${i}`)
    for (let i = 0; i < 5; i++) vimWithBackup(`${source}/one`, `edit ${i}`)
  },
  'git: commits, branches, checkout, gc': (source) => {
    makeProject(source)
    git(source, 'init', '-q', '-b', 'main')
    git(source, 'add', '-A')
    git(source, 'commit', '-qm', 'first')
    git(source, 'checkout', '-qb', 'other')
    git(source, 'mv', 'src/d1', 'src/moved')
    for (let i = 0; i < 30; i++) writeFileSync(`${source}/src/d2/f${i}`, `changed ${i}`)
    git(source, 'rm', '-rq', 'src/d3')
    git(source, 'add', '-A')
    git(source, 'commit', '-qm', 'second')
    for (const branch of ['main', 'other', 'main']) git(source, 'checkout', '-q', branch)
    git(source, 'gc', '-q', '--prune=now')
  },
  'tar x, over what is there': (source, scratch) => {
    makeProject(scratch)
    execFileSync('tar', ['cf', `${scratch}.tar`, '-C', scratch, '.'])
    for (let i = 0; i < 2; i++) execFileSync('tar', ['xf', `${scratch}.tar`, '-C', source])
  },
  'cp -al and rm -rf, as snapshots are made': (source) => {
    makeProject(source)
    for (let i = 0; i < 3; i++) {
      execFileSync('cp', ['-al', `${source}/src`, `${source}/snapshot.${i}`])
      execFileSync('sed', ['-i', `1s/.*/edit ${i}/`, `${source}/src/d1/f1`])
    }
    execFileSync('rm', ['-rf', `${source}/snapshot.0`])
  },
  'mv of a tree, back and forth': (source) => {
    makeProject(source)
    for (let i = 0; i < 10; i++) {
      execFileSync('mv', [`${source}/src`, `${source}/elsewhere`])
      execFileSync('mv', [`${source}/elsewhere`, `${source}/src`])
    }
  },
  'npm ci, twice': (source, scratch) => {
    const npm = (cwd: string, ...parameters: string[]) =>
      execFileSync('npm', [...parameters, `--cache=${scratch}/cache`, '--no-audit', '--no-fund'], {
        cwd,
        stdio: 'pipe',
      })
    const project = `${scratch}/project`
    mkdirSync(project)
    const dependencies = { mkdirp: '1.0.4', once: '1.4.0', 'is-number': '7.0.0' }
    writeFileSync(`${project}/package.json`, JSON.stringify({ name: 'project', version: '1.0.0', dependencies }))
    npm(project, 'install', '--package-lock-only')
    mkdirSync(`${source}/project`)
    for (const name of ['package.json', 'package-lock.json'])
      copyFileSync(`${project}/${name}`, `${source}/project/${name}`)
    for (let i = 0; i < 2; i++) npm(`${source}/project`, 'ci')
  },
}

for (const [name, run] of Object.entries(PROGRAMS)) {
  test(
    `${name}: equal afterwards`,
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const daemon = await Daemon.start(stage, { modules: { m: module }, global: { 'transfer logging': true } })
      const syncline = await Syncline.start(stage, source, daemon.url('m'))
      run(source, stage.dir('scratch'))
      await syncline.equal(source, module)
    }),
  )
}

const EDITORS = { vim, 'vim, which renames what was there to a backup': vimWithBackup, 'sed -i': sed }

for (const [name, edit] of Object.entries(EDITORS)) {
  test(
    `${name}: each edit sends one file, and no temporary or backup name is ever made at the target`,
    staged(async (stage) => {
      const source = stage.dir('source')
      makeSmall(source)
      const module = stage.path('module')
      const global = { 'transfer logging': true, 'log format': '%o "%f"' }
      const daemon = await Daemon.start(stage, { modules: { m: module }, global })
      const syncline = await Syncline.start(stage, source, daemon.url('m'))
      await syncline.equal(source, module)
      const received = () => daemon.log().match(/recv ".*"/g) ?? []
      const before = received().length
      const made = new Set<string>()
      const watcher = watch(module, (_, file) => made.add(String(file)))
      stage.defer(() => watcher.close())
      const edits = 10
      for (let i = 0; i < edits; i++) {
        edit(`${source}/one`, `edit ${i}`)
        await until(`edit ${i} has arrived`, () => differences(source, module, { limit: 1 }).length === 0)
        await sleep(400)
      }
      await sleep(1500) // whatever else might still follow
      await syncline.equal(source, module)
      const sent = received().slice(before)
      assert.equal(sent.filter((line) => line === 'recv "one"').length, edits)
      // Between two system calls of an editor there is time to look at what it makes for a moment: rarely, we do.
      assert.ok(sent.length <= edits + 1, sent.join('\n'))
      // 'module' is the directory itself, and the third rsync's own.
      const strange = [...made].filter((file) => !/^(one|module|\.one\.\w{6})$/.test(file))
      assert.ok(strange.length <= 2, strange.join('\n'))
      assert.ok(!strange.some((file) => existsSync(`${module}/${file}`)), 'and what was looked at is gone again')
    }),
  )
}

/** A database: pages are changed in a mapping, flushed now and then, and unmapped when a line comes in. */
const DATABASE = `
import mmap, sys
file = open(sys.argv[1], 'r+b')
pages = mmap.mmap(file.fileno(), 0)
for i in range(20):
    pages[i * 40960 : i * 40960 + 100] = bytes([65 + i]) * 100
    if i % 4 == 3: pages.flush()
print('written', flush=True)
sys.stdin.readline()
pages[0:5] = b'CLOSE'
pages.close()
file.close()
`

test(
  'a database that is written through a mapping is equal once it is closed, at once or much later',
  staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    for (const name of ['closed', 'left open']) writeFileSync(`${source}/${name}`, content(1_000_000))
    const module = stage.path('module')
    const daemon = await Daemon.start(stage, { modules: { m: module } })
    const syncline = await Syncline.start(stage, source, daemon.url('m'))
    await syncline.equal(source, module)
    execFileSync('python3', ['-c', DATABASE, `${source}/closed`], { input: '\n' })
    const python = spawn('python3', ['-c', DATABASE, `${source}/left open`], { stdio: ['pipe', 'pipe', 'inherit'] })
    stage.defer(() => void python.kill('SIGKILL'))
    await once(python.stdout, 'data')
    await syncline.equal(source, module, { ignore: (path) => path === 'left open' })
    await sleep(3000)
    python.stdin.end('\n')
    await once(python, 'exit')
    await syncline.equal(source, module)
  }),
)
