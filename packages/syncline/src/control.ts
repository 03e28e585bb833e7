import { closeSync, openSync, rmSync } from 'node:fs'
import { type IncomingMessage, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { ConfigError } from './errors.js'
import type { GuardedPath } from './guarded.js'
import type { Mirror, MirrorStatus } from './mirror.js'
import type { HttpAddress } from './options.js'

const SOCKET = 'control.sock'
const ANSWER_MAX = 64 << 20
const ANSWER_MS = 5_000
const CONNECTIONS_MAX = 64

/** What may be asked of running mirrors. Only who may enter the state directory may also command. */
function api(mirrors: readonly Mirror[], mayCommand: boolean): Hono {
  const app = new Hono()
  app.get('/status', (c) => c.json({ instances: mirrors.map((mirror) => mirror.status()) }))
  if (!mayCommand) return app
  app.post('/resume', (c) => {
    try {
      return c.json({ resumed: mirrors.flatMap((mirror) => mirror.resume(c.req.query('target'))) })
    } catch (error) {
      return c.json({ error: (error as Error).message }, 409)
    }
  })
  return app
}

/** Serves the control socket of a mirror in its state directory. */
export const serveControl = (mirror: Mirror, directory: string) => serveSocket(api([mirror], true), directory)

/** Serves the control socket of all guards. */
export function serveGuards(guards: readonly GuardedPath[], directory: string): Promise<Server> {
  const app = new Hono()
  app.post('/accept', (c) => {
    const path = c.req.query('path')
    const chosen = guards.filter((guard) => path === undefined || guard.name === path)
    try {
      for (const guard of chosen) guard.accept()
    } catch (error) {
      return c.json({ error: (error as Error).message }, 409)
    }
    return c.json({ accepted: chosen.map(({ name }) => name) })
  })
  return serveSocket(app, directory)
}

async function serveSocket(app: Hono, directory: string): Promise<Server> {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  // The path of a socket holds 107 bytes; by way of a descriptor any directory is near.
  const fd = openSync(directory, 'r')
  try {
    rmSync(join(directory, SOCKET), { force: true })
    await listening(server, () => server.listen({ path: `/proc/self/fd/${fd}/${SOCKET}` }))
  } finally {
    closeSync(fd)
  }
  return server
}

/** Serves status over TCP: reading only, commands need the control socket. */
export async function serveHttp(mirrors: readonly Mirror[], address: HttpAddress): Promise<Server> {
  const app = api(mirrors, false)
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  server.maxConnections = CONNECTIONS_MAX
  try {
    await listening(server, () => server.listen(address))
  } catch (error) {
    throw new ConfigError(`--http: ${(error as Error).message}`)
  }
  return server
}

export const addressOf = (server: Server) => server.address() as AddressInfo

function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.once('listening', () => {
      server.off('error', reject)
      resolve()
    })
    listen()
  })
}

export const askStatus = (directory: string) =>
  ask(directory, 'GET', '/status') as Promise<{ instances: MirrorStatus[] }>

export function askResume(directory: string, target: string | undefined): Promise<{ resumed: string[] }> {
  const query = target === undefined ? '' : `?target=${encodeURIComponent(target)}`
  return ask(directory, 'POST', `/resume${query}`) as Promise<{ resumed: string[] }>
}

export function askAccept(directory: string, path: string | undefined): Promise<{ accepted: string[] }> {
  const query = path === undefined ? '' : `?path=${encodeURIComponent(path)}`
  return ask(directory, 'POST', `/accept${query}`) as Promise<{ accepted: string[] }>
}

/** One question to the mirror of a state directory. Rejects when it is not running, or with what it said. */
async function ask(directory: string, method: string, path: string): Promise<unknown> {
  const fd = openSync(directory, 'r')
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const socketPath = `/proc/self/fd/${fd}/${SOCKET}`
      // No agent: it would keep the connection, and take it again for another directory that gets the same descriptor.
      const asked = request({ socketPath, method, path, timeout: ANSWER_MS, agent: false }, resolve)
      asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_MS / 1000} s`)))
      asked.on('error', reject)
      asked.end()
    })
    const chunks: Buffer[] = []
    let length = 0
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > ANSWER_MAX) throw new Error('the answer is too long')
      chunks.push(chunk)
    }
    const answer = JSON.parse(Buffer.concat(chunks).toString()) as { error?: string }
    if (response.statusCode !== 200) throw new Error(answer.error ?? `status ${response.statusCode}`)
    return answer
  } finally {
    closeSync(fd)
  }
}
