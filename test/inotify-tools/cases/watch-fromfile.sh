# --fromfile, with @ lines, and from stdin
. "$LIB"
mkdir -p d/s e
printf 'd\n@d/s\n' >list
start $INOTIFYWATCH -v -r -e create --fromfile list e
touch d/a d/s/b e/c
finish
stdin=list
start $INOTIFYWATCH -e create --fromfile -
touch d/d
finish
