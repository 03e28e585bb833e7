import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { jsonSchema } from '../src/config.js'
import { describeSchedule, parseSchedule } from '../src/schedule.js'

test('docs/syncline.schema.json is the schema', () => {
  const file = new URL('../../../../docs/syncline.schema.json', import.meta.url)
  assert.deepEqual(
    JSON.parse(readFileSync(file, 'utf8')),
    JSON.parse(JSON.stringify(jsonSchema())),
    'write it anew: npm run schema',
  )
})

test('schedules', () => {
  assert.deepEqual(parseSchedule('every 10h'), { everyMs: 36_000_000 })
  assert.deepEqual(parseSchedule('every 90 s'), { everyMs: 90_000 })
  assert.deepEqual(parseSchedule('0 3 * * *'), { cron: '0 3 * * *' })
  for (const text of ['every 600m', 'every 10h', 'every 2d', 'every 90s']) {
    const parsed = parseSchedule(text)
    assert.deepEqual(parseSchedule(describeSchedule(parsed)), parsed)
  }
  for (const text of ['', 'sometimes', 'every', 'every 0s', 'every 30d', 'every 5 weeks', '61 * * * *', '* * *'])
    assert.throws(() => parseSchedule(text), Error, text)
})
