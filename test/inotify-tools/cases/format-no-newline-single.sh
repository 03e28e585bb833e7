# nothing is put behind a single event
. "$LIB"
mkdir d
start $INOTIFYWAIT --no-newline --format '%e' -e create d
touch d/a
ends
start $INOTIFYWAIT --no-newline --format '' -e create d
touch d/b
ends
