// Names and numbers as in rsync's headers, so that they can be looked up there.

export const PROTOCOL = { MIN: 30, MAX: 32 } as const
export const DEFAULT_PORT = 873

/** rsync.h enum msgcode: what a multiplexed frame carries. */
export const MSG = {
  DATA: 0,
  ERROR_XFER: 1,
  INFO: 2,
  ERROR: 3,
  WARNING: 4,
  ERROR_SOCKET: 5,
  LOG: 6,
  CLIENT: 7,
  ERROR_UTF8: 8,
  REDO: 9,
  STATS: 10,
  IO_ERROR: 22,
  IO_TIMEOUT: 33,
  NOOP: 42,
  ERROR_EXIT: 86,
  SUCCESS: 100,
  DELETED: 101,
  NO_SEND: 102,
  /** Ours alone: see rounds.ts. */
  FAILED: 110,
} as const
export const MPLEX_BASE = 7
export const FRAME_MAX = 0xffffff

/** compat.c: what both ends agreed on, sent by the server. */
export const CF = {
  INC_RECURSE: 1 << 0,
  SYMLINK_TIMES: 1 << 1,
  SYMLINK_ICONV: 1 << 2,
  SAFE_FLIST: 1 << 3,
  AVOID_XATTR_OPTIM: 1 << 4,
  CHKSUM_SEED_FIX: 1 << 5,
  INPLACE_PARTIAL_DIR: 1 << 6,
  VARINT_FLIST_FLAGS: 1 << 7,
  ID0_NAMES: 1 << 8,
  /** Ours alone: see rounds.ts. */
  LASTING: 1 << 20,
} as const

/** rsync.h: the flags in front of a file list entry. */
export const XMIT = {
  TOP_DIR: 1 << 0,
  SAME_MODE: 1 << 1,
  EXTENDED_FLAGS: 1 << 2,
  SAME_UID: 1 << 3,
  SAME_GID: 1 << 4,
  SAME_NAME: 1 << 5,
  LONG_NAME: 1 << 6,
  SAME_TIME: 1 << 7,
  SAME_RDEV_MAJOR: 1 << 8, // devices
  NO_CONTENT_DIR: 1 << 8, // directories
  HLINKED: 1 << 9,
  USER_NAME_FOLLOWS: 1 << 10,
  GROUP_NAME_FOLLOWS: 1 << 11,
  HLINK_FIRST: 1 << 12, // with HLINKED
  IO_ERROR_ENDLIST: 1 << 12, // with EXTENDED_FLAGS alone: the list ends, and it is not complete
  MOD_NSEC: 1 << 13,
} as const

/** rsync.h: what the generator says of a file. */
export const ITEM = {
  REPORT_ATIME: 1 << 0,
  REPORT_CHANGE: 1 << 1,
  REPORT_SIZE: 1 << 2,
  REPORT_TIME: 1 << 3,
  REPORT_PERMS: 1 << 4,
  REPORT_OWNER: 1 << 5,
  REPORT_GROUP: 1 << 6,
  REPORT_ACL: 1 << 7,
  REPORT_XATTR: 1 << 8,
  REPORT_CRTIME: 1 << 10,
  BASIS_TYPE_FOLLOWS: 1 << 11,
  XNAME_FOLLOWS: 1 << 12,
  IS_NEW: 1 << 13,
  LOCAL_CHANGE: 1 << 14,
  TRANSFER: 1 << 15,
} as const
/** With none of these there is nothing to tell of an item. */
export const SIGNIFICANT_ITEM_FLAGS = 0xffff & ~(ITEM.BASIS_TYPE_FOLLOWS | ITEM.XNAME_FOLLOWS | ITEM.LOCAL_CHANGE)

export const NDX_DONE = -1
export const NDX_FLIST_EOF = -2
export const NDX_DEL_STATS = -3
/** Below it: minus this, the index of the directory whose list follows. */
export const NDX_FLIST_OFFSET = -101

/** rsync.h enum fnamecmp_type: which file of the receiver's the blocks are of. */
export const FNAMECMP = {
  BASIS_DIR_LOW: 0,
  BASIS_DIR_HIGH: 0x7f,
  FNAME: 0x80,
  PARTIAL_DIR: 0x81,
  BACKUP: 0x82,
  FUZZY: 0x83,
} as const

/** rsync.h / errcode.h: exit codes, which are also what an operator's scripts test for. */
export const RERR = {
  OK: 0,
  SYNTAX: 1,
  PROTOCOL: 2,
  FILESELECT: 3,
  UNSUPPORTED: 4,
  STARTCLIENT: 5,
  SOCKETIO: 10,
  FILEIO: 11,
  STREAMIO: 12,
  MESSAGEIO: 13,
  IPC: 14,
  SIGNAL1: 19,
  SIGNAL: 20,
  MALLOC: 22,
  PARTIAL: 23,
  VANISHED: 24,
  DEL_LIMIT: 25,
  TIMEOUT: 30,
  CONTIMEOUT: 35,
  CMD_RUN: 126,
  CMD_NOTFOUND: 127,
} as const

export const BLOCK_SIZE = 700
export const BLOCK_LENGTH_MAX = 1 << 17 // MAX_BLOCK_SIZE since protocol 30
export const SUM_LENGTH_MAX = 16

export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000
