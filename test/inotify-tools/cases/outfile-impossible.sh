# a missing directory, a directory; a dangling link is made
. "$LIB"
mkdir d
ln -s target link
run $INOTIFYWAIT -o nodir/log -t 1 d
run $INOTIFYWAIT -o d -t 1 d
run $INOTIFYWAIT -q -o nodir/log -t 1 d
run $INOTIFYWAIT -o link -t 1 d
stat -c '%n %a %s' target
