// The command as one file of CommonJS that brings V8's bytecode along (scripts/bundle.mjs makes both): a copy by hand
// starts in half the time that Node takes to find, read and compile a hundred ES modules.
import crypto = require('node:crypto')
import fs = require('node:fs')
import path = require('node:path')
import url = require('node:url')
import vm = require('node:vm')

type Command = typeof import('./command.js', { with: { 'resolution-mode': 'import' } })

const file = path.join(__dirname, 'command.bundle.cjs')
const cache = `${file}.cache`
const code = fs.readFileSync(file, 'latin1')

/** V8 itself looks at the length of the code only, and at nothing of the bytecode. */
const seal = (bytecode: Buffer) => crypto.createHash('sha256').update(code, 'latin1').update(bytecode).digest()
const SEAL_BYTES = 32

function readCache(): Buffer | undefined {
  try {
    const sealed = fs.readFileSync(cache)
    const bytecode = sealed.subarray(SEAL_BYTES)
    return seal(bytecode).equals(sealed.subarray(0, SEAL_BYTES)) ? bytecode : undefined
  } catch {
    return undefined // it only saves time
  }
}

const bytecode = readCache()
const script = new vm.Script(`(function (module, require, importModule, urlOf) {${code}\n})`, {
  filename: file,
  ...(bytecode && { cachedData: bytecode }), // of another version of Node, or with other flags: V8 sees it and compiles
})
const bundle = { exports: {} as Command }
script.runInThisContext()(
  bundle,
  require,
  (name: string) => import(name), // with bytecode, Node 20 lets no vm.Script have one of its own
  (name: string) => url.pathToFileURL(path.join(__dirname, name)).href,
)

/** For the build: what the next start need not compile, once this one has run. */
function writeCache(): void {
  const data = script.createCachedData()
  fs.writeFileSync(cache, Buffer.concat([seal(data), data]))
}

export = { ...bundle.exports, writeCache }
