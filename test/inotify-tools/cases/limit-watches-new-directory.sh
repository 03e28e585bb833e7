# it is reached by a new directory: told, and it goes on
. "$LIB"
in_user_namespace
mkdir d
echo 1 >/proc/sys/user/max_inotify_watches
start $INOTIFYWAIT -mr -e create d
mkdir d/s
expect 1
touch d/a
expect 2
finish
