# move_self, of a file and of a directory
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -e move_self d f
mv d d2
mv f g
expect 2
touch d2/a g
mv g f
expect 3
finish
