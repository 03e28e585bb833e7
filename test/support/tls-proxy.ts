import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect } from 'node:net'
import { createServer, type Server, type TLSSocket } from 'node:tls'
import type { Stage } from './stage.js'

/** A certificate and its key, as files. */
export interface Certificate {
  certificate: string
  key: string
}

export interface CertificateOptions {
  /** Such as `DNS:localhost,IP:127.0.0.1`. */
  names?: string
  /** Until when it is good, in days; less than 0 for one that has expired. */
  days?: number
}

/** An authority of one's own, made with openssl. */
export class Authority {
  readonly file: string
  readonly #stage: Stage
  readonly #key: string

  constructor(stage: Stage, name = 'authority') {
    this.#stage = stage
    this.file = stage.path(`${name}.crt`)
    this.#key = stage.path(`${name}.key`)
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', this.#key, [
      ...['-out', this.file, '-subj', `/CN=${name}`, '-days', '2'],
    ])
  }

  issue(name: string, { names = 'DNS:localhost,IP:127.0.0.1', days = 2 }: CertificateOptions = {}): Certificate {
    const [certificate, key, request, config, index] = ['crt', 'key', 'csr', 'conf', 'index'].map((kind) =>
      this.#stage.path(`${name}.${kind}`),
    )
    writeFileSync(index, '')
    writeFileSync(config, configOf(this.#stage.root, index, names))
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, [
      ...['-out', request, '-subj', `/CN=${name}`],
    ])
    const dates = ['-startdate', asn1Time(-10), '-enddate', asn1Time(days)]
    openssl('ca', '-batch', '-notext', '-config', config, '-cert', this.file, '-keyfile', this.#key, [
      ...['-in', request, '-out', certificate],
      ...dates,
    ])
    return { certificate, key }
  }
}

const DAY_MS = 86_400_000
const asn1Time = (days: number) =>
  `${new Date(Date.now() + days * DAY_MS).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`

const configOf = (directory: string, index: string, names: string) => `
[ca]
default_ca = own
[own]
new_certs_dir = ${directory}
database = ${index}
default_md = sha256
rand_serial = yes
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
subjectAltName = ${names}
`

const openssl = (...args: (string | string[])[]) => execFileSync('openssl', args.flat(), { stdio: 'pipe' })

/** TLS in front of a daemon, as stunnel or haproxy do it. */
export class TlsProxy {
  connections = 0
  readonly #server: Server
  readonly #clients = new Set<TLSSocket>()

  private constructor(server: Server) {
    this.#server = server
  }

  /** `clients` is the authority whose certificates clients have to have. */
  static async start(stage: Stage, port: number, own: Certificate, clients?: Authority): Promise<TlsProxy> {
    const server = createServer({
      cert: readFileSync(own.certificate),
      key: readFileSync(own.key),
      ...(clients !== undefined && { ca: readFileSync(clients.file), requestCert: true, rejectUnauthorized: true }),
    })
    const proxy = new TlsProxy(server)
    server.on('secureConnection', (client) => {
      proxy.connections++
      const daemon = connect(port, '127.0.0.1')
      daemon.setNoDelay(true)
      client.setNoDelay(true)
      client.pipe(daemon).pipe(client)
      client.on('error', () => daemon.destroy())
      daemon.on('error', () => client.destroy())
      proxy.#clients.add(client)
      client.on('close', () => proxy.#clients.delete(client))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    stage.defer(() => {
      proxy.cutAll()
      server.close()
    })
    return proxy
  }

  /** Shows another certificate from now on, and ends what there is. */
  show(own: Certificate): void {
    this.#server.setSecureContext({ cert: readFileSync(own.certificate), key: readFileSync(own.key) })
    this.cutAll()
  }

  cutAll(): void {
    for (const client of this.#clients) client.destroy()
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }
}
