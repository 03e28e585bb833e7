# long forms of the common options
. "$LIB"
mkdir d
start $INOTIFYWAIT --monitor --recursive --event create --event=delete --no-dereference d
touch d/a
rm d/a
expect 2
finish
