# the out file must exist
. "$LIB"
mkdir d
run $INOTIFYWAIT -d -o log "$PWD/d"
run $INOTIFYWAIT -d -o "$PWD/log" "$PWD/d"
run $INOTIFYWAIT -d -q -o nodir/log "$PWD/d"
ln -s target link
run $INOTIFYWAIT -d -o link "$PWD/d"
ls
