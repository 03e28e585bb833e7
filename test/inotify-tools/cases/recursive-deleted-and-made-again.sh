# a directory of the tree goes and comes again
. "$LIB"
mkdir -p d/s
start $INOTIFYWAIT -mr -e create,delete d
rmdir d/s
expect 1
mkdir d/s
watches 2
touch d/s/a
expect 3
finish
