# a tree is moved in from outside
. "$LIB"
mkdir -p d out/s/t
start $INOTIFYWAIT -mr -e create,move d
mv out d/in
watches 4
touch d/in/1 d/in/s/2 d/in/s/t/3
expect 4
finish
