# fsnotifywait -I is inotifywait
. "$LIB"
mkdir d
start $FSNOTIFYWAIT -I -m -e create d
touch d/a
expect 1
finish
run $FSNOTIFYWAIT --inotify -t 1 d
run $FSNOTIFYWAIT -I nofile
run $FSNOTIFYWAIT -Z
