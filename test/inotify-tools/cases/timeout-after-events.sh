# -m -t: the clock starts anew after each event
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -t 4 -e create d
sleep 2.5
touch d/a
sleep 2.5
touch d/b
ends
