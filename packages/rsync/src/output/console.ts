import { MSG } from '../wire/constants.js'
import { type Charset, escapeUnprintable } from './escape.js'
import type { Msg } from './names.js'

export interface ConsoleOptions {
  /** Take latin1 text, whole lines or parts of one. */
  out(text: string): void
  err(text: string): void
  charset: Charset
  /** -q: only what is wrong is shown. */
  quiet: boolean
}

/** log.c rwrite() of a client: where each message goes, its own and the server's, and in what shape. */
export class Console {
  readonly #options: ConsoleOptions
  #lineIsOpen = false
  /** Something was not transferred: a run that ends well otherwise ends with EXIT.PARTIAL. */
  sawTransferError = false

  constructor(options: ConsoleOptions) {
    this.#options = options
  }

  /** `text` is one message: only its last newline is kept as it is. */
  print(code: Msg, text: string): void {
    if (code === MSG.ERROR_XFER) this.sawTransferError = true
    if (code === MSG.INFO || code === MSG.CLIENT) {
      if (!this.#options.quiet) this.#line(this.#options.out, text)
    } else if (code !== MSG.LOG) this.#line(this.#options.err, text)
  }

  /** What `Progress` writes: a line that may stay open for the next part of itself. */
  progress(text: string): void {
    this.#lineIsOpen = false
    this.print(MSG.CLIENT, text)
    this.#lineIsOpen = !this.#options.quiet && !text.endsWith('\n')
  }

  /** At the end of the run. */
  close(): void {
    if (this.#lineIsOpen) this.#options.out('\n')
    this.#lineIsOpen = false
  }

  #line(write: (text: string) => void, text: string): void {
    const [, start, body, end] = /^(\r?)(.*?)([\r\n]?)$/s.exec(text)!
    const newline = this.#lineIsOpen ? '\n' : '' // on the stream of this message, even if the open line is on the other
    this.#lineIsOpen = false
    write(newline + start + escapeUnprintable(body, this.#options.charset) + end)
  }
}
