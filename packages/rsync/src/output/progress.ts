import { bigNumber, fixed, type Human } from './number.js'

/** Where a transfer stands when one of its files is done. */
export interface Standing {
  /** Files transferred, this one included. */
  transferred: number
  /** Entries of the list behind this file, and in all as far as they are known. */
  left: number
  entries: number
  /** The list is complete; with incremental recursion it grows while files travel. */
  complete: boolean
}

export interface ProgressOptions {
  /** `file`: --progress; `total`: --info=progress2, one line for the whole transfer. */
  of: 'file' | 'total'
  human: Human
  /** Takes text to which nothing may be added: it begins with CR, and ends with a newline or stands open. */
  write(text: string): void
}

interface Point {
  ms: number
  bytes: number
}

const HISTORY = 5 // PROGRESS_HISTORY_SECS: the rate of a line is that of the last five of them
const INTERVAL_MS = 1000
/** A file that begins this soon after the last line began with it. */
const ADJACENT_MS = 1500
const NEVER: Point = { ms: Number.NEGATIVE_INFINITY, bytes: 0 }

/** progress.c: what a client prints while content travels. `nowMs` is a wall or steady clock, alike in all calls. */
export class Progress {
  readonly #of: ProgressOptions['of']
  readonly #human: Human
  readonly #write: (text: string) => void
  #start: Point | null = null
  #history: Point[] = [NEVER]
  #endLength = 0

  constructor({ of, human, write }: ProgressOptions) {
    this.#of = of
    this.#human = human
    this.#write = write
  }

  /**
   * `bytes` of `size` are through; printed at the beginning of a file and then once a second. For `total` both are those
   * of the whole transfer: what earlier files had, and what all files have.
   */
  show(bytes: number, size: number, nowMs: number): void {
    const newest = this.#history.at(-1)!
    if (this.#start === null) {
      const adjacent = elapsed(newest, nowMs) <= ADJACENT_MS
      this.#start = adjacent ? { ms: newest.ms, bytes: 0 } : { ms: nowMs, bytes }
      this.#history = Array<Point>(HISTORY).fill(this.#start)
    } else {
      if (elapsed(newest, nowMs) < INTERVAL_MS) return
      this.#history = [...this.#history.slice(1), { ms: nowMs, bytes }]
    }
    const since = this.#history[0]
    const rate = ratePerSecond(since, bytes, nowMs)
    this.#write(`${this.#line(bytes, size, rate, rate > 0 ? (size - bytes) / rate / 1000 : 0)}  `)
  }

  /** A file (or, for `total`, another part of the whole) is done; the line tells the time that it took. */
  finish(bytes: number, size: number, nowMs: number, standing: Standing): void {
    const since = this.#start ?? { ms: nowMs, bytes: 0 }
    const line = this.#line(bytes, size, ratePerSecond(since, bytes, nowMs), Math.max(1, elapsed(since, nowMs)) / 1000)
    const end = ending(standing)
    if (this.#of === 'total') {
      this.#endLength = Math.max(this.#endLength, end.length)
      this.#write(line + end.padEnd(this.#endLength))
    } else {
      this.#start = null
      this.#write(`${line + end}\n`)
    }
  }

  #line(bytes: number, size: number, rate: number, seconds: number): string {
    const percent = bytes === size ? 100 : Math.trunc((100 * bytes) / size)
    const amount = bigNumber(bytes, this.#human).padStart(15)
    return `\r${amount} ${String(percent).padStart(3)}% ${rateText(rate)} ${clock(seconds)}`
  }
}

const elapsed = (since: Point, nowMs: number) => Math.trunc(nowMs - since.ms)

/** In KiB. */
const ratePerSecond = (since: Point, bytes: number, nowMs: number) =>
  ((bytes - since.bytes) * 1000) / Math.max(1, elapsed(since, nowMs)) / 1024

function rateText(rate: number): string {
  const units: [number, string] =
    rate > 1024 * 1024 ? [1024 * 1024, 'GB/s'] : rate > 1024 ? [1024, 'MB/s'] : [1, 'kB/s']
  return fixed(rate / units[0], 2).padStart(7) + units[1]
}

const HOURS_MAX = 9999

function clock(seconds: number): string {
  if (!(seconds >= 0 && seconds <= HOURS_MAX * 3600)) return '  ??:??:??'
  const two = (value: number) => String(Math.trunc(value) % 60).padStart(2, '0')
  return `${String(Math.trunc(seconds / 3600)).padStart(4)}:${two(seconds / 60)}:${two(seconds)}`
}

const ending = ({ transferred, left, entries, complete }: Standing) =>
  ` (xfr#${transferred}, ${complete ? 'to' : 'ir'}-chk=${left}/${entries})`

/**
 * Whether a terminal's line is ours to write to: a job in the background stays silent. `stat` is /proc/self/stat; ask
 * only where standard output is a terminal, elsewhere progress is always written.
 */
export function inForeground(stat: string): boolean {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ') // from the third on: state, ppid, pgrp, session, tty, tpgid
  return fields[5] === '-1' || fields[5] === fields[2]
}
