# -m without -r does not rename
. "$LIB"
mkdir -p d/a
start $INOTIFYWAIT -m -e create,move d d/a
mv d/a d/b
touch d/b/1
expect 3
finish
