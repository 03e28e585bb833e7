import { closeSync, constants, openSync } from 'node:fs'
import pino, { type Logger } from 'pino'
import pretty from 'pino-pretty'
import { ConfigError } from './errors.js'

export interface LogOptions {
  file: string | undefined
  format: 'pretty' | 'json'
  level: 'debug' | 'info' | 'warn'
}

export interface Log {
  logger: Logger
  /** After the file was moved away by a rotation: go on in a new one. */
  reopen(): void
}

/** Logs to standard error, or to a file (appended to, 0600). */
export function openLog(options: LogOptions): Log {
  checkWritable(options.file)
  const destination = pino.destination({ dest: options.file ?? 2, sync: true, append: true, mode: 0o600 })
  const colour = options.file === undefined && process.stderr.isTTY === true
  const stream =
    options.format === 'json'
      ? destination
      : pretty({
          destination,
          colorize: colour,
          sync: true,
          ignore: 'pid,hostname',
          translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
          singleLine: true,
        })
  const logger = pino({ level: options.level, base: null }, stream)
  const reopen = () => {
    if (options.file === undefined) return
    try {
      checkWritable(options.file)
      destination.reopen()
    } catch (error) {
      logger.warn(`the log file stays as it is: ${(error as Error).message}`)
    }
  }
  // A disk that is full, say: what cannot be logged is no reason to stop mirroring.
  destination.on('error', () => undefined)
  return { logger, reopen }
}

function checkWritable(file: string | undefined): void {
  if (file === undefined) return
  try {
    // Without waiting for whoever may read a FIFO.
    closeSync(openSync(file, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK, 0o600))
  } catch (error) {
    throw new ConfigError(`--log-file=${file}: ${(error as Error).message}`)
  }
}
