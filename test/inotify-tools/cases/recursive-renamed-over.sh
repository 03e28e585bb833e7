# a directory moved over an empty one
. "$LIB"
mkdir -p d/a/x d/b/x
start $INOTIFYWAIT -mr -e create,move,delete d
mv -T d/a/x d/b/x
expect 2
touch d/b/x/1
expect 3
finish
