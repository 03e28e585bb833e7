# rm -r of the watched tree
. "$LIB"
mkdir -p d/s/t
touch d/a d/s/b d/s/t/c
start $INOTIFYWAIT -mr -e delete,delete_self d
rm d/s/t/c
rm -r d/s
rm -r d
expect 8
finish
