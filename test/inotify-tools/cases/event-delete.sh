# delete: a file and a directory
. "$LIB"
mkdir -p d/s
touch d/a
start $INOTIFYWAIT -m -e delete d
rm d/a
rmdir d/s
expect 2
finish
