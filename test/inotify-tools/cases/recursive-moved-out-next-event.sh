# the next event may be its own
. "$LIB"
mkdir -p d/in/s
start $INOTIFYWAIT -mr -e create,move d
mv d/in out
expect 1
touch out/1
expect 2
touch out/2
touch d/3
expect 3
finish
