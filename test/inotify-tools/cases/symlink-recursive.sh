# -r follows a link on the command line, with -P too, and none below
. "$LIB"
mkdir -p d/s e
ln -s d link
ln -s ../e d/elink
start $INOTIFYWAIT -mr -e create link
touch d/a d/s/b e/c
ln -s ../e d/elink2
touch e/d
expect 3
finish
start $INOTIFYWAIT -mrP -e create link
touch d/s/c
expect 1
finish
