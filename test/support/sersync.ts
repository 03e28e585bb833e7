import { writeFileSync } from 'node:fs'
import { Daemon } from './daemon.js'
import { makeSmall } from './sample.js'
import { type Stage, staged } from './stage.js'

/** A small source, and a daemon with the modules `m` and `n`. */
export interface Scene {
  stage: Stage
  source: string
  module: string
  daemon: Daemon
}

export function scene(body: (scene: Scene) => Promise<void>): () => Promise<void> {
  return staged(async (stage) => {
    const source = stage.dir('source')
    makeSmall(source)
    const module = stage.dir('module')
    const daemon = await Daemon.start(stage, { modules: { m: module, n: stage.dir('other') } })
    await body({ stage, source, module, daemon })
  })
}

/** What differs from the file as it is shipped. */
export interface Sersync {
  filter?: string[]
  switches?: Record<string, boolean>
  params?: string
  failLog?: string
  encoding?: string
  remotes?: string[]
}

/** A confxml.xml as people have them: comments in between, everything named, most of it off. */
export function confxml({ source, daemon, stage }: Scene, set: Sersync = {}): string {
  const expressions = (set.filter ?? []).map((text) => `<exclude expression="${text}"></exclude>`).join('\n')
  const on = { delete: true, createFolder: true, createFile: false, closeWrite: true, moveFrom: true, moveTo: true }
  const switches = Object.entries({ ...on, attrib: false, modify: false, ...set.switches })
  const text = `<?xml version="1.0" encoding="${set.encoding ?? 'ISO-8859-1'}"?>
<head version="2.5">
    <!-- 监听地址 -->
    <host hostip="localhost" port="0"></host>
    <debug start="false"/>
    <fileSystem xfs="false"/>
    <filter start="${set.filter !== undefined}">${expressions}</filter>
    <inotify>${switches.map(([name, start]) => `<${name} start="${start}"/>`).join('<!-- -->')}</inotify>
    <sersync>
        <localpath watch="${source}/"><!-- a slash at its end -->
            ${(set.remotes ?? ['m']).map((name) => `<remote ip="127.0.0.1" name="${name}"/>`).join('\n')}
            <!--<remote ip="192.168.8.39" name="tongbu"/>-->
        </localpath>
        <rsync>
            <commonParams params="${set.params ?? '-az'}"/>
            <auth start="false" users="root" passwordfile="/etc/rsync.pas"/>
            <userDefinedPort start="true" port="${daemon.port}"/><!-- port=874 -->
            <timeout start="true" time="100"/><!-- timeout=100 -->
            <ssh start="false"/>
        </rsync>
        ${set.failLog === undefined ? '' : `<failLog path="${set.failLog}" timeToExecute="60"/>`}
        <crontab start="false" schedule="600"><!--600mins-->
            <crontabfilter start="false"><exclude expression="*.php"></exclude></crontabfilter>
        </crontab>
        <plugin start="false" name="command"/>
    </sersync>
    <plugin name="command"><param prefix="/bin/sh" suffix="" ignoreError="true"/></plugin>
</head>
`
  const file = stage.path('confxml.xml')
  writeFileSync(file, text)
  return file
}
