# @ lines exclude
. "$LIB"
mkdir -p d/s d/u
printf '@d/s\nd\n@d/u\n' >list
start $INOTIFYWAIT -mr -e create --fromfile list
touch d/s/a d/u/b d/end
expect 1
finish
printf '@d/s\n' >list
start $INOTIFYWAIT -mr -e create --fromfile list d
touch d/s/c d/u/d d/end2
expect 2
finish
