# a negative time-out is none
. "$LIB"
mkdir d
start $INOTIFYWATCH -t -1 -e create d
sleep 1.5
touch d/a
finish
