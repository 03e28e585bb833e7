# a format that is too long ends -m as well
. "$LIB"
mkdir d
start $INOTIFYWAIT -m --format "$(repeat 5000 x)" -e create d
touch d/a
ends
