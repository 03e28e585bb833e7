import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** A list of this many names leaves tens of megabytes of garbage, which V8 by itself keeps for the next one. */
export const MUCH_WORK = 5_000

// A young generation that may grow to 16 MB keeps what it grew to: 25 MB more resident after a first full sync of
// 100,000 files, and no batch that we measured was faster for it.
setFlagsFromString('--min-semi-space-size=1')
setFlagsFromString('--max-semi-space-size=1')
setFlagsFromString('--semi-space-growth-factor=1')
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let timer: NodeJS.Timeout | undefined

/** Gives memory back to the system once things have been quiet for a second: a mirror is idle most of its life. */
export function releaseSoon(): void {
  clearTimeout(timer)
  timer = setTimeout(collect, 1_000).unref()
}
