# a directory ends with a slash; what was written stays
. "$LIB"
mkdir -p d/s
for path in d d/ d// ./d .//d/. d/.. . ./ .. d/s/../s; do
  start $INOTIFYWAIT -m --format %w -e attrib "$path"
  chmod 700 d/s d . ..
  expect 1
  finish
  chmod 755 d/s d . ..
done
