import { writeSync } from 'node:fs'

/** What SIGPIPE would end us with. */
const PIPE = 141
/** Nobody wakes it: a millisecond in which a pipe may be emptied. */
const PAUSE = new Int32Array(new SharedArrayBuffer(4))

/**
 * Writes text, one character a byte. Whoever has read enough ends us; a full disk loses lines, as it always did with these
 * commands.
 */
export function print(fd: number, text: string): void {
  const bytes = Buffer.from(text, 'latin1')
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EAGAIN') {
        Atomics.wait(PAUSE, 0, 0, 1)
        continue
      }
      if (code === 'EPIPE' && fd !== 2) process.exit(PIPE)
      return
    }
  }
}

/** A line on standard error. */
export const say = (line: string): void => print(2, `${line}\n`)
