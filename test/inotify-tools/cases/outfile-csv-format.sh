# -o with -c and with --format
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -c -e close_write -o log d
touch d/a
expect 1 log
finish
start $INOTIFYWAIT -m --format '%f<' -e close_write -o log d
touch d/b
expect 2 log
finish
cat log
