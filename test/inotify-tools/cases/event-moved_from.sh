# moved_from alone
. "$LIB"
mkdir d e
touch d/a e/b
start $INOTIFYWAIT -m -e moved_from d
mv d/a d/c
mv e/b d/b
mv d/b e/b
expect 2
finish
