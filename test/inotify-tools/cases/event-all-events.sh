# all_events is a name too
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e all_events d
touch d/a
expect 4
finish
