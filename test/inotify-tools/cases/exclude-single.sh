# an excluded event does not end it
. "$LIB"
mkdir d
start $INOTIFYWAIT -e create --exclude a d
touch d/a d/b
ends
