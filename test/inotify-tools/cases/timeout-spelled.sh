# leading blanks and a sign are part of a number
. "$LIB"
mkdir d
run $INOTIFYWAIT -t ' 1' d
run $INOTIFYWAIT -t +1 d
run $INOTIFYWAIT -t 01 d
run $INOTIFYWAIT -t1 d
run $INOTIFYWAIT --timeout=1 d
run $INOTIFYWAIT -t abc -t 1 d
run $INOTIFYWAIT -t 5 -t 1 d
