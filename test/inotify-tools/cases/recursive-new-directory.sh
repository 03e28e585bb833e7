# -mr: a new directory, watched, and what is then made in it
. "$LIB"
mkdir d
start $INOTIFYWAIT -mr -e create d
mkdir d/n
watches 2
mkdir d/n/m
watches 3
touch d/n/m/a
expect 3
finish
