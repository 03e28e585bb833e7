# MOVE_SELF shows the new name
. "$LIB"
mkdir d d/a
start $INOTIFYWAIT -mr d
mv d/a d/b
expect 3
touch d/b/1
expect 7
finish
