# -t ends it, whatever happens meanwhile
. "$LIB"
mkdir d e
start $INOTIFYWATCH -t 2 -e create d e
touch d/a
ends
start $INOTIFYWATCH --verbose --timeout 1 d
ends
