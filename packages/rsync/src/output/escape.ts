/**
 * What a terminal is taken to show: `ascii` (LC_ALL=C), `utf8`, or `eight-bit` (-8, and log files), which lets every
 * byte above 127 through.
 */
export type Charset = 'ascii' | 'utf8' | 'eight-bit'

/** The locale's, from the environment. We cannot tell whether the locale is installed; the C library could. */
export function charsetOf(env: Record<string, string | undefined>): Charset {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || ''
  return /utf-?8/i.test(locale) ? 'utf8' : 'ascii'
}

/** A sequence of UTF-8, one char a byte. glibc, which decides for the stock one, lets it go beyond U+10FFFF, to 6 bytes. */
const UTF8 =
  '[\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xed[\\x80-\\x9f][\\x80-\\xbf]' +
  '|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf7][\\x80-\\xbf]{3}' +
  '|\\xf8[\\x88-\\xbf][\\x80-\\xbf]{3}|[\\xf9-\\xfb][\\x80-\\xbf]{4}|\\xfc[\\x84-\\xbf][\\x80-\\xbf]{4}|\\xfd[\\x80-\\xbf]{5}'
/** Control characters but TAB, and a backslash that would read like one of our escapes. DEL is let through. */
const ALWAYS = '[\\x00-\\x08\\x0a-\\x1f]|\\\\(?=#\\d{3})'

const HIDDEN: Record<Charset, RegExp> = {
  ascii: new RegExp(`${ALWAYS}|[\\x80-\\xff]`, 'g'),
  utf8: new RegExp(`(${UTF8})|${ALWAYS}|[\\x80-\\xff]`, 'g'),
  'eight-bit': new RegExp(ALWAYS, 'g'),
}

/** log.c filtered_fwrite(): `\#ooo`, octal, for each byte of `text` (latin1) that cannot be shown. */
export function escapeUnprintable(text: string, charset: Charset): string {
  return text.replace(HIDDEN[charset], (byte, sequence) =>
    typeof sequence === 'string' ? sequence : `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`,
  )
}
