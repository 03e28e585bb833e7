# -qq prints no events, to a file neither
. "$LIB"
mkdir d
start_quiet 1 $INOTIFYWAIT -qq -o log d
touch d/a
ends
cat log
