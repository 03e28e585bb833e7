# an excluded event starts the clock anew too
. "$LIB"
mkdir d
start $INOTIFYWAIT -t 4 -e create --exclude hidden d
sleep 2.5
touch d/hidden
sleep 2.5
touch d/b
ends
