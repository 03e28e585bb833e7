# the same without regard to case
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e create --includei '\.LOG$' d
touch d/b.log d/B.LoG d/c.txt
expect 2
finish
