# a negative time-out is none
. "$LIB"
mkdir d
start $INOTIFYWAIT -t -1 d
sleep 1.5
touch d/a
ends
