/** util1.c unsafe_symlink(): whether `target`, in a symlink at `path` below the top of the transfer, leads out of it. */
export function isUnsafeSymlink(target: string, path: string): boolean {
  if (target === '' || target.startsWith('/')) return true
  // After a name `..` may lead anywhere: the name may be a symlink itself.
  const parts = target.split('/').filter((part) => part !== '' && part !== '.')
  const ups = parts.findIndex((part) => part !== '..')
  if (ups >= 0 && parts.slice(ups).includes('..')) return true
  let depth = 0
  for (const part of path.split('/').slice(0, -1)) {
    if (part === '..') depth = 0
    else if (part !== '' && part !== '.') depth++
  }
  return (ups < 0 ? parts.length : ups) > depth
}
