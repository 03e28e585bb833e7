# -f and --filename were options once
. "$LIB"
run $INOTIFYWAIT -f d
run $INOTIFYWAIT --filename d
run $FSNOTIFYWAIT --filename d
run $INOTIFYWATCH --filename d
