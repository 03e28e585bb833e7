// Makes packages/rsync/dist/src/command.bundle.cjs, from what tsc made, and the bytecode that goes with it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const compiled = join(dirname(fileURLToPath(import.meta.url)), '../packages/rsync/dist/src')
const bundle = join(compiled, 'command.bundle.cjs')
rmSync(`${bundle}.cache`, { force: true })

await build({
  entryPoints: [join(compiled, 'command.js')],
  outfile: bundle,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  external: ['koffi'],
  logLevel: 'error',
  plugins: [{ name: 'not in one file', setup: outside }],
})
warm()

/** Files are found from where a module was. The daemon stays modules: its processes start from them, and seldom. */
function outside({ onLoad }) {
  onLoad({ filter: /\.js$/ }, ({ path }) => {
    if (!path.startsWith(compiled)) return undefined
    const url = `urlOf(${JSON.stringify(relative(compiled, path))})`
    const contents = readFileSync(path, 'utf8')
      .replaceAll('import.meta.url', url)
      .replaceAll("import('./daemon/", "importModule('./daemon/")
    return { contents }
  })
}

/** What a copy runs is what most starts run. The command ends the process. */
function warm() {
  const { rsyncCommand, writeCache } = createRequire(import.meta.url)(join(compiled, 'command.cjs'))
  const dir = mkdtempSync(join(tmpdir(), 'syncline-build-'))
  writeFileSync(join(dir, 'file'), 'content\n')
  process.on('exit', () => {
    rmSync(dir, { recursive: true })
    writeCache()
  })
  rsyncCommand(['-a', join(dir, 'file'), join(dir, 'copy')])
}
