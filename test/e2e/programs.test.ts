import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Daemon } from '../support/daemon.js'
import { content, makeSmall } from '../support/sample.js'
import { staged } from '../support/stage.js'
import { Syncline } from '../support/syncline.js'

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

const PROGRAMS: Record<string, (source: string, scratch: string) => void> = {
  'sed -i': (source) => {
    for (let i = 0; i < 20; i++) execFileSync('sed', ['-i', `1s/.*/edit ${i}/`, `${source}/one`])
  },
  vim: (source) => {
    for (let i = 0; i < 5; i++)
      execFileSync('vim', ['-u', 'NONE', '-N', '-es', '-c', `normal ggOedit ${i}`, '-c', 'wq', `${source}/one`])
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
