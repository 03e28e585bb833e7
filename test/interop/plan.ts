import type { Case, Direction, Group, Transport } from './case.js'
import { attributes } from './cases/attributes.js'
import { comparing } from './cases/comparing.js'
import { deleting } from './cases/deleting.js'
import { modules } from './cases/modules.js'
import { names, operands, output } from './cases/operands.js'
import { selecting } from './cases/selecting.js'
import { transferring, writing } from './cases/transferring.js'
import type { Pair } from './cell.js'
import { atLeast, CURRENT, OURS, PEERS, type Side, speaks } from './sides.js'

export const GROUPS: readonly Group[] = [
  attributes,
  comparing,
  transferring,
  writing,
  deleting,
  selecting,
  operands,
  names,
  output,
  modules,
]

export const PROTOCOLS = [32, 31, 30] as const

/** What of ours takes part; both: at either end. */
export const ROLES = ['client', 'server', 'both'] as const
export type Role = (typeof ROLES)[number]

/** All cases that run between the same two programs in the same way. */
export interface Block extends Pair {
  role: Role
  peer: Side
  cells: readonly { group: string; one: Case; id: string }[]
}

/** The whole matrix, in the order in which it runs. */
export function blocks(): Block[] {
  const remote = ROLES.flatMap((role) =>
    (['rsh', 'daemon'] as const).flatMap((transport) =>
      peersOf(role).flatMap((peer) =>
        PROTOCOLS.filter((protocol) => speaks(peer, protocol)).flatMap((protocol) =>
          (['push', 'pull'] as const).map((direction) => block(role, transport, peer, direction, protocol)),
        ),
      ),
    ),
  )
  return [...remote, block('both', 'local', OURS, 'push', 32)]
}

const peersOf = (role: Role) => (role === 'both' ? [OURS] : PEERS)

function block(role: Role, transport: Transport, peer: Side, direction: Direction, protocol: number): Block {
  const client = role === 'server' ? peer : OURS
  const server = role === 'client' ? peer : OURS
  const pair: Pair = { transport, client, server, direction, protocol }
  const cells = GROUPS.flatMap((group) =>
    group.cases
      .filter((one) => belongs(one, pair, role, peer))
      .map((one) => ({ group: group.name, one, id: `${title(role, pair, peer)} ${group.name}: ${one.name}` })),
  )
  return { ...pair, role, peer, cells }
}

/**
 * Everything runs with the current stock rsync at the protocol that both prefer, for our client through a remote shell and
 * for our server as a daemon, and as a local copy. Elsewhere, where the same code meets the same messages, the essential
 * cases of every group do; what is about a daemon's modules also runs with our client.
 */
function belongs(one: Case, { transport, direction, protocol }: Pair, role: Role, peer: Side): boolean {
  const all = role === (transport === 'rsh' ? 'client' : 'server') || one.module !== undefined
  const whole = transport === 'local' || (peer === CURRENT && protocol === PROTOCOLS[0] && all)
  return (
    (whole || one.essential === true) &&
    (one.since === undefined || atLeast(peer, one.since)) &&
    (one.transports === undefined || one.transports.includes(transport)) &&
    (one.directions === undefined || one.directions.includes(direction))
  )
}

/** The stock programs in the same places. */
export function stockPair({ transport, client, server, direction, protocol }: Pair): Pair {
  const stock = (side: Side) => (side === OURS ? CURRENT : side)
  return { transport, client: stock(client), server: stock(server), direction, protocol }
}

export function title(role: Role, { transport, direction, protocol }: Pair, peer: Side): string {
  const ours = { client: 'our client', server: transport === 'daemon' ? 'our daemon' : 'our --server', both: 'ours' }[
    role
  ]
  const way =
    transport === 'local' ? 'a local copy' : `${direction}, ${transport === 'rsh' ? 'remote shell' : 'daemon'}`
  return `${ours} with ${peer.name}, ${way}, protocol ${protocol}`
}
