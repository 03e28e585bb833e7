# several renames in one read
. "$LIB"
mkdir d d/a
start $INOTIFYWAIT -mr -e create,move d
hold
mv d/a d/b
touch d/b/1
mv d/b d/c
touch d/c/2
release
expect 6
touch d/c/3
expect 7
finish
