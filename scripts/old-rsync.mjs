// Fetches the older stock rsyncs that the tests talk to, from Debian's archive, into .cache/old-rsync/<version>/rsync.
// Nothing is installed: apt reads a private list of sources, and the packages are only unpacked.
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** What each version needs beside what the machine's own rsync brought: 3.2.3 is linked with an OpenSSL that is gone. */
const VERSIONS = { '3.2.7': ['rsync'], '3.2.3': ['rsync', 'libssl1.1'] }
const SUITES = ['debian bookworm', 'debian bullseye', 'debian-security bullseye-security']

const cache = join(dirname(fileURLToPath(import.meta.url)), '..', '.cache', 'old-rsync')
const apt = join(cache, 'apt')

const missing = Object.keys(VERSIONS).filter((version) => !existsSync(join(cache, version, 'rsync')))
if (missing.length > 0) {
  updateLists()
  missing.forEach(fetch)
  rmSync(apt, { recursive: true, force: true })
}
for (const version of Object.keys(VERSIONS)) console.log(prove(version))

function fetch(version) {
  const building = join(cache, `${version}.partial`)
  rmSync(building, { recursive: true, force: true })
  mkdirSync(join(building, 'root'), { recursive: true })
  for (const name of VERSIONS[version]) {
    const wanted = name === 'rsync' ? `${name}=${revision(version)}` : name
    run('apt-get', [...aptOptions(), 'download', wanted], building)
  }
  for (const file of readdirSync(building).filter((name) => name.endsWith('.deb'))) {
    run('dpkg', ['-x', file, 'root'], building)
  }
  const script = `#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
for dir in "$here"/root/usr/lib/*-linux-gnu*; do
  [ -d "$dir" ] && export LD_LIBRARY_PATH="$dir"
done
exec "$here/root/usr/bin/rsync" "$@"
`
  writeFileSync(join(building, 'rsync'), script)
  chmodSync(join(building, 'rsync'), 0o755)
  rmSync(join(cache, version), { recursive: true, force: true })
  renameSync(building, join(cache, version))
}

/** Debian's newest revision of an upstream version: `3.2.7` gives `3.2.7-1+deb12u6`, or whatever it is today. */
function revision(version) {
  const rows = run('apt-cache', [...aptOptions(), 'madison', 'rsync']).split('\n')
  const found = rows.map((row) => row.split('|')[1]?.trim() ?? '').find((name) => name.startsWith(`${version}-`))
  return found ?? fail(`Debian's archive no longer offers rsync ${version}; the tests need it as an old peer`)
}

function updateLists() {
  for (const dir of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(apt, dir), { recursive: true })
  const source = (suite) => `deb [signed-by=${KEYRING}] http://deb.debian.org/${suite} main\n`
  writeFileSync(join(apt, 'sources.list'), SUITES.map(source).join(''))
  run('apt-get', [...aptOptions(), '-qq', '-o', 'APT::Update::Error-Mode=any', 'update'])
}

function aptOptions() {
  const places = {
    'Dir::Etc::sourcelist': join(apt, 'sources.list'),
    'Dir::Etc::sourceparts': '-',
    'Dir::State::lists': join(apt, 'lists'),
    'Dir::Cache': join(apt, 'cache'),
    // Unpacking happens as root into root's own tree; apt's sandbox user could not write there.
    'APT::Sandbox::User': 'root',
  }
  return Object.entries(places).flatMap(([key, value]) => ['-o', `${key}=${value}`])
}

function prove(version) {
  const line = run(join(cache, version, 'rsync'), ['--version']).split('\n')[0]
  return line.includes(`version ${version} `) ? line : fail(`${join(cache, version, 'rsync')} says "${line}"`)
}

function run(program, parameters, cwd = cache) {
  mkdirSync(cwd, { recursive: true })
  const result = spawnSync(program, parameters, { cwd, encoding: 'utf8' })
  if (result.error) fail(`cannot run ${program}: ${result.error.message}`)
  if (result.status === 0) return result.stdout
  const why = result.stderr.trim().split('\n').at(-1) || `exit ${result.status}`
  return fail(`fetching an older rsync: ${program} ${parameters.at(-1)}: ${why}`)
}

function fail(message) {
  console.error(`old-rsync: ${message}`)
  process.exit(1)
}
