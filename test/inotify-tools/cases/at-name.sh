# a name that begins with @
. "$LIB"
mkdir @q
run $INOTIFYWAIT -t 1 @q
run $INOTIFYWAIT -t 1 -- @q
start $INOTIFYWAIT -m -e create ./@q
touch @q/a
expect 1
finish
