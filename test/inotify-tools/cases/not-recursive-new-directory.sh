# -m without -r looks no deeper
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create d
mkdir d/n
expect 1
touch d/n/a
touch d/b
expect 2
finish
