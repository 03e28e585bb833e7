# with all events its own look into the new directory is seen
. "$LIB"
mkdir d
start $INOTIFYWAIT -mr d
mkdir d/n
watches 2
touch d/n/a
expect 8
finish
