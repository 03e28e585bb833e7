// What `npm start`, `npm test`, `npm run bench` and `npm run build` run. Plain JavaScript on Node alone: on a fresh
// clone nothing else exists yet, so this installs and builds whatever is missing or stale first.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const cache = join(root, '.cache')
const [command, ...args] = process.argv.slice(2)

if (Number(process.versions.node.split('.')[0]) < 20) fail(`Node.js 20 or newer is needed; this is ${process.version}`)
if (process.platform !== 'linux') fail('Syncline runs on Linux only')

switch (command) {
  case 'build':
    install()
    build()
    break
  case 'start':
    install()
    build()
    run(
      'node',
      [join('packages/syncline/dist/src', args.length === 0 ? 'demo.js' : 'main.cjs'), ...args],
      { INIT_CWD: undefined },
      startDirectory(),
    )
    break
  case 'test':
    install()
    build()
    need({
      rsync: 'rsync',
      strace: 'strace',
      ip: 'iproute2',
      chattr: 'e2fsprogs',
      git: 'git',
      vim: 'vim',
      sshd: 'openssh-server',
      setfattr: 'attr',
      setfacl: 'acl',
      openssl: 'openssl',
      python3: 'python3',
      inotifywait: 'inotify-tools',
      bindfs: 'bindfs',
      'mkfs.btrfs': 'btrfs-progs',
      'mkfs.xfs': 'xfsprogs',
      'systemd-socket-activate': 'systemd',
    })
    run('node', ['scripts/old-rsync.mjs'])
    run('npx', ['biome', 'check', '--error-on-warnings', '.'])
    run('node', ['--test', '--test-concurrency=1', '--test-timeout=900000', ...(args.length > 0 ? args : testFiles())])
    break
  case 'bench':
    install()
    build()
    need({ rsync: 'rsync', lsyncd: 'lsyncd' })
    run('node', ['bench/dist/main.js', ...args])
    break
  case 'schema': {
    install()
    build()
    const { jsonSchema } = await import(join(root, 'packages/syncline/dist/src/config.js'))
    writeFileSync(join(root, 'docs/syncline.schema.json'), `${JSON.stringify(jsonSchema(), null, 2)}\n`)
    break
  }
  default:
    fail(`run.mjs: unknown command ${command}`)
}

/** `npm start -- SRC DEST` means paths relative to where the user stands, not to the workspace root. */
function startDirectory() {
  return args.length === 0 ? root : (process.env.INIT_CWD ?? root)
}

function install() {
  stale('install', [join(root, 'package-lock.json'), ...packageFiles()], join(root, 'node_modules'), () => {
    // Not `npm ci`: it insists on packages for other platforms, which not every registry mirror has.
    run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'])
  })
}

function build() {
  const sources = ['packages', 'test', 'bench'].flatMap((dir) => walk(join(root, dir)))
  stale(
    'build',
    [...sources, join(root, 'tsconfig.base.json'), join(root, 'scripts/bundle.mjs')],
    join(root, 'packages/rsync/dist/src/command.bundle.cjs.cache'), // what is made last
    () => {
      mkdirSync(join(root, 'packages/rsync/dist/src/delta'), { recursive: true })
      run('npx', [
        'asc',
        'packages/rsync/src/delta/search.as.ts',
        '--outFile',
        'packages/rsync/dist/src/delta/search.wasm',
        '-O3',
        '--noAssert',
        '--runtime',
        'stub',
        '--enable',
        'simd',
        '--initialMemory',
        '2',
      ])
      run('npx', ['tsc', '-b'])
      run('node', ['scripts/bundle.mjs'])
      for (const program of ['main.cjs', 'sersync2.js'])
        chmodSync(join(root, 'packages/syncline/dist/src', program), 0o755)
    },
  )
}

/** Debian packages that the tests talk to; as root they are installed, otherwise the user is told. */
function need(programs) {
  const missing = Object.entries(programs).filter(
    ([program]) => spawnSync('sh', ['-c', 'command -v -- "$1"', 'sh', program]).status !== 0,
  )
  if (missing.length === 0) return
  const names = missing.map(([, debian]) => debian)
  const apt = process.getuid() === 0 && spawnSync('sh', ['-c', 'command -v apt-get']).status === 0
  if (!apt) fail(`missing: ${names.join(' ')}. Install with: sudo apt-get install ${names.join(' ')}`)
  console.error(`installing ${names.join(' ')} with apt-get`)
  run('apt-get', ['-qq', 'update'])
  run('apt-get', ['-qq', '-y', '--no-install-recommends', 'install', ...names], { DEBIAN_FRONTEND: 'noninteractive' })
}

/** Runs `make` when the content of `inputs` differs from what the last run saw, or when its product is gone. */
function stale(name, inputs, product, make) {
  const hash = createHash('sha256')
  for (const file of inputs) hash.update(file).update(readFileSync(file))
  const digest = hash.digest('hex')
  const stamp = join(cache, name)
  if (existsSync(product) && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  make()
  mkdirSync(cache, { recursive: true })
  writeFileSync(stamp, digest)
}

function packageFiles() {
  return [
    join(root, 'package.json'),
    ...readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name, 'package.json')),
  ]
}

function walk(dir) {
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) return entry.name === 'dist' || entry.name === 'node_modules' ? [] : walk(path)
    return /\.(c?ts|tsx|json)$/.test(entry.name) ? [path] : []
  })
}

function testFiles() {
  const found = []
  const look = (dir) => {
    if (!existsSync(dir)) return
    for (const name of readdirSync(dir)) {
      const path = join(dir, name)
      if (statSync(path).isDirectory()) look(path)
      else if (name.endsWith('.test.js')) found.push(path)
    }
  }
  for (const name of readdirSync(join(root, 'packages'))) look(join(root, 'packages', name, 'dist/test'))
  for (const name of ['e2e', 'inotify-tools', 'interop']) look(join(root, 'test/dist', name))
  if (found.length === 0) fail('no test file was built')
  return found.sort()
}

function run(program, parameters, env = {}, cwd = root) {
  const path = program === 'node' ? process.execPath : program
  const resolved = parameters.map((p) =>
    program === 'node' && cwd !== root && /\.c?js$/.test(p) && existsSync(join(root, p)) ? join(root, p) : p,
  )
  const result = spawnSync(path, resolved, { cwd, stdio: 'inherit', env: { ...process.env, ...env } })
  if (result.error) fail(`${program}: ${result.error.message}`)
  if (result.status !== 0) process.exit(result.status ?? 1)
}

function fail(message) {
  console.error(`syncline: ${message}`)
  process.exit(1)
}
