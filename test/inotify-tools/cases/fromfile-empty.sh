# no path in the list
. "$LIB"
: >list
run $INOTIFYWAIT --fromfile list
printf '\n\n' >list
run $INOTIFYWAIT --fromfile list
printf '@d\n' >list
run $INOTIFYWAIT --fromfile list
run $INOTIFYWAIT --fromfile list --fromfile list
run $INOTIFYWATCH --fromfile list --fromfile list
