import { existsSync, readFileSync, statSync } from 'node:fs'
import { isIP, type Socket } from 'node:net'
import { createSecureContext, type SecureContext, connect as secureConnect, type TLSSocket } from 'node:tls'
import { ConnectError, RemoteError, TimeoutError } from './errors.js'
import { RERR } from './wire/constants.js'

/** Where a daemon speaks TLS, as rsync-ssl has it. */
export const TLS_PORT = 874
/** Where the system keeps whom it trusts: Debian, Red Hat, SUSE, Alpine. Without any of them, Node's own list. */
const SYSTEM_ROOTS = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
]
const PEM_MAX = 8 << 20
const CONTEXTS_MAX = 16

/** The files of a connection by TLS, in PEM. */
export interface TlsFiles {
  /** Whose certificates are believed. The system's are without it; '' believes any, for any host. */
  ca?: string | undefined
  /** Our own certificate, and its key, for a server that asks for one. */
  certificate?: string | undefined
  key?: string | undefined
}

/** As rsync-ssl has them. An empty RSYNC_SSL_CA_CERT checks nothing. */
export function tlsFilesOf(env: NodeJS.ProcessEnv): TlsFiles {
  const { RSYNC_SSL_CA_CERT: ca, RSYNC_SSL_CERT: certificate, RSYNC_SSL_KEY: key } = env
  return {
    ...(ca !== undefined && { ca }),
    ...(certificate && { certificate }),
    ...(key && { key }),
  }
}

/** Throws Error when these files cannot be used. */
export function checkTlsFiles(files: TlsFiles): void {
  contextOf(files)
}

export interface TlsPeer {
  host: string
  port: number
  files: TlsFiles
}

/** Speaks TLS on a connection that is there. Throws RemoteError when whoever answers is not to be believed. */
export function secure(socket: Socket, peer: TlsPeer, timeoutMs: number, signal?: AbortSignal): Promise<TLSSocket> {
  const { host, port, files } = peer
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      done()
      tls?.destroy()
      socket.destroy()
      reject(error)
    }
    const abort = () => fail(new ConnectError('cancelled'))
    const late = () => fail(new TimeoutError(`${host}:${port} did not answer by TLS within ${timeoutMs / 1000} s`))
    const timer = setTimeout(late, timeoutMs)
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    let tls: TLSSocket | undefined
    signal?.addEventListener('abort', abort)
    if (signal?.aborted) return abort()
    try {
      tls = secureConnect({
        socket,
        secureContext: contextOf(files),
        rejectUnauthorized: files.ca !== '',
        ...(isIP(host) === 0 ? { servername: host } : {}),
        ...(files.ca === '' ? { checkServerIdentity: () => undefined } : { host }),
      })
    } catch (error) {
      return fail(new ConnectError((error as Error).message, { cause: error }))
    }
    let agreed = false
    tls.on('error', (error) => {
      if (!agreed) fail(explained(error, peer))
    })
    tls.once('close', () => {
      if (!agreed) fail(new ConnectError(`${host}:${port} closed the connection instead of speaking TLS`))
    })
    tls.once('secureConnect', () => {
      agreed = true
      done()
      resolve(tls as TLSSocket)
    })
  })
}

/** By TLS 1.3 a server says that it wants a certificate when we take the connection for made: what then ends it. */
export function explainLoss(error: unknown, peer: TlsPeer): unknown {
  const { cause } = error as Error
  const { code = '' } = (cause ?? {}) as NodeJS.ErrnoException
  return error instanceof ConnectError && code.startsWith('ERR_SSL') ? explained(cause as Error, peer) : error
}

const contexts = new Map<string, SecureContext>()

/** To read whom the system trusts takes 10 ms and more: what has been read is kept until a file changes. */
function contextOf({ ca, certificate, key = certificate }: TlsFiles): SecureContext {
  const roots = ca === undefined ? SYSTEM_ROOTS.find((file) => existsSync(file)) : ca || undefined
  const state = JSON.stringify([roots, certificate, key].map((file) => file && [file, statSync(file).mtimeMs]))
  const known = contexts.get(state)
  if (known !== undefined) return known
  const context = createSecureContext({
    minVersion: 'TLSv1.2',
    ...(roots !== undefined && { ca: readPem(roots, 'CERTIFICATE') }),
    ...(certificate !== undefined && { cert: readPem(certificate, 'CERTIFICATE') }),
    ...(key !== undefined && { key: readPem(key, 'PRIVATE KEY') }),
  })
  if (contexts.size >= CONTEXTS_MAX) contexts.clear()
  contexts.set(state, context)
  return context
}

function readPem(file: string, what: string): Buffer {
  if (statSync(file).size > PEM_MAX) throw new Error(`${file}: longer than ${PEM_MAX} bytes`)
  const bytes = readFileSync(file)
  if (!bytes.includes(`${what}-----`)) throw new Error(`${file}: there is no ${what} in it; PEM is wanted`)
  return bytes
}

/** One line for what the handshake met: what is wrong, where, and how to mend it. */
function explained(error: Error, { host, port, files }: TlsPeer): Error {
  const where = `${host}:${port}`
  const { code = '', message } = error as NodeJS.ErrnoException
  const refused = (text: string) => new RemoteError('refused', text, RERR.STARTCLIENT)
  const { cert } = error as { cert?: { valid_from?: string; valid_to?: string; subjectaltname?: string } }
  switch (code) {
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return refused(
        `the certificate of ${where} is not for ${host}, but for ${cert?.subjectaltname ?? 'no name'}: name the host as its certificate does, or give it another certificate`,
      )
    case 'CERT_HAS_EXPIRED':
      return refused(`the certificate of ${where} has expired: renew it there (or mend the clock here)`)
    case 'CERT_NOT_YET_VALID':
      return refused(`the certificate of ${where} is not valid yet: mend the clock here, or there`)
    case 'CERT_REVOKED':
      return refused(`the certificate of ${where} was revoked: it needs another one`)
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      return refused(
        `the certificate of ${where} is signed by nobody whom ${files.ca || 'this system'} trusts: name the file of its CA as RSYNC_SSL_CA_CERT (tls: ca in a configuration)`,
      )
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return refused(`${where} does not speak TLS: name its TLS port (874), or write rsync:// for no TLS`)
  }
  if (/ALERT_(CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN)/.test(code)) {
    const own = files.certificate === undefined ? 'it may want a certificate' : `it does not take ${files.certificate}`
    return refused(
      `${where} refuses us by TLS (${alertOf(code)}): ${own}; name one as RSYNC_SSL_CERT and RSYNC_SSL_KEY (tls: certificate, key in a configuration)`,
    )
  }
  return new ConnectError(`${where}: TLS failed: ${message || code}`, { cause: error })
}

const alertOf = (code: string) =>
  code
    .replace(/^.*ALERT_/, '')
    .toLowerCase()
    .replaceAll('_', ' ')
