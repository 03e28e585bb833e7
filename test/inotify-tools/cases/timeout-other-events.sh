# what was not asked for does not
. "$LIB"
mkdir d
touch d/a
start $INOTIFYWAIT -t 3 -e create d
sleep 1
chmod 700 d/a
sleep 1
chmod 755 d/a
ends
