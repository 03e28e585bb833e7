import { IN } from '../events.js'
import { ROOT } from '../raw-path.js'
import { formatNow } from './c-library.js'
import { namesOf } from './event-names.js'
import type { PathEvent } from './watch-list.js'

/** An event as text, one character a byte; '' when there is nothing to print. */
export type Line = (event: PathEvent) => string

const FORMAT_MAX = 4096

/** `d/ CLOSE_WRITE,CLOSE name` */
export const plainLine: Line = ({ watched, name, mask }) => `${watched} ${namesOf(mask, ',')} ${name}\n`

/** `d/,"CREATE,ISDIR",name` */
export const csvLine: Line = ({ watched, name, mask }) => `${csv(watched)},${csv(namesOf(mask, ','))},${csv(name)}\n`

const csv = (field: string) => (/["\n,]|^ | $/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)

/** Whether a format makes a line at all, be it of an event that has no name, and no more than there is room for. */
export function isUsable(format: string, newline: boolean): boolean {
  const whole = newline ? `${format}\n` : format
  const nameless = { watched: '', name: ROOT, mask: IN.ACCESS, cookie: 0 }
  return whole.length <= FORMAT_MAX && expanded(whole, nameless, 'x') !== ''
}

/**
 * `%w %f %e %T %c %0 %n %%`, and `%Xe` with X between the names of the event. What is none of these stays as it is. Times
 * are formatted by `timeFormat`; an event whose time is nothing is not printed.
 */
export function formattedLine(format: string, timeFormat: string | undefined, newline: boolean): Line {
  const whole = newline ? `${format}\n` : format
  return (event) => {
    const time = timeFormat === undefined ? '' : formatNow(timeFormat)
    if (timeFormat !== undefined && time === '') return ''
    return expanded(whole, event, time).slice(0, FORMAT_MAX - 1)
  }
}

function expanded(format: string, { watched, name, mask, cookie }: PathEvent, time: string): string {
  const values: Record<string, string> = {
    w: watched,
    f: name,
    e: namesOf(mask, ','),
    T: time,
    c: cookie.toString(16),
    0: '\0',
    n: '\n',
    '%': '%',
  }
  return format.replace(/%([wfeTc0n%])|%(.)e/gs, (_, letter: string | undefined, separator: string) =>
    letter === undefined ? namesOf(mask, separator) : values[letter]!,
  )
}
