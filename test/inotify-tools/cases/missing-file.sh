# a path that does not exist ends it, also when others do exist
. "$LIB"
touch f
run $INOTIFYWAIT nofile
run $INOTIFYWAIT f nofile
run $INOTIFYWAIT -q nofile f
run $INOTIFYWAIT -qq nofile
run $INOTIFYWAIT -r nofile
run $INOTIFYWAIT -- -f
run $INOTIFYWAIT f/
run $INOTIFYWAIT f/x
run $INOTIFYWATCH nofile
run $INOTIFYWATCH -v -r f nofile
