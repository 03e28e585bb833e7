# unknown options, short, in a cluster and long
. "$LIB"
run $INOTIFYWAIT -Z f
run $INOTIFYWAIT -qZm f
run $INOTIFYWAIT --zzz f
run $INOTIFYWATCH -q f
run $INOTIFYWATCH -f f
run $INOTIFYWATCH --monitor f
