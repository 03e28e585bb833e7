# no events at all
. "$LIB"
mkdir d
run $INOTIFYWATCH -t 1 d
run $INOTIFYWATCH -z -v -t 1 d
start $INOTIFYWATCH d
finish
