# a new directory gets a row, when create is among the events
. "$LIB"
mkdir d
start $INOTIFYWATCH -r -e create d
mkdir d/n
watches 2
touch d/n/a d/n/b
finish
start $INOTIFYWATCH -r -e close_write d
mkdir d/n/m
touch d/n/m/a
touch d/n/b
finish
