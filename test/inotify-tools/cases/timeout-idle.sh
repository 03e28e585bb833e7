# nothing happens for a second: exit 2, with -m too
. "$LIB"
mkdir d
run $INOTIFYWAIT -t 1 d
run $INOTIFYWAIT -m -t 1 d
run $INOTIFYWAIT -q -t 1 d
run $INOTIFYWAIT -qq -t 1 d
run $INOTIFYWAIT -r --timeout 1 d
