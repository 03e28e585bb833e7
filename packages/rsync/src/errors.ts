import { printable } from './raw-path.js'

/** What rsync itself says of an error, and its exit code, where it has words for it that ours are not. */
export interface InItsWords {
  text: string
  exitCode: number
}

/** The peer is wrong: what it sent is not the protocol. The session ends. */
export class ProtocolError extends Error {
  readonly code = 'RSYNC_PROTOCOL'
  told: InItsWords | undefined
  constructor(what: string, problem: string, options?: ErrorOptions) {
    super(`protocol error in ${what}: ${problem}`, options)
  }
}

/** Why a daemon refused or failed, where that can be told. What is `refused` will be refused again until someone acts. */
export type RemoteReason = 'auth' | 'unknown-module' | 'read-only' | 'denied' | 'refused' | 'max-connections' | 'failed'

/** The peer reported a failure. The session ends; its text is quoted as data. */
export class RemoteError extends Error {
  readonly code = 'RSYNC_REMOTE'
  told: InItsWords | undefined
  constructor(
    readonly reason: RemoteReason,
    message: string,
    /** rsync's exit code for this failure, see rsync(1) EXIT VALUES. */
    readonly exitCode: number,
  ) {
    super(message)
  }
  /** The text has been shown already, as the peer sent it. */
  quoted = false
  /** True when trying again cannot help until a person has changed something. */
  get permanent(): boolean {
    return this.reason !== 'max-connections' && this.reason !== 'failed'
  }
}

/** One file could not be transferred: record it, carry on, finish with RERR_PARTIAL. */
export class FileError extends Error {
  readonly code = 'RSYNC_FILE'
  constructor(
    readonly path: string,
    problem: string,
    /** The entry went away between looking and reading: not a fault, look again. */
    readonly vanished = false,
    options?: ErrorOptions,
  ) {
    super(`${printable(path) || '.'}: ${problem}`, options)
  }
}

/** The peer could not be reached, or the connection broke. Worth another try later. */
export class ConnectError extends Error {
  readonly code = 'RSYNC_CONNECT'
  told: InItsWords | undefined
}

/** Nothing came from the peer for longer than the time-out. Worth another try later. */
export class TimeoutError extends Error {
  readonly code = 'RSYNC_TIMEOUT'
}

/** A transfer cannot begin or go on, and it is for whoever asked for it to mend that. The text is rsync's own. */
export class TransferError extends Error {
  readonly code = 'RSYNC_TRANSFER'
  constructor(
    message: string,
    /** rsync's exit code, see rsync(1) EXIT VALUES. */
    readonly exitCode: number,
    /** The other end has said why already. */
    readonly silent = false,
  ) {
    super(message)
  }
}
