# -v tells what it does
. "$LIB"
mkdir -p d/s e
touch f
start $INOTIFYWATCH -v d e f
touch d/a
finish
start $INOTIFYWATCH -v -r d e f @e
touch d/s/b
finish
start $INOTIFYWATCH -vv -r -e create d d ./d
touch d/s/c
finish
