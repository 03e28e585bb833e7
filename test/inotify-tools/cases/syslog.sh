# -s: nothing on stderr but for mistakes in the options
. "$LIB"
mkdir d
run $INOTIFYWAIT -s -t 1 d
run $INOTIFYWAIT --syslog nofile
run $INOTIFYWAIT -s
run $INOTIFYWAIT -s -t abc d
run $INOTIFYWAIT -s --exclude '(' d
start_quiet 1 $INOTIFYWAIT -s d
touch d/a
ends
