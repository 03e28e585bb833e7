# and so does a directory's
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create,move_self d
mv d e
touch e/a
expect 2
finish
