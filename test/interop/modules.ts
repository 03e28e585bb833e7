const open = { 'use chroot': 'no', 'munge symlinks': 'no', 'read only': 'no', uid: 'root', gid: 'root' }

/** What the daemons of the matrix offer; each module is the same directory. */
export const MODULES: Record<string, Record<string, string>> = {
  plain: open,
  nobody: { ...open, uid: 'nobody', gid: 'nogroup' },
  chroot: { ...open, 'use chroot': 'yes' },
  munging: { ...open, 'munge symlinks': 'yes' },
  faking: { ...open, uid: 'nobody', gid: 'nogroup', 'fake super': 'yes' },
  incoming: { ...open, 'incoming chmod': 'D2750,F640' },
  outgoing: { ...open, 'outgoing chmod': 'Dgo-w,Fgo=' },
  excluding: { ...open, exclude: '*.o core', include: '/sub/' },
  reading: { ...open, 'read only': 'yes' },
  writing: { ...open, 'write only': 'yes' },
  refusing: { ...open, 'refuse options': 'delete compress checksum' },
  guarded: { ...open, 'auth users': 'user', 'secrets file': 'HOME/secrets' },
  numbering: { ...open, 'numeric ids': 'yes' },
  elsewhere: { ...open, 'hosts allow': '192.0.2.1', 'hosts deny': '*' },
  incompressible: { ...open, 'dont compress': '*' },
}
