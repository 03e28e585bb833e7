#!/usr/bin/env node
import { basename } from 'node:path'
import { COMMANDS } from './index.js'

// One program under four names, as they are installed.
const program = basename(process.argv[1] ?? '').replace(/\.js$/, '')
const command = COMMANDS[program]
if (command === undefined) {
  console.error(`${program}: to be called as one of ${Object.keys(COMMANDS).join(', ')}`)
  process.exit(1)
}
command(program, process.argv.slice(2))
