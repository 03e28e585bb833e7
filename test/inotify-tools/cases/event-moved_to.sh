# moved_to alone
. "$LIB"
mkdir d e
touch d/a e/b
start $INOTIFYWAIT -m -e moved_to d
mv d/a d/c
mv d/c e/c
mv e/b d/b
expect 2
finish
