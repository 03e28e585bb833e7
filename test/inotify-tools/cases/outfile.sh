# -o: events go to a file, messages stay on stderr
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create -o log d
touch d/a
expect 1 log
finish
cat log
stat -c %a log
