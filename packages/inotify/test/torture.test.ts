import { test } from 'node:test'
import { torture } from './torture.js'
import { BACKEND, temporaryDirectory } from './watching.js'

const SECONDS = Number(process.env.TORTURE_SECONDS ?? 3)

test('torture: no file that exists in the end was never reported', {
  timeout: SECONDS * 10_000 + 30_000,
}, async (t) => {
  await torture(t, temporaryDirectory(t), { backend: BACKEND, seconds: SECONDS })
})
