# @PATH keeps a directory of the tree from being watched
. "$LIB"
mkdir -p d/s/t d/u
for at in @d/s @d/s/ @d/s/t @./d/s "@$PWD/d/s" @d/u @d @ @d/nothing; do
  start $INOTIFYWAIT -mr -e create "$at" d
  touch d/s/a d/s/t/b d/u/c d/end
  until_true 'the last is seen' grep -q end "$out"
  finish
  rm d/s/a d/s/t/b d/u/c d/end
done
