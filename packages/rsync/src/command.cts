// The command as one file of CommonJS that brings V8's bytecode along (scripts/bundle.mjs makes both): a copy by hand
// starts in half the time that Node takes to find, read and compile a hundred ES modules.
import fs = require('node:fs')
import path = require('node:path')
import url = require('node:url')
import vm = require('node:vm')

type Command = typeof import('./command.js', { with: { 'resolution-mode': 'import' } })

const file = path.join(__dirname, 'command.bundle.cjs')
const cache = `${file}.cache`
const code = `(function (module, require, importModule, urlOf) {${fs.readFileSync(file, 'latin1')}\n})`
// Of another version of Node, or with other flags: V8 sees it and compiles.
const script = new vm.Script(code, {
  filename: file,
  ...(fs.existsSync(cache) && { cachedData: fs.readFileSync(cache) }),
})
const bundle = { exports: {} as Command }
script.runInThisContext()(
  bundle,
  require,
  (name: string) => import(name), // with bytecode, Node 20 lets no vm.Script have one of its own
  (name: string) => url.pathToFileURL(path.join(__dirname, name)).href,
)

/** For the build: what the next start need not compile, once this one has run. */
const writeCache = () => fs.writeFileSync(cache, script.createCachedData())

export = { ...bundle.exports, writeCache }
