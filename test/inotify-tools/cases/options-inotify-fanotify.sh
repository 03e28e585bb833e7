# inotifywait takes -I though its help does not list it
. "$LIB"
mkdir d
run $INOTIFYWAIT -I -t 1 d
run $INOTIFYWAIT --inotify -t 1 d
run $INOTIFYWATCH -I -t 1 d
