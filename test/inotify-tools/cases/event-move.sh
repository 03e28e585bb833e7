# move is both halves
. "$LIB"
mkdir d e
touch d/a e/b
start $INOTIFYWAIT -m -e move d
mv d/a d/c
mv d/c e/d
mv e/b d/b
expect 4
finish
