import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join } from 'node:path'
import { ConfigError } from './errors.js'

/** Where journals and control sockets live when --state-dir does not say. */
export function defaultStateDir(): string {
  if (process.getuid?.() === 0) return '/var/lib/syncline'
  return join(process.env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'syncline')
}

/** The directory of one mirror: the same for the same SRC and DESTs, so that a restart finds its journal. */
export function openState(stateDir: string, source: string, targets: readonly string[]): string {
  const id = createHash('sha256')
    .update(JSON.stringify([source, [...targets].sort()]))
    .digest('hex')
  const directory = join(stateDir, id.slice(0, 16))
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new ConfigError(
      `cannot keep state in ${stateDir}: ${(error as Error).message}; choose another with --state-dir`,
    )
  }
  return directory
}

/**
 * Notes that this mirror is the last that wrote to `target` from `source`. False when another one was, with other targets
 * beside it: then what this one knows of the target is of an earlier time.
 */
export function claim(stateDir: string, directory: string, source: string, target: string): boolean {
  const id = createHash('sha256')
    .update(JSON.stringify([source, target]))
    .digest('hex')
    .slice(0, 16)
  const file = join(stateDir, 'last', id)
  let before: string | undefined
  try {
    before = readFileSync(file, 'utf8')
  } catch {
    // nobody was
  }
  const own = basename(directory)
  if (before === own) return true
  mkdirSync(join(stateDir, 'last'), { recursive: true, mode: 0o700 })
  writeFileSync(file, own)
  return before === undefined
}

export function stateDirectories(stateDir: string): string[] {
  try {
    return readdirSync(stateDir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && /^[0-9a-f]{16}$/.test(entry.name))
      .map((entry) => join(stateDir, entry.name))
  } catch {
    return []
  }
}

/** Where the guards of a state directory are told to accept what is there. */
export const guardsDirectory = (stateDir: string) => join(stateDir, 'guards')

/** Where the good copy of one guarded path is kept. */
export const guardDirectory = (stateDir: string, path: string) =>
  join(guardsDirectory(stateDir), createHash('sha256').update(path).digest('hex').slice(0, 16))
