# three columns; several names of events are quoted
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -c -e close_write,create,move_self,attrib d f
touch d/a
mkdir d/s
touch f
mv f g
expect 7
finish
