# the first event of any path
. "$LIB"
mkdir d e
touch f
start $INOTIFYWAIT -e attrib d f e
chmod 700 f
ends
