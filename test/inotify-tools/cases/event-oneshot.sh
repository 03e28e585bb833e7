# oneshot: one event per watch, and then the watch is gone
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e oneshot,create d
touch d/a d/b
expect 1
finish
