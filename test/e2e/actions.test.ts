import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { test } from 'node:test'
import { sleep, until } from '../support/eventually.js'
import { confxml, type Scene, scene } from '../support/sersync.js'
import type { Stage } from '../support/stage.js'
import { run, Syncline } from '../support/syncline.js'

// sersync's plugins, and the same as actions of our own configuration.

/** A program that writes down its arguments and its standard input, each call one line of JSON. */
function recorder(stage: Stage): { program: string; calls: () => { args: string[]; stdin: string }[] } {
  const [program, log] = [stage.path('record'), stage.path('recorded')]
  const text = `#!/usr/bin/python3
import sys, json, os
line = json.dumps({"args": [os.fsencode(a).decode("latin1") for a in sys.argv[1:]], "stdin": sys.stdin.read()}) + "\\n"
fd = os.open(${JSON.stringify(log)}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(fd, line.encode())
`
  fs.writeFileSync(program, text, { mode: 0o755 })
  // What is behind the last line break is being written.
  const read = () => (fs.existsSync(log) ? fs.readFileSync(log, 'utf8').split('\n').slice(0, -1) : [])
  return { program, calls: () => read().map((line) => JSON.parse(line)) }
}

/** Everything that each connection sent. */
async function listener(stage: Stage): Promise<{ port: number; heard: string[] }> {
  const heard: string[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
    })
    socket.on('error', () => {})
    socket.on('end', () => {
      heard.push(text)
      socket.end('HTTP/1.0 200 OK\r\n\r\n')
    })
  })
  return { port: await listening(stage, server), heard }
}

