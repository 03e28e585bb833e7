# one inode has one watch and the name that came first
. "$LIB"
mkdir d
touch f
ln f g
start $INOTIFYWAIT -m -e create d d
touch d/a
expect 1
finish
start $INOTIFYWAIT -m -e create ./d d d/.
touch d/b
expect 1
finish
start $INOTIFYWAIT -m -e close_write g f
touch f
expect 1
touch g
expect 2
finish
