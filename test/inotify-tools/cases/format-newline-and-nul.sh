# %n, %0, a newline of its own
. "$LIB"
mkdir d
start $INOTIFYWAIT --format '%n%0%n' -e attrib d
touch d/a
ends
start $INOTIFYWAIT --format '%w
%f' -e attrib d
touch d/a
ends
