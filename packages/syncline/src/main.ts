#!/usr/bin/env node
// A copy by hand starts as soon as it is typed: only what its command needs is loaded.
const [command, ...args] = process.argv.slice(2)
if (command === 'rsync') {
  const { rsyncCommand } = await import('@syncline/rsync/command')
  await rsyncCommand(args)
} else if (command === 'daemon') {
  const { rsyncCommand } = await import('@syncline/rsync/command')
  await rsyncCommand(['--daemon', ...args])
} else await import('./mirror-command.js')
