# names of flags that are taken as events
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e isdir,create d
mkdir d/sub
touch d/a
expect 2
finish
for event in q_overflow ignored isdir; do run $INOTIFYWAIT -e $event -t 1 d; done
