// What a tree tells is the same however it is watched.
import { test } from 'node:test'

if (process.geteuid?.() === 0) {
  process.env.WATCH_BACKEND = 'fanotify'
  await import('./hints.test.js')
  await import('./root.test.js')
  await import('./torture.test.js')
} else test('by fanotify', { skip: 'only root may' }, () => undefined)
