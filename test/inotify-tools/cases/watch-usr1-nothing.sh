# USR1 before any event
. "$LIB"
mkdir d
start $INOTIFYWATCH -e create d
tell USR1
expect 3 "$err"
tell USR1
expect 4 "$err"
touch d/a
finish
