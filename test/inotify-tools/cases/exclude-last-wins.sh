# the last of several patterns counts
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create --exclude a --exclude b d
touch d/a d/b d/c
expect 2
finish
start $INOTIFYWAIT -m -e create --include x --include y d
touch d/x d/y
expect 1
finish
