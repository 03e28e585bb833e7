import * as kernel from '../kernel.js'

/** What to do when fanotify_init(2), or opening by handle, fails so; '' when nobody knows. */
export function mendInit(errno: number): string {
  if (errno === -kernel.ERRNO.EPERM) return '; it takes CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH (root has both)'
  if (errno === -kernel.ERRNO.EINVAL || errno === -kernel.ERRNO.ENOSYS) return '; it takes a kernel from 5.17 on'
  if (errno === -kernel.ERRNO.EMFILE) return '; raise fs.fanotify.max_user_groups, or ulimit -n'
  return ''
}

/** The same of fanotify_mark(2). */
export function mendMark(errno: number): string {
  if (errno === -kernel.ERRNO.EXDEV) return ' (a btrfs subvolume)'
  if (errno === -kernel.ERRNO.EOPNOTSUPP || errno === -kernel.ERRNO.ENODEV)
    return ' (this filesystem has no file handles)'
  return mendInit(errno)
}
