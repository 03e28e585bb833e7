# a directory of the tree is renamed
. "$LIB"
mkdir -p d/a/s
start $INOTIFYWATCH -r -e create,move d
touch d/a/1 d/a/s/2 d/a/s/3
mv d/a d/b
idle
touch d/b/4
finish
