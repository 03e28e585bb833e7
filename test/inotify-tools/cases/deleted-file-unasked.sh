# a watch that goes away though nobody asked: exit 1, silently
. "$LIB"
touch f
start $INOTIFYWAIT -e modify f
rm f
ends
touch f
start_quiet 1 $INOTIFYWAIT -q -e modify f
rm f
ends
mkdir d
start $INOTIFYWAIT -e create d
rmdir d
ends
