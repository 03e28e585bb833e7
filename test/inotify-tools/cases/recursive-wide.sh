# a hundred directories
. "$LIB"
mkdir d
for i in $(seq 100); do mkdir "d/$i"; done
start $INOTIFYWAIT -mr -e create d
for i in $(seq 100); do touch "d/$i/a"; done
expect 100
finish
