# from one watched tree to another and back
. "$LIB"
mkdir -p d/s e
start $INOTIFYWAIT -mr -e create,move d e
mv d/s e/s
expect 2
touch e/s/1
expect 3
mv e/s d/t
expect 5
touch d/t/2
expect 6
finish
