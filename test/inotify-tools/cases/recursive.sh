# -r: files at every depth
. "$LIB"
mkdir -p d/s/t e/u
start $INOTIFYWAIT -m -r -e create d e
touch d/1 d/s/2 d/s/t/3 e/4 e/u/5
expect 5
finish
