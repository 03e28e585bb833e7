# a directory is renamed: its watch and those below get the new name
. "$LIB"
mkdir -p d/a/s d/ab d/e
start $INOTIFYWAIT -mr -e create,move d
mv d/a d/b
expect 2
touch d/b/1 d/b/s/2 d/ab/3
expect 5
mv d/b d/e/c
expect 7
touch d/e/c/4 d/e/c/s/5
expect 9
finish
