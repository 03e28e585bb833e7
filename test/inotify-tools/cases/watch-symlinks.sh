# links, with and without -P
. "$LIB"
mkdir d
ln -s d link
start $INOTIFYWATCH -e create link
touch d/a
finish
start $INOTIFYWATCH -P link
touch d/b
touch -h link
finish
start $INOTIFYWATCH --recursive --no-dereference -e create link
touch d/c
finish
