// The stage, the stock daemon and the program under test are those of the whole-system tests. They are loaded from
// where the compiler puts them: a plain import cannot name both their source (for types) and their output (to run).
import type * as daemon from '../test/support/daemon.js'
import type * as eventually from '../test/support/eventually.js'
import type * as history from '../test/support/history.js'
import type * as sample from '../test/support/sample.js'
import type * as stage from '../test/support/stage.js'
import type * as syncline from '../test/support/syncline.js'
import type * as proxy from '../test/support/tcp-proxy.js'
import type * as tree from '../test/support/tree.js'

const load = (name: string) => import(new URL(`../../test/dist/support/${name}.js`, import.meta.url).href)

export const { Daemon, STOCK, urlOf, versionOf }: typeof daemon = await load('daemon')
export const { sleep, until }: typeof eventually = await load('eventually')
export const { History }: typeof history = await load('history')
export const { content }: typeof sample = await load('sample')
export const { Stage }: typeof stage = await load('stage')
export const { MAIN, Syncline }: typeof syncline = await load('syncline')
export const { TcpProxy }: typeof proxy = await load('tcp-proxy')
export const { differences }: typeof tree = await load('tree')

export type Stage = stage.Stage
export type Syncline = syncline.Syncline
