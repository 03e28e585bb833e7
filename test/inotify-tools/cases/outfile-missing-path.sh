# the file is made though nothing can be watched
. "$LIB"
run $INOTIFYWAIT -o log nofile
stat -c '%n %a %s' log
