/** The operator must act before anything can start: what is wrong, where, and how to mend it. */
export class ConfigError extends Error {
  readonly code = 'SYNCLINE_CONFIG'
  constructor(
    message: string,
    /** What the process exits with; the same numbers as rsync's where rsync has one. */
    readonly exitCode = 1,
  ) {
    super(message)
  }
}

/** Unsafe to go on: the target stops until someone has looked and said `syncline resume`. */
export class HaltError extends Error {
  readonly code = 'SYNCLINE_HALT'
}
