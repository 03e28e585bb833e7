/** token.c: names whose content is compressed already; the default list of rsync(1) --skip-compress. */
const SUFFIXES =
  '3g2 3gp 7z aac ace apk avi bz2 deb dmg ear f4v flac flv gpg gz iso jar jpeg jpg lrz lz lz4 lzma lzo m1a m1v m2a m2ts m2v m4a m4b m4p m4r m4v mka mkv mov mp1 mp2 mp3 mp4 mpa mpeg mpg mpv mts odb odf odg odi odm odp ods odt oga ogg ogm ogv ogx opus otg oth otp ots ott oxt png qt rar rpm rz rzip spx squashfs sxc sxd sxg sxm sxw sz tbz tbz2 tgz tlz ts txz tzo vob war webm webp xz z zip zst'.split(
    ' ',
  )

/** Whether to spend no time on a file: `skip` is --skip-compress (suffixes between slashes), `patterns` a module's. */
export function incompressible(skip: string | null, patterns = ''): (path: string) => boolean {
  if (patterns.trim() === '*') return () => true
  const suffixes = new Set(skip === null ? SUFFIXES : skip.toLowerCase().split('/'))
  return (path) => {
    const dot = path.lastIndexOf('.')
    return dot > path.lastIndexOf('/') && suffixes.has(path.slice(dot + 1).toLowerCase())
  }
}
