# abbreviated options: ambiguous ones list what they could be
. "$LIB"
run $INOTIFYWAIT --ex x f
run $INOTIFYWAIT --f x f
run $INOTIFYWAIT --fi x f
run $INOTIFYWAIT --i x f
run $INOTIFYWAIT --no f
run $INOTIFYWAIT --time=1 f
run $INOTIFYWATCH --e x f
run $INOTIFYWATCH --f x f
run $INOTIFYWATCH --i x f
