# -e without create: it is watched, though not announced
. "$LIB"
mkdir d
start $INOTIFYWAIT -mr -e close_write d
mkdir d/n
watches 2
touch d/n/a
expect 1
mv d/n d/m
touch d/m/b
expect 2
finish
