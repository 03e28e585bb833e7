# a directory and a file in it: two lines
. "$LIB"
mkdir d
touch d/a
start $INOTIFYWAIT -m -e close_write d d/a
touch d/a
expect 2
finish
start $INOTIFYWAIT -m -e close_write d/a d
touch d/a
expect 2
finish
