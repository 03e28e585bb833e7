/**
 * util1.c sanitize_path(): a path that stays where it is put. A slash in front goes, and so does each `..` that would lead
 * above; `depth` of them are allowed at the start, for a symlink that lies so deep.
 */
export function sanitizePath(path: string, depth: number): string {
  const names: string[] = []
  let ups = path.startsWith('/') ? 0 : depth
  let kept = 0
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue
    if (name !== '..') names.push(name)
    else if (names.length > kept) names.pop()
    else if (ups > 0) {
      ups--
      names.push(name)
      kept++
    }
  }
  const joined = names.join('/')
  return joined === '' ? '.' : path.endsWith('/') ? `${joined}/` : joined
}
