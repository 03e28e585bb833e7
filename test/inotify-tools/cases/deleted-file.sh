# the deletion of a watched file: attrib comes first
. "$LIB"
touch f
start $INOTIFYWAIT f
rm f
ends
touch f
start $INOTIFYWAIT -m f
rm f
expect 2
finish
