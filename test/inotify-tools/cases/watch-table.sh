# the table: columns that have something, and rows
. "$LIB"
mkdir d e
touch f
start $INOTIFYWATCH d e f
touch d/a
touch f
finish
