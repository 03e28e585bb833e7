# what is named itself is watched all the same
. "$LIB"
mkdir -p d/s/t
start $INOTIFYWAIT -mr -e create @d/s d d/s
touch d/s/a d/s/t/b d/end
expect 3
finish
start $INOTIFYWAIT -m -e create @d d
touch d/b
expect 1
finish
