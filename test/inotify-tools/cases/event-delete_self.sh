# delete_self, of a directory and of a file
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -e delete_self d f
rmdir d
rm f
expect 2
finish
start $INOTIFYWAIT -m -e delete_self .
finish
