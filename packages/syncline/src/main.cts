#!/usr/bin/env node
// A copy by hand starts as soon as it is typed: only what its command needs is loaded.
const [command, ...args] = process.argv.slice(2)
if (command === 'rsync') {
  const { rsyncCommand } = require('@syncline/rsync/command')
  rsyncCommand(args)
} else if (command === 'daemon') {
  import('@syncline/rsync/command').then(({ rsyncCommand }) => rsyncCommand(['--daemon', ...args]))
} else if (/^(i|fs)notifywa(it|tch)$/.test(command ?? '')) {
  import('@syncline/inotify/commands').then(({ COMMANDS }) => COMMANDS[command](command, args))
} else import('./mirror-command.js')
