import { Cron } from 'croner'

/** Every so many milliseconds from the start, or at the times of a cron expression (local time). */
export type Schedule = { everyMs: number } | { cron: string }

const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
/** The longest delay that a timer takes. */
const EVERY_MAX_MS = 2 ** 31 - 1

/** Reads `every 10h` (s, m, h, d) or a cron expression such as `0 3 * * *`. Throws Error with what is wrong. */
export function parseSchedule(text: string): Schedule {
  const every = /^every\s+(\d{1,9})\s*([smhd])$/.exec(text)
  if (every !== null) return everySchedule(Number(every[1]) * UNIT_MS[every[2]])
  if (/^every\b/.test(text))
    throw new Error(`"${text}": write "every" and a number with s, m, h or d, such as "every 10h"`)
  try {
    if (!/^\S+(\s+\S+){4,5}$/.test(text.trim())) throw new Error('it has five or six fields')
    if (new Cron(text, { paused: true }).nextRun() === null) throw new Error('it never comes')
  } catch (error) {
    const why = (error as Error).message.replace(/^CronPattern: /, '')
    throw new Error(`"${text}" is no cron expression (${why}); write "every 10h", or five fields such as "0 3 * * *"`)
  }
  return { cron: text }
}

export function everySchedule(everyMs: number): Schedule {
  if (everyMs < 1_000 || everyMs > EVERY_MAX_MS) throw new Error('an interval is at least 1 second and at most 24 days')
  return { everyMs }
}

/** A schedule in words. */
export function describeSchedule(schedule: Schedule): string {
  if ('cron' in schedule) return `at the times of "${schedule.cron}"`
  const [unit, ms] = Object.entries(UNIT_MS).findLast(([, ms]) => schedule.everyMs % ms === 0) ?? ['ms', 1]
  return `every ${schedule.everyMs / ms} ${unit}`
}

/** Calls `due` at the times of a schedule until `stop`. */
export class Timetable {
  readonly #stop: () => void

  constructor(schedule: Schedule, due: () => void) {
    if ('cron' in schedule) {
      const cron = new Cron(schedule.cron, { unref: true }, due)
      this.#stop = () => cron.stop()
    } else {
      const timer = setInterval(due, schedule.everyMs).unref()
      this.#stop = () => clearInterval(timer)
    }
  }

  stop(): void {
    this.#stop()
  }
}
