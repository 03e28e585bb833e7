# a link to a directory is followed but gets no slash
. "$LIB"
mkdir d
ln -s d link
start $INOTIFYWAIT -m -e create link
touch d/a
expect 1
finish
start $INOTIFYWAIT -m --format %w%f -e create link/
touch d/b
expect 1
finish
start $INOTIFYWAIT -m -c -e create link d
touch d/c
expect 1
finish
