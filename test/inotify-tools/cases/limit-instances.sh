# no instance at all
. "$LIB"
in_user_namespace
mkdir d
echo 0 >/proc/sys/user/max_inotify_instances
run $INOTIFYWAIT -t 1 d
run $INOTIFYWAIT -qq -t 1 d
run $INOTIFYWAIT -s nofile
run $INOTIFYWAIT nofile
run $INOTIFYWAIT
run $INOTIFYWATCH -t 1 d
run $INOTIFYWATCH nofile
