# a list that cannot be opened is told, and the rest is watched
. "$LIB"
mkdir d
run $INOTIFYWAIT --fromfile nofile
run $INOTIFYWAIT --fromfile nofile -t 1 d
run $INOTIFYWAIT -qq --fromfile nofile -t 1 d
run $INOTIFYWAIT -s --fromfile nofile -t 1 d
run $INOTIFYWAIT --fromfile d
run $INOTIFYWATCH --fromfile nofile
run $INOTIFYWATCH --fromfile nofile -t 1 d
