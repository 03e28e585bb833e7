import type { ModuleConfig } from './config.js'
import type { AuthRequest } from './secrets.js'

// What the processes of a daemon tell each other. The monitor alone is privileged, and it never reads what a peer sends:
// the front does, as nobody, and hands on only what it has checked, in messages of bounded size.

/** A module as the front needs to know it: nothing in it is secret. */
export type FrontModule = Pick<
  ModuleConfig,
  | 'name'
  | 'comment'
  | 'path'
  | 'list'
  | 'hostsAllow'
  | 'hostsDeny'
  | 'reverseLookup'
  | 'forwardLookup'
  | 'authDigest'
  | 'maxConnections'
> & { authenticates: boolean }

export interface FrontConfig {
  /** Whom to become; null stays who one is. */
  uid: number | null
  gid: number | null
  modules: FrontModule[]
  reverseLookup: boolean
  globalLookup: boolean
  motd: string
  tls: { certificate: string; key: string } | null
}

export type ToFront =
  | { kind: 'config'; config: FrontConfig }
  /** A descriptor that listens, which the front was started with. */
  | { kind: 'listen'; fd: number; tls: boolean }
  /** With the handle of one connection (inetd). */
  | { kind: 'connection' }
  | { kind: 'answer'; id: number; reply: string | null }
  | { kind: 'stop' }

export type FromFront =
  | { kind: 'ready' }
  | { kind: 'log'; id: number; line: string }
  | { kind: 'claim'; id: number; module: string; host: string; address: string }
  | { kind: 'login'; id: number; auth: AuthRequest | null; host: string }
  /** With the connection's handle: it goes to a worker. `early` is what was read of it already, latin1. */
  | { kind: 'enter'; id: number; early: string; protocol: number }
  | { kind: 'gone'; id: number }
  | { kind: 'idle' }

/** What a worker serves: one module, as one user. */
export interface WorkerConfig {
  module: ModuleConfig
  chroot: boolean
  root: string
  inside: string
  mungeSymlinks: boolean
  numericIds: boolean
  uid: number | null
  gids: number[] | null
}

export interface Job {
  id: number
  early: string
  protocol: number
  user: string
  host: string
  address: string
  readOnly: boolean
}

export type ToWorker = { kind: 'start'; config: WorkerConfig } | { kind: 'job'; job: Job } | { kind: 'stop' }

export type FromWorker =
  | { kind: 'started' }
  /** It cannot serve: what the client is told, and what the log is. */
  | { kind: 'refused'; reply: string; log: string }
  | { kind: 'log'; id: number; line: string }
  | { kind: 'ended'; id: number }
  /** It finishes what it has, and gets nothing more. */
  | { kind: 'faulty' }
