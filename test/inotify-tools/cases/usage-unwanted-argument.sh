# options that take no argument
. "$LIB"
run $INOTIFYWAIT --help=x
run $INOTIFYWAIT --monitor=3 f
run $INOTIFYWATCH --zero=1 f
