# -P: the link itself is watched
. "$LIB"
mkdir d
touch f
ln -s d link
ln -s f flink
start $INOTIFYWAIT -m -P link flink
touch d/a f
rm link
expect 2
touch -h flink
expect 3
finish
