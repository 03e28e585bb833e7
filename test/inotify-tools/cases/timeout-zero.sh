# -t 0 is no time-out
. "$LIB"
mkdir d
start $INOTIFYWAIT -t 0 d
sleep 1.5
touch d/a
ends
