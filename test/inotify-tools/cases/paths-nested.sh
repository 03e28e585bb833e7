# -r on a tree and on a part of it
. "$LIB"
mkdir -p d/s/t
for paths in 'd d/s' 'd/s d' 'd/s d ./d/s/t'; do
  start $INOTIFYWAIT -mr -e create $paths
  touch d/a d/s/b d/s/t/c
  expect 3
  finish
  rm d/a d/s/b d/s/t/c
done
