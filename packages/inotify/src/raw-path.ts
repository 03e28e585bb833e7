/**
 * A path relative to the root, one char per byte (latin1): lossless for any name Linux allows, a Map key, and `<` is
 * memcmp order. '' is the root itself; there is no leading or trailing slash.
 */
export type RawPath = string & { readonly __bytes: 'latin1' }

export const ROOT = '' as RawPath

export const fromBytes = (bytes: Buffer): RawPath => bytes.toString('latin1') as RawPath

/** What node:fs takes. */
export const toBytes = (path: RawPath): Buffer => Buffer.from(path, 'latin1')

export const join = (directory: RawPath, name: RawPath): RawPath =>
  directory === ROOT ? name : (`${directory}/${name}` as RawPath)

/** Whether an absolute path is this directory, or below it. */
export const isWithin = (path: RawPath, directory: RawPath): boolean =>
  path === directory || path.startsWith(directory === '/' ? directory : `${directory}/`)

/** Whether this directory, or one that it is in, is left out. */
export function isExcluded(path: RawPath, exclude?: (path: RawPath, isDir: boolean) => boolean): boolean {
  if (exclude === undefined || path === ROOT) return false
  for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1))
    if (exclude(path.slice(0, at) as RawPath, true)) return true
  return exclude(path, true)
}

/** The path as a person may read it: UTF-8, with control characters escaped so that it stays on its line. */
export const printable = (path: RawPath): string =>
  toBytes(path)
    .toString('utf8')
    .replace(/[\u0000-\u001f\u007f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
