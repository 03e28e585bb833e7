# the top itself is renamed: its name stays
. "$LIB"
mkdir -p d/s
start $INOTIFYWAIT -mr -e create,move,move_self d
mv d e
touch e/1 e/s/2
expect 3
finish
