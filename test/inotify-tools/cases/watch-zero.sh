# -z shows every row and column of zeros
. "$LIB"
mkdir d e
touch f
start $INOTIFYWATCH -z d e f
touch d/a
finish
start $INOTIFYWATCH --zero -e modify,open,delete d f
touch d/b
finish
