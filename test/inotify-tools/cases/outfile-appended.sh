# it is appended to and keeps its permissions; a new one gets 600
. "$LIB"
mkdir d
echo old >log
chmod 644 log
start $INOTIFYWAIT --outfile log -e create d
touch d/a
ends
cat log
umask 0
start $INOTIFYWAIT -o log2 -e create d
touch d/b
ends
cat log2
stat -c '%n %a' log log2
