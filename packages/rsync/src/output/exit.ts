import { MSG } from '../wire/constants.js'
import type { Message } from './names.js'

/** errcode.h */
export const EXIT = {
  OK: 0,
  SYNTAX: 1,
  PROTOCOL: 2,
  FILESELECT: 3,
  UNSUPPORTED: 4,
  STARTCLIENT: 5,
  SOCKETIO: 10,
  FILEIO: 11,
  STREAMIO: 12,
  MESSAGEIO: 13,
  IPC: 14,
  CRASHED: 15,
  TERMINATED: 16,
  SIGNAL1: 19,
  SIGNAL: 20,
  WAITCHILD: 21,
  MALLOC: 22,
  PARTIAL: 23,
  VANISHED: 24,
  DEL_LIMIT: 25,
  TIMEOUT: 30,
  CONTIMEOUT: 35,
  CMD_FAILED: 124,
  CMD_KILLED: 125,
  CMD_RUN: 126,
  CMD_NOTFOUND: 127,
} as const
export type Exit = (typeof EXIT)[keyof typeof EXIT]

const TEXT: Record<number, string> = {
  [EXIT.SYNTAX]: 'syntax or usage error',
  [EXIT.PROTOCOL]: 'protocol incompatibility',
  [EXIT.FILESELECT]: 'errors selecting input/output files, dirs',
  [EXIT.UNSUPPORTED]: 'requested action not supported',
  [EXIT.STARTCLIENT]: 'error starting client-server protocol',
  [EXIT.SOCKETIO]: 'error in socket IO',
  [EXIT.FILEIO]: 'error in file IO',
  [EXIT.STREAMIO]: 'error in rsync protocol data stream',
  [EXIT.MESSAGEIO]: 'errors with program diagnostics',
  [EXIT.IPC]: 'error in IPC code',
  [EXIT.CRASHED]: 'sibling process crashed',
  [EXIT.TERMINATED]: 'sibling process terminated abnormally',
  [EXIT.SIGNAL1]: 'received SIGUSR1',
  [EXIT.SIGNAL]: 'received SIGINT, SIGTERM, or SIGHUP',
  [EXIT.WAITCHILD]: 'waitpid() failed',
  [EXIT.MALLOC]: 'error allocating core memory buffers',
  [EXIT.PARTIAL]: 'some files/attrs were not transferred (see previous errors)',
  [EXIT.VANISHED]: 'some files vanished before they could be transferred',
  [EXIT.DEL_LIMIT]: 'the --max-delete limit stopped deletions',
  [EXIT.TIMEOUT]: 'timeout in data send/receive',
  [EXIT.CONTIMEOUT]: 'timeout waiting for daemon connection',
  [EXIT.CMD_FAILED]: 'remote shell failed',
  [EXIT.CMD_KILLED]: 'remote shell killed',
  [EXIT.CMD_RUN]: 'remote command could not be run',
  [EXIT.CMD_NOTFOUND]: 'remote command not found',
}

export const exitText = (code: number) => TEXT[code] ?? 'unexplained error'

/** What a part of rsync calls itself: `client` and `server` until the roles are settled, `Receiver` until its generator is split off. */
export type Role = 'client' | 'server' | 'sender' | 'generator' | 'receiver' | 'Receiver'

/** Where the stock one names its own source file and line. Scripts look for `(code N) at ` and `[ROLE=`. */
const PLACE = 'syncline(0)'

/** log.c log_exit(): the last line of a program that fails; nothing for code 0. Vanished files are a warning. */
export function exitMessage(code: number, role: Role, version: string, place = PLACE): Message | null {
  if (code === EXIT.OK) return null
  const tail = `${exitText(code)} (code ${code}) at ${place} [${role}=${version}]\n`
  if (code === EXIT.VANISHED) return { code: MSG.WARNING, text: `rsync warning: ${tail}` }
  return { code: MSG.ERROR, text: `rsync error: ${tail}` }
}
