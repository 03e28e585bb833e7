# asked for, it exits 0
. "$LIB"
touch f
start $INOTIFYWAIT -e delete_self f
rm f
ends
