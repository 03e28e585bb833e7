# -r with create, single shot
. "$LIB"
mkdir d
start $INOTIFYWAIT -r d
mkdir d/n
ends
