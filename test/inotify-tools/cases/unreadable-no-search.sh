# a tree that may be listed but not entered, and one that may be entered but not listed
. "$LIB"
mkdir -p list/sub enter/sub
chmod 744 list
chmod 711 enter
run $nobody $INOTIFYWAIT -r -t 1 list
run $nobody $INOTIFYWAIT -r -t 1 enter
