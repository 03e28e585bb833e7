import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { until } from '../support/eventually.js'
import { makeSmall } from '../support/sample.js'
import { type Stage, staged } from '../support/stage.js'
import { MAIN, SERSYNC2 } from '../support/syncline.js'
import { differences } from '../support/tree.js'

// The configuration files of the guides that operators follow, unchanged: their very paths and addresses. The client runs
// in a root of its own (an overlay of this machine's), both ends in network namespaces that have the addresses.

const HOST = '172.16.1.31'
const BACKUP = '172.16.1.41'

interface Machines {
  /** The client's /data, and the backup server's directory. */
  data: string
  backup: string
  client(program: string, ...parameters: string[]): string
}

function machines(stage: Stage, module: string): Machines {
  const [near, far] = [`syncline-near-${process.pid}`, `syncline-far-${process.pid}`]
  const ip = (...parameters: string[]) => execFileSync('ip', parameters, { stdio: ['ignore', 'pipe', 'inherit'] })
  for (const name of [near, far]) {
    ip('netns', 'add', name)
    stage.defer(() => void spawnSync('ip', ['netns', 'delete', name]))
    ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  ip('-n', near, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'wire', 'netns', far)
  for (const [name, address] of [
    [near, HOST],
    [far, BACKUP],
  ]) {
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'wire')
    ip('-n', name, 'link', 'set', 'wire', 'up')
  }

  const mount = (...parameters: string[]) => execFileSync('mount', parameters)
  const mounted = (path: string) => stage.defer(() => void spawnSync('umount', ['-l', path]))
  const layers = stage.dir('layers')
  mount('-t', 'tmpfs', 'layers', layers)
  mounted(layers)
  for (const name of ['upper', 'work', 'root']) mkdirSync(`${layers}/${name}`)
  const root = `${layers}/root`
  mount('-t', 'overlay', '-o', `lowerdir=/,upperdir=${layers}/upper,workdir=${layers}/work`, 'overlay', root)
  mounted(root)
  const data = stage.dir('data')
  mkdirSync(`${root}/data`, { recursive: true })
  for (const [from, to] of [
    [data, `${root}/data`],
    ['/proc', `${root}/proc`],
    ['/dev', `${root}/dev`],
  ]) {
    mount('--bind', from, to)
    mounted(to)
  }
  writeFileSync(`${root}/etc/rsync.password`, 'oldboy123\n', { mode: 0o600 })
  mkdirSync(`${root}/usr/local/sersync/logs`, { recursive: true })

  const backup = stage.dir('backup')
  const secrets = stage.path('secrets')
  writeFileSync(secrets, 'rsync_backup:oldboy123\n', { mode: 0o600 })
  const conf = stage.path('rsyncd.conf')
  writeFileSync(
    conf,
    `uid = root
gid = root
use chroot = no
munge symlinks = no
max connections = 200
timeout = 300
lock file = ${stage.path('lock')}
log file = ${stage.path('rsyncd.log')}
ignore errors
read only = false
list = false
hosts allow = 172.16.1.0/24
hosts deny = 0.0.0.0/32
auth users = rsync_backup
secrets file = ${secrets}
[${module}]
comment = backup
path = ${backup}
`,
  )
  const daemon = spawn('ip', ['netns', 'exec', far, 'rsync', '--daemon', '--no-detach', `--config=${conf}`], {
    stdio: 'ignore',
  })
  stage.defer(() => void daemon.kill('SIGKILL'))
  stage.witness('rsyncd', () => readFileSync(stage.path('rsyncd.log'), 'utf8'))
  const client = (program: string, ...parameters: string[]) =>
    execFileSync('ip', ['netns', 'exec', near, 'chroot', root, process.execPath, program, ...parameters], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  return { data, backup, client }
}

interface Status {
  instances: { pid: number; targets: { state: string; owed: number; failures: unknown[] }[] }[]
}

function guide(what: string, module: string, confxml: string, excluded: (path: string) => boolean = () => false): void {
  test(
    `a guide's file, unchanged: ${what}`,
    staged(async (stage) => {
      const { data, backup, client } = machines(stage, module)
      makeSmall(data)
      mkdirSync(`${data}/logs`)
      writeFileSync(`${data}/logs/a.gz`, 'x')
      const root = stage.path('layers/root')
      writeFileSync(`${root}/usr/local/sersync/confxml.xml`, confxml)
      client(SERSYNC2, '-d', '-r', '-o', '/usr/local/sersync/confxml.xml')
      // `status` says with its exit code whether all is well; here its words are wanted in any case.
      const status = (): Status => {
        try {
          return JSON.parse(client(MAIN, 'status', '--json')) as Status
        } catch (error) {
          return JSON.parse((error as { stdout: string }).stdout) as Status
        }
      }
      const [{ pid }] = status().instances
      stage.defer(() => {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // it has ended
        }
      })
      const equal = () =>
        until(
          'the backup is equal',
          () => {
            if (differences(data, backup, { limit: 1, ignore: excluded }).length > 0) return false
            const [{ targets }] = status().instances
            return targets.every(
              ({ owed, failures, state }) => owed === 0 && failures.length === 0 && state === 'mirroring',
            )
          },
          { problem: () => differences(data, backup, { ignore: excluded }).join('\n') },
        )
      await equal()
      writeFileSync(`${data}/new`, 'new')
      mkdirSync(`${data}/a/b/c`, { recursive: true })
      writeFileSync(`${data}/a/b/c/d`, 'deep')
      renameSync(`${data}/one`, `${data}/a/one`)
      rmSync(`${data}/sub`, { recursive: true })
      await equal()
      assert.ok(!existsSync(`${backup}/sub`))
      process.kill(pid, 'SIGTERM')
      await until('it ends', () => !existsSync(`/proc/${pid}`))
    }),
  )
}

