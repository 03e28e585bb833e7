# the longest name
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create d
touch "d/$(repeat 255 n)"
expect 1
finish
