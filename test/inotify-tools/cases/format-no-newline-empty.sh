# a result without any byte is a mistake in the format
. "$LIB"
touch f
start $INOTIFYWAIT -m --no-newline --format %f -e attrib f
touch f
ends
start $INOTIFYWAIT -m --format '' -e attrib f
touch f
finish
