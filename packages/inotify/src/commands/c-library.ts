/** What the commands need to print as inotify-tools print: the C library's own expressions, times and messages. */
import koffi from 'koffi'

const libc = koffi.load(null)
const c = {
  regcomp: libc.func('int regcomp(void *regex, void *pattern, int flags)') as (
    r: Buffer,
    p: Buffer,
    f: number,
  ) => number,
  regexec: libc.func('int regexec(void *regex, void *text, size_t matches, void *match, int flags)') as (
    regex: Buffer,
    text: Buffer,
    matches: number,
    match: null,
    flags: number,
  ) => number,
  localtime_r: libc.func('void *localtime_r(void *seconds, void *tm)') as (seconds: Buffer, tm: Buffer) => unknown,
  strftime: libc.func('size_t strftime(void *out, size_t length, void *format, void *tm)') as (
    out: Buffer,
    length: number,
    format: Buffer,
    tm: Buffer,
  ) => number,
  syslog: libc.func('void syslog(int priority, const char *format, ...)') as (...args: unknown[]) => void,
}

const LOG_ERR = 3

/** One line for syslog(3). */
export const syslog = (text: string): void => c.syslog(LOG_ERR, '%s', 'str', text)

/** regex_t has 64 bytes in glibc and fewer in musl. */
const REGEX_BYTES = 256
const [REG_EXTENDED, REG_ICASE, REG_NOSUB] = [1, 2, 8]

/** A POSIX extended expression as a test of bytes, one character each; undefined when it is none. */
export function expression(pattern: string, ignoreCase: boolean): ((text: string) => boolean) | undefined {
  const regex = Buffer.alloc(REGEX_BYTES) // never freed: a program has one or two
  const flags = REG_EXTENDED | REG_NOSUB | (ignoreCase ? REG_ICASE : 0)
  if (c.regcomp(regex, Buffer.from(`${pattern}\0`, 'latin1'), flags) !== 0) return undefined
  return (text) => c.regexec(regex, Buffer.from(`${text}\0`, 'latin1'), 0, null, 0) === 0
}

const TM_BYTES = 128
const TIME_MAX = 4095

/** strftime(3) of now, local time. '' when it is nothing, or more than 4094 bytes. */
export function formatNow(format: string): string {
  const seconds = Buffer.alloc(8)
  seconds.writeBigInt64LE(BigInt(Math.floor(Date.now() / 1000)))
  const [tm, out] = [Buffer.alloc(TM_BYTES), Buffer.alloc(TIME_MAX)]
  c.localtime_r(seconds, tm)
  return out.toString('latin1', 0, c.strftime(out, out.length, Buffer.from(`${format}\0`, 'latin1'), tm))
}
