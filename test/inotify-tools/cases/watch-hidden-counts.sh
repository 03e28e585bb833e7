# total counts what has no column: a watch that is gone
. "$LIB"
mkdir d
touch f g
start $INOTIFYWATCH -e modify f g
rm f
echo x >>g
finish
start $INOTIFYWATCH -e delete_self d g
rmdir d
rm g
finish
