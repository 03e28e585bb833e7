# absolute paths, and back up and down again
. "$LIB"
mkdir d
start $INOTIFYWAIT -mr -e create "$PWD"
touch d/a
expect 1
finish
start $INOTIFYWAIT -m -e create "../${PWD##*/}/d"
touch d/b
expect 1
finish
