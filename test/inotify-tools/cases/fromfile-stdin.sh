# - is standard input
. "$LIB"
mkdir d
echo d >list
stdin=list
start $INOTIFYWAIT -m -e create --fromfile -
touch d/a
expect 1
finish
stdin=/dev/null
run $INOTIFYWAIT --fromfile -
