# -e makes the columns
. "$LIB"
mkdir d
start $INOTIFYWATCH -e open,close -e create d
touch d/a
cat d/a
finish
start $INOTIFYWATCH -e move d
mv d/a d/b
finish
start $INOTIFYWATCH -z -e moved_to,close_write,access,unmount d
mv d/b d/a
finish