const head = (rest: string) => `<?xml version="1.0" encoding="ISO-8859-1"?>
<head version="2.5">
    <host hostip="localhost" port="8008"></host>
    <debug start="false"/>
    <fileSystem xfs="false"/>
${rest}
    <plugin name="command">
        <param prefix="/bin/sh" suffix="" ignoreError="true"/>  <!--prefix /opt/tongbu/mmm.sh suffix-->
        <filter start="false">
            <include expression="(.*)\\.php"/>
            <include expression="(.*)\\.sh"/>
        </filter>
    </plugin>
    <plugin name="socket">
        <localpath watch="/opt/tongbu">
            <deshost ip="192.168.138.20" port="8009"/>
        </localpath>
    </plugin>
    <plugin name="refreshCDN">
        <localpath watch="/data0/htdocs/cms.xoyo.com/site/">
            <cdninfo domainname="ccms.chinacache.com" port="80" username="xxxx" passwd="xxxx"/>
            <sendurl base="http://pic.xoyo.com/cms"/>
            <regexurl regex="false" match="cms.xoyo.com/site([/a-zA-Z0-9]*).xoyo.com/images"/>
        </localpath>
    </plugin>
</head>
`

guide(
  `module data at ${BACKUP}, a time-out of 100 and a fail log`,
  'data',
  head(`    <filter start="false">
        <exclude expression="(.*)\\.svn"></exclude>
    </filter>
    <inotify>
        <delete start="true"/>
        <createFolder start="true"/>
        <createFile start="false"/>
        <closeWrite start="true"/>
        <moveFrom start="true"/>
        <moveTo start="true"/>
        <attrib start="false"/>
        <modify start="false"/>
    </inotify>
    <sersync>
        <localpath watch="/data">
            <remote ip="${BACKUP}" name="data"/>
            <!--<remote ip="192.168.8.39" name="tongbu"/>-->
            <!--<remote ip="192.168.8.40" name="tongbu"/>-->
        </localpath>
        <rsync>
            <commonParams params="-az"/>
            <auth start="true" users="rsync_backup" passwordfile="/etc/rsync.password"/>
            <userDefinedPort start="false" port="874"/><!-- port=874 -->
            <timeout start="true" time="100"/><!-- timeout=100 -->
            <ssh start="false"/>
        </rsync>
        <failLog path="/usr/local/sersync/logs/rsync_fail_log.sh" timeToExecute="60"/><!--default every 60mins execute once-->
        <crontab start="false" schedule="600"><!--600mins-->
            <crontabfilter start="false">
                <exclude expression="*.php"></exclude>
                <exclude expression="info/*"></exclude>
            </crontabfilter>
        </crontab>
        <plugin start="false" name="command"/>
    </sersync>`),
)

guide(
  'nfsbackup with -az',
  'nfsbackup',
  head(`    <sersync>
        <localpath watch="/data"> <!-- 需要同步的目录 -->
            <remote ip="${BACKUP}" name="nfsbackup"/>
        </localpath>
        <rsync>
            <commonParams params="-az"/>
            <auth start="true" users="rsync_backup" passwordfile="/etc/rsync.password"/>
        </rsync>
    </sersync>`),
)

guide(
  '-artuz with the filter block and the eight switches',
  'data',
  head(`    <filter start="true">
        <exclude expression="(.*)\\.svn"></exclude>
        <exclude expression="(.*)\\.gz"></exclude>
        <exclude expression="^info/*"></exclude>
        <exclude expression="^static/*"></exclude>
    </filter>
    <inotify>
        <delete start="true"/>
        <createFolder start="true"/>
        <createFile start="true"/>
        <closeWrite start="true"/>
        <moveFrom start="true"/>
        <moveTo start="true"/>
        <attrib start="true"/>
        <modify start="true"/>
    </inotify>
    <sersync>
        <localpath watch="/data/">
            <remote ip="${BACKUP}" name="data"/>
        </localpath>
        <rsync>
            <commonParams params="-artuz"/>
            <auth start="true" users="rsync_backup" passwordfile="/etc/rsync.password"/>
            <userDefinedPort start="false" port="874"/>
            <timeout start="true" time="100"/>
            <ssh start="false"/>
        </rsync>
        <failLog path="/tmp/rsync_fail_log.sh" timeToExecute="60"/>
        <crontab start="true" schedule="600"/>
    </sersync>`),
  (path) => path.endsWith('.gz'),
)
