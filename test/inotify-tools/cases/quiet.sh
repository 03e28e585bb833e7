# -q: only events; -qq: nothing; the exit code tells
. "$LIB"
mkdir d
start_quiet 1 $INOTIFYWAIT -q d
touch d/a
ends
start_quiet 1 $INOTIFYWAIT -qq d
touch d/b
ends
start_quiet 1 $INOTIFYWAIT --quiet --quiet d
touch d/c
ends
start_quiet 1 $INOTIFYWAIT -q -m -e create d
touch d/d
expect 1
finish
