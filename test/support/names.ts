import type { Random } from './random.js'

/** Names that Linux allows and that shells, option parsers, pattern matchers and text decoders trip over; latin1. */
export const HOSTILE_NAMES: readonly string[] = [
  '--delete',
  '--exclude=zzz',
  '-rf',
  '-',
  '--',
  '*',
  '**',
  '?',
  '[',
  '[!a]',
  '[a-z]*',
  '{a,b}',
  '...',
  '.hidden',
  '.~tmp~',
  '.name.AbC123', // the shape of rsync's own temporary names
  'backup~',
  '4913', // vim's probe file; sersync ignores it
  ' ',
  ' leading and trailing ',
  'a b',
  'tab\there',
  'new\nline',
  '\n',
  'carriage\rreturn',
  'bell\x07escape\x1b[31m',
  '\x01\x02\x1f\x7f',
  "single'quote",
  'double"quote',
  '"; touch pwned; "',
  'back`id`tick',
  '$(reboot)',
  '$HOME',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a shell would expand it; that is the point
  '${IFS}',
  'back\\slash',
  '\\',
  '\\n',
  '\\#012',
  'semi;colon',
  'pipe|and&',
  '<redirect>',
  '#comment',
  '!history',
  'host:path',
  'host::module',
  'rsync:',
  '%s%n',
  '~',
  '~root',
  'caf\xe9', // latin1, not UTF-8
  '\xff\xfe',
  '\xc3\x28', // a broken UTF-8 pair
  '\xd6\xd0\xce\xc4', // GBK
  '\xe4\xb8\xad\xe6\x96\x87', // the same two characters in UTF-8
  '\xed\xa0\x80', // a surrogate in UTF-8 clothing
  'x'.repeat(255),
  '\xff'.repeat(255),
  `${'\n'.repeat(127)}${'*'.repeat(128)}`,
  `.${'l'.repeat(254)}`,
]

/** Mostly hostile, some plain: few enough that histories meet the same name again and again. */
export function anyName(random: Random): string {
  if (random.chance(0.6)) return random.pick(HOSTILE_NAMES)
  if (random.chance(0.8)) return `f${random.below(30)}`
  const bytes = Buffer.from(
    random.bytes(1 + random.below(12)).map((byte) => (byte === 0 || byte === 0x2f ? 0x5f : byte)),
  )
  const name = bytes.toString('latin1')
  return name === '.' || name === '..' ? '...' : name
}
