# -r without -m: the first event; new directories are not watched
. "$LIB"
mkdir -p d/s
start $INOTIFYWAIT -r -e modify d
mkdir d/n
touch d/n/a
echo x >>d/n/a
echo x >>d/s/a
ends
