# --no-newline with NUL between names
. "$LIB"
mkdir d
start $INOTIFYWAIT -m --no-newline --format '%w%f%0' -e create d
touch d/a d/b
mkdir d/c
finish
