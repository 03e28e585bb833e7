# also when it is a directory below, with -r
. "$LIB"
mkdir -p d/s
start $INOTIFYWAIT -r -e modify d
rmdir d/s
ends
