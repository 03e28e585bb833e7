# attrib: chmod, touch, a link count, on a file and on a directory
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -e attrib d f
chmod 700 f
expect 1
ln f g
expect 2
rm g
expect 3
chmod 700 d
expect 4
touch f
expect 5
finish
