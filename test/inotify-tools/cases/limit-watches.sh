# the limit on watches is reached
. "$LIB"
in_user_namespace
mkdir -p d/s
touch f
echo 1 >/proc/sys/user/max_inotify_watches
run $INOTIFYWAIT -t 1 d f
run $INOTIFYWAIT -r -t 1 d
run $INOTIFYWAIT -qq -t 1 d f
run $INOTIFYWAIT -s -t 1 d f
run $INOTIFYWATCH -r -v -t 1 d
run $INOTIFYWATCH -t 1 d f
