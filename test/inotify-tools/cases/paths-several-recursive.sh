# -r on files and directories
. "$LIB"
mkdir -p d/s e
touch f
start $INOTIFYWAIT -mr -e close_write d f e
touch d/a
touch f
touch e/a
touch d/s/a
expect 4
finish
