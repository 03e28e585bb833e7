# a link up the tree is no trap
. "$LIB"
mkdir -p d/s
ln -s .. d/s/up
start $INOTIFYWAIT -mr -e create d
touch d/s/a
expect 1
finish
