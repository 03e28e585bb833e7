# with -m it stays even when no watch is left
. "$LIB"
touch f g
start $INOTIFYWAIT -m -e modify f
rm f
finish
touch f
start $INOTIFYWAIT -m -e modify f g
rm f
echo x >>g
expect 1
finish
