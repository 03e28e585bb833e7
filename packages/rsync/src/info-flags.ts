/** Where a word of --info takes effect (options.c info_words[]). */
const CLIENT = 1
const SERVER = 2
const SENDER = 4
const RECEIVER = 8
const EITHER = SENDER | RECEIVER

const WHERE = {
  BACKUP: RECEIVER,
  COPY: RECEIVER,
  DEL: RECEIVER,
  FLIST: CLIENT,
  MISC: EITHER,
  MOUNT: EITHER,
  NAME: EITHER,
  NONREG: RECEIVER,
  PROGRESS: CLIENT,
  REMOVE: SENDER,
  SKIP: RECEIVER,
  STATS: CLIENT | SERVER,
  SYMSAFE: EITHER,
} as const
export type InfoFlag = keyof typeof WHERE
export const INFO_FLAGS = Object.keys(WHERE) as InfoFlag[]

/** The largest level of a flag. */
const LEVEL_MAX = 4
/** What each -v adds to those before it; the first is said without any. */
export const INFO_OF_VERBOSITY = [
  'NONREG',
  'COPY,DEL,FLIST,MISC,NAME,STATS,SYMSAFE',
  'BACKUP,MISC2,MOUNT,NAME2,REMOVE,SKIP',
]

export type InfoLevels = Map<InfoFlag, number>

/** Sets the flags that one --info names. What it does not know is returned instead, and `help` too. */
export function setInfo(levels: InfoLevels, text: string): string | null {
  for (const item of text.split(',').filter((one) => one !== '')) {
    const [, word, digits] = /^(\d.*|.*?)(\d*)$/s.exec(item)!
    const name = word.toUpperCase()
    const level = name === 'NONE' ? 0 : Math.min(digits === '' ? 1 : Number(digits), LEVEL_MAX)
    if (name === 'ALL' || name === 'NONE') for (const flag of INFO_FLAGS) levels.set(flag, level)
    else if (name in WHERE) levels.set(name as InfoFlag, level)
    else return word
  }
  return null
}

/** The --info that tells the other end what was asked for and concerns it; null when that is nothing. */
export function infoOption(asked: ReadonlyMap<InfoFlag, number>, serverSends: boolean): string | null {
  const where = SERVER | (serverSends ? SENDER : RECEIVER)
  const flags = INFO_FLAGS.filter((flag) => WHERE[flag] & where)
  const told = flags.filter((flag) => asked.has(flag))
  if (told.length === 0) return null
  const common = told.length === flags.length ? commonLevel(told.map((flag) => asked.get(flag)!)) : null
  const rest = told.filter((flag) => asked.get(flag) !== common)
  const words = rest.map((flag) => named(flag, asked.get(flag)!))
  if (common !== null) words.unshift(common === 0 ? 'NONE' : named('ALL', common))
  return `--info=${words.join(',')}`
}

const named = (word: string, level: number) => (level === 1 ? word : `${word}${level}`)

/** The level of five flags or more, the first to get there; fewer are not worth abbreviating. */
function commonLevel(levels: readonly number[]): number | null {
  const counts = new Map<number, number>()
  let best: number | null = null
  for (const level of levels) {
    counts.set(level, (counts.get(level) ?? 0) + 1)
    if (best === null || counts.get(level)! > counts.get(best)!) best = level
  }
  return best !== null && counts.get(best)! >= 5 ? best : null
}
