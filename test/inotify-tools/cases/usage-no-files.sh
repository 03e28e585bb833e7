# nothing to watch
. "$LIB"
run $INOTIFYWAIT
run $INOTIFYWAIT -m -q
run $INOTIFYWAIT @x
run $INOTIFYWAIT ''
run $INOTIFYWAIT '' ''
run $INOTIFYWATCH
run $INOTIFYWATCH -v @x
