import { inotifywait } from './inotifywait.js'
import { inotifywatch } from './inotifywatch.js'

/** inotify-tools' commands by their names. */
export const COMMANDS: Readonly<Record<string, (program: string, args: readonly string[]) => void>> = {
  inotifywait,
  fsnotifywait: inotifywait,
  inotifywatch,
  fsnotifywatch: inotifywatch,
}
