// The one place of this package where native code is entered.
import koffi from 'koffi'

const libc = koffi.load(null)
const sysSocket = libc.func('int socket(int domain, int type, int protocol)')
const sysSendto = libc.func(
  'long sendto(int fd, void *data, size_t length, int flags, void *address, unsigned int size)',
)
const sysClose = libc.func('int close(int fd)')

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000
const PATH_MAX = 108 // of sockaddr_un

/** sd_notify(3): tells systemd, when it asked by NOTIFY_SOCKET, e.g. `READY=1`. Returns whether it was told. */
export function sdNotify(state: string): boolean {
  const path = process.env.NOTIFY_SOCKET
  if (path === undefined || !/^[@/]/.test(path) || Buffer.byteLength(path) >= PATH_MAX) return false
  const address = Buffer.alloc(2 + Buffer.byteLength(path) + (path.startsWith('/') ? 1 : 0))
  new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX
  address.write(path, 2)
  if (path.startsWith('@')) address[2] = 0 // an abstract socket
  const fd = sysSocket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) as number
  if (fd < 0) return false
  const data = Buffer.from(state)
  const sent = Number(sysSendto(fd, data, data.length, MSG_NOSIGNAL, address, address.length))
  sysClose(fd)
  return sent === data.length
}
