# -r: a row for each directory; equal ones deepest first
. "$LIB"
mkdir -p d/s/t
start $INOTIFYWATCH -r -e create d
touch d/s/t/a d/s/a d/a
finish
