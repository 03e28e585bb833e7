# the watched directory is deleted, and made again: that is another one
. "$LIB"
mkdir d
start $INOTIFYWAIT -m d
rmdir d
expect 1
mkdir d
touch d/a
finish
