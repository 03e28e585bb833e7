# ignored: the end of a watch, printed when it was asked for
. "$LIB"
touch f
start $INOTIFYWAIT -e ignored f
rm f
ends
touch f
start $INOTIFYWAIT -m -e modify,ignored f
rm f
expect 1
finish
