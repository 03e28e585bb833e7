# --timefmt with a format that has no %T
. "$LIB"
mkdir d
start $INOTIFYWAIT --timefmt %Y --format %f -e create d
touch d/a
ends
