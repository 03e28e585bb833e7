# a directory that is made later is watched though it was excluded
. "$LIB"
mkdir d
start $INOTIFYWAIT -mr -e create @d/s d
mkdir d/s
watches 2
touch d/s/a
expect 2
finish
