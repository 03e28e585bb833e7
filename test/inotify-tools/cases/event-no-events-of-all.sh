# -e '' is like no -e
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e '' d
touch d/a
expect 4
finish
