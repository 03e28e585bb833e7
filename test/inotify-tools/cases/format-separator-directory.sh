# the names of an event on a directory, ISDIR last
. "$LIB"
mkdir d
start $INOTIFYWAIT -m --format '%e %:e [%f]' -e close_nowrite,create d
hold
ls d
release
mkdir d/s
expect 2
finish
