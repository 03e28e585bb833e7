# one inode, one row
. "$LIB"
mkdir d
touch f
ln f g
start $INOTIFYWATCH -v -e attrib d ./d f g
touch d/a
touch f
finish
