# a result that is longer than its format: it is cut
. "$LIB"
mkdir d
start $INOTIFYWAIT --format "$(repeat 800 '%e|')" -e create d
touch d/a
ends
start $INOTIFYWAIT --format "$(repeat 4000 x)%%%n%%|" -e create d
touch d/b
ends
