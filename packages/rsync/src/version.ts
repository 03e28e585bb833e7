/** The rsync whose behaviour this is; it ends the lines that say which rsync failed. */
export const RSYNC_VERSION = '3.5.0'
