import type { Output } from '../client-log.js'
export async function daemonCommand(_args: readonly string[], _output: Output): Promise<number> {
  return 1
}
