import { readFileSync } from 'node:fs'
import { unescaped } from './mounts.js'
import { isWithin, type RawPath } from './raw-path.js'

/** What exportfs(8) keeps of what the NFS server of this kernel exports: a path and a client in each line. */
const ETAB = '/var/lib/nfs/etab'

/** Whether an absolute path without symbolic links is exported by NFS, or has something in it that is. */
export function isExported(path: RawPath): boolean {
  return exportedPaths().some((exported) => isWithin(path, exported) || isWithin(exported, path))
}

function exportedPaths(): RawPath[] {
  let text: string
  try {
    text = readFileSync(ETAB, 'latin1')
  } catch {
    return [] // no NFS server here
  }
  const paths = text.split('\n').map((line) => line.split('\t', 1)[0]!)
  return paths.filter((path) => path.startsWith('/')).map(unescaped)
}
