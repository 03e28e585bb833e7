# a dangling link cannot be watched, but for -P
. "$LIB"
ln -s nowhere link
run $INOTIFYWAIT -t 1 link
run $INOTIFYWAIT -r -t 1 link
run $INOTIFYWAIT -P -t 1 link
run $INOTIFYWATCH -t 1 link