async function listening(stage: Stage, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  stage.defer(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** The file as it is shipped, with these plugins, and those of them on that are named. */
function withPlugins(at: Scene, plugins: string, on: string[]): string {
  const file = confxml(at)
  const switches = on.map((name) => `<plugin start="true" name="${name}"/>`).join('')
  const text = fs.readFileSync(file, 'utf8')
  const replaced = text
    .replace('<plugin start="false" name="command"/>', switches)
    .replace(/<plugin name="command">.*<\/plugin>/, plugins)
  assert.notEqual(replaced, text)
  fs.writeFileSync(file, replaced)
  return file
}

const HOSTILE = ['$(touch EXECUTED)', '`touch EXECUTED`', ';touch EXECUTED', '--help', 'a b"c\'d', 'line\nbreak', '*']

test(
  'command: prefix, path and suffix are the argument vector, whatever the name; after it is at the target',
  scene(async (at) => {
    const { program, calls } = recorder(at.stage)
    const plugin = `<plugin name="command"><param prefix="${program} first" suffix="last" ignoreError="false"/></plugin>`
    const syncline = await Syncline.startFrom(at.stage, withPlugins(at, plugin, ['command']), ['m'], {
      sersync: ['-r'],
    })
    for (const name of HOSTILE) fs.writeFileSync(`${at.source}/${name}`, 'x')
    fs.writeFileSync(Buffer.concat([Buffer.from(`${at.source}/latin1-`), Buffer.from([0xe9, 0xff])]), 'x')
    fs.rmSync(`${at.source}/one`)
    await syncline.equal(at.source, at.module)
    await until('all are told of', () => calls().length >= HOSTILE.length + 2)
    const told = calls().map(({ args }) => args)
    const wanted = [
      ...HOSTILE.map((name) => `${at.source}/${name}`),
      `${at.source}/latin1-\xe9\xff`,
      `${at.source}/one`,
    ]
    assert.deepEqual(told.map(([, path]) => path).sort(), wanted.sort())
    assert.ok(told.every(([first, , last]) => first === 'first' && last === 'last'))
    const events = calls().map(({ stdin }) => JSON.parse(stdin))
    assert.equal(events.find(({ relative }) => relative === 'one').kind, 'deleted')
    assert.ok(
      events.some(({ pathBase64 }) => pathBase64 !== undefined),
      'a name that is not UTF-8 is there in full',
    )
    assert.ok(!fs.existsSync(`${at.source}/EXECUTED`) && !fs.existsSync('EXECUTED'))
  }),
)

test(
  'command: only what an include expression matches',
  scene(async (at) => {
    const { program, calls } = recorder(at.stage)
    const filter = '<filter start="true"><include expression="(.*)\\.php"/></filter>'
    const plugin = `<plugin name="command"><param prefix="${program}" suffix="" ignoreError="true"/>${filter}</plugin>`
    const syncline = await Syncline.startFrom(at.stage, withPlugins(at, plugin, ['command']), ['m'], {
      sersync: ['-r'],
    })
    for (const name of ['a.php', 'b.txt', 'sub/c.php']) fs.writeFileSync(`${at.source}/${name}`, 'x')
    await syncline.equal(at.source, at.module)
    await until('both are told of', () => calls().length >= 2)
    await sleep(300)
    assert.deepEqual(
      calls()
        .flatMap(({ args }) => args)
        .sort(),
      [`${at.source}/a.php`, `${at.source}/sub/c.php`],
    )
  }),
)

test(
  'command: one that fails is a warning with its words, unless ignoreError; one that is not there, too',
  scene(async (at) => {
    const plugin = (program: string, ignore: boolean) =>
      `<plugin name="command"><param prefix="${program}" suffix="" ignoreError="${ignore}"/></plugin>`
    for (const [program, ignore, said] of [
      ['/bin/ls --no-such-option', false, /exit 2: .*unrecognized option/],
      ['/no/such/program', false, /ENOENT/],
      ['/bin/false', true, undefined],
    ] as const) {
      const config = withPlugins(at, plugin(program, ignore), ['command'])
      const syncline = await Syncline.startFrom(at.stage, config, ['m'], { sersync: ['-r'] })
      fs.writeFileSync(`${at.source}/x`, `${Math.random()}`)
      await syncline.equal(at.source, at.module)
      if (said !== undefined)
        await until('it is said', () => said.test(syncline.stderr), { problem: () => syncline.stderr })
      else {
        await sleep(300)
        assert.ok(!syncline.stderr.includes('/bin/false'), syncline.stderr)
      }
      await syncline.stop()
    }
  }),
)

test(
  'socket: the absolute path and nothing else, a connection for each',
  scene(async (at) => {
    const { port, heard } = await listener(at.stage)
    const plugin = `<plugin name="socket"><localpath watch="/nowhere"><deshost ip="127.0.0.1" port="${port}"/></localpath></plugin>`
    const syncline = await Syncline.startFrom(at.stage, withPlugins(at, plugin, ['socket']), ['m'], { sersync: ['-r'] })
    fs.writeFileSync(`${at.source}/line\nbreak`, 'x')
    fs.rmSync(`${at.source}/one`)
    await until('both are heard', () => heard.length === 2)
    assert.deepEqual(heard.sort(), [`${at.source}/line\nbreak`, `${at.source}/one`])
    await syncline.stop()
  }),
)

const cdn = (port: number, watch: string, regex: string) => `<plugin name="refreshCDN"><localpath watch="${watch}">
  <cdninfo domainname="127.0.0.1" port="${port}" username="us er" passwd="p&amp;w"/><sendurl base="http://pic.example/cms"/>
  ${regex}</localpath></plugin>`

test(
  'refreshCDN: the request that sersync sends, and no name can add to it',
  scene(async (at) => {
    const { port, heard } = await listener(at.stage)
    const config = withPlugins(at, cdn(port, at.source, '<regexurl regex="false" match="x"/>'), ['refreshCDN'])
    const syncline = await Syncline.startFrom(at.stage, config, ['m'], { sersync: ['-r'] })
    fs.writeFileSync(`${at.source}/sub/a&b?c d\r\nX: y`, 'x')
    await until('the file', () => heard.length === 1)
    fs.mkdirSync(`${at.source}/dir`)
    await until('the directory', () => heard.length === 2)
    const request = (what: string) => `HEAD /index.jsp?user=us%20er&pswd=p%26w&ok=ok&${what} HTTP/1.0`
    assert.equal(heard[0].split('\r\n')[0], request('urls=http://pic.example/cms/sub/a%26b%3Fc%20d%0D%0AX:%20y'))
    assert.equal(heard[1].split('\r\n')[0], request('dirs=http://pic.example/cms/dir/'))
    await syncline.stop()
  }),
)

test(
  'refreshCDN alone (-m), with an expression: its first group and what follows; what does not match is left out',
  scene(async (at) => {
    const { port, heard } = await listener(at.stage)
    const match = `<regexurl regex="true" match="source/(sub[/a-z]*)\\.site"/>`
    const config = withPlugins(at, cdn(port, `${at.source}/`, match), [])
    const options = { sersync: ['-m', 'refreshCDN'], early: true }
    const syncline = await Syncline.startFrom(at.stage, config, [], options)
    await until('it watches', () => syncline.stdout.includes('watching'))
    fs.mkdirSync(`${at.source}/sub/x.site`)
    fs.writeFileSync(`${at.source}/other`, 'x')
    fs.writeFileSync(`${at.source}/sub/x.site/image`, 'x')
    await until('it is heard', () => heard.some((text) => text.includes('urls=http://pic.example/cmssub/x/image ')))
    assert.ok(!heard.some((text) => text.includes('other')))
    assert.deepEqual(fs.readdirSync(at.module), [], 'nothing is mirrored')
    assert.equal(await syncline.stop(), 0)
  }),
)

for (const alone of [false, true])
  test(
    `http: a POST of JSON for each change${alone ? ', alone' : ''}`,
    scene(async (at) => {
      const bodies: { path: string; kind: string }[] = []
      const server = createHttpServer((request, response) => {
        let text = ''
        request.on('data', (chunk) => {
          text += chunk
        })
        request.on('end', () => {
          bodies.push(JSON.parse(text))
          response.end()
        })
      })
      const port = await listening(at.stage, server)
      const plugin = `<plugin name="http"><localpath watch="${at.source}"><sendurl base="http://127.0.0.1:${port}/hook"/></localpath></plugin>`
      const config = withPlugins(at, plugin, alone ? [] : ['http'])
      const options = alone ? { sersync: ['-m', 'http'], early: true } : { sersync: ['-r'] }
      const syncline = await Syncline.startFrom(at.stage, config, alone ? [] : ['m'], options)
      if (alone) await until('it watches', () => syncline.stdout.includes('watching'))
      fs.writeFileSync(`${at.source}/new`, 'x')
      await until('it is posted', () =>
        bodies.some(({ path, kind }) => path === `${at.source}/new` && kind === 'changed'),
      )
      fs.rmSync(`${at.source}/new`)
      await until('its end, too', () =>
        bodies.some(({ path, kind }) => path === `${at.source}/new` && kind === 'deleted'),
      )
      assert.equal(await syncline.stop(), 0)
    }),
  )

test(
  'a plugin without a definition, an unknown one, a missing program: one line that says where',
  scene(async (at) => {
    for (const [plugins, on, said] of [
      ['', ['socket'], /confxml\.xml:\d+:\d+: <plugin>: there is no <plugin name="socket">/],
      ['<plugin name="mail"/>', ['mail'], /there is no plugin mail; known are/],
      ['<plugin name="command"><param prefix="" suffix=""/></plugin>', ['command'], /prefix="\.\.\." names no program/],
      [
        '<plugin name="socket"><localpath watch="/"><deshost ip="h" port="0"/></localpath></plugin>',
        ['socket'],
        /port="0"/,
      ],
    ] as const) {
      const { code, stderr } = await run(['check', withPlugins(at, plugins, [...on])])
      assert.equal(code, 1)
      assert.match(stderr, said)
    }
  }),
)

test(
  'a schedule with a filter of its own leaves alone what that matches, at both ends',
  scene(async ({ stage, source, module, daemon }) => {
    const file = stage.path('syncline.yaml')
    const target = `targets: ['${daemon.url('m')}']`
    const schedule = `full-sync: every 1s, full-sync-exclude: ['*.php']`
    fs.writeFileSync(file, `sources: [{path: ${source}, ${schedule}, ${target}}]`)
    const syncline = await Syncline.startFrom(stage, file, [daemon.url('m')])
    fs.writeFileSync(`${source}/sent.php`, 'a change is sent all the same')
    await syncline.equal(source, module)
    fs.writeFileSync(`${module}/only there.php`, 'x')
    fs.writeFileSync(`${module}/intruder`, 'x')
    await until('the schedule comes', () => !fs.existsSync(`${module}/intruder`))
    assert.ok(fs.existsSync(`${module}/only there.php`))
    assert.match((await run(['check', file])).stdout, /Left alone by that comparison: \*\.php/)
  }),
)

test(
  'what import makes of plugins and of a filter for the schedule means the same',
  scene(async (at) => {
    const { program, calls } = recorder(at.stage)
    const plugin = `<plugin name="command"><param prefix="${program} -v" suffix="end" ignoreError="true"/></plugin>`
    const file = withPlugins(at, plugin, ['command'])
    fs.writeFileSync(
      file,
      fs
        .readFileSync(file, 'utf8')
        .replace('<crontab start="false"', '<crontab start="true"')
        .replace('<crontabfilter start="false"', '<crontabfilter start="true"'),
    )
    const { stdout } = await run(['import', file])
    assert.match(stdout, /full-sync-exclude:\n\s+- "?- \*\.php/)
    const yaml = at.stage.path('imported.yaml')
    fs.writeFileSync(yaml, stdout)
    const syncline = await Syncline.startFrom(at.stage, yaml, [at.daemon.url('m')])
    fs.writeFileSync(`${at.source}/new`, 'x')
    await until('it is told of', () => calls().length === 1)
    assert.deepEqual(calls()[0].args, ['-v', `${at.source}/new`, 'end'])
    assert.equal(await syncline.stop(), 0)
    assert.match(execFileSync('grep', ['-c', 'ignore-errors: true', yaml], { encoding: 'utf8' }), /1/)
  }),
)
