import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** A list of this many names leaves tens of megabytes of garbage, which V8 by itself keeps for the next one. */
export const MUCH_WORK = 5_000

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let timer: NodeJS.Timeout | undefined

/** Gives memory back to the system once things have been quiet for a second: a mirror is idle most of its life. */
export function releaseSoon(): void {
  clearTimeout(timer)
  timer = setTimeout(collect, 1_000).unref()
}
