/** A Linux path, one char per byte (latin1): lossless, a Map key, and `<` is memcmp order. '' is the root itself. */
export type RawPath = string & { readonly __bytes: 'latin1' }

export const fromBytes = (bytes: Buffer): RawPath => bytes.toString('latin1') as RawPath

export const toBytes = (path: string): Buffer => Buffer.from(path, 'latin1') // what node:fs takes

export const join = (dir: RawPath, name: string): RawPath => (dir === '' ? name : `${dir}/${name}`) as RawPath

/** The directory that holds `path`; '' for an entry of the root. */
export function parent(path: RawPath): RawPath {
  const slash = path.lastIndexOf('/')
  return (slash < 0 ? '' : path.slice(0, slash)) as RawPath
}

/** A name as a person can read it on a terminal: UTF-8 where it is, `\#ooo` for what cannot be shown, as rsync does. */
export function printable(path: string): string {
  const text = toBytes(path).toString('utf8')
  // U+FFFD means that the bytes were not UTF-8; showing each byte is the only honest way then.
  const shown = text.includes('\ufffd') ? path : text
  return shown.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => `\\#${c.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
