# without -m the first event ends it, exit 0
. "$LIB"
mkdir d
start $INOTIFYWAIT d
touch d/a
ends
