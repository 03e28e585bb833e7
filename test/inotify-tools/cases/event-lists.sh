# lists, repeated -e and upper case
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e CREATE,Delete -e moved_TO --event ATTRIB d
touch d/a
mv d/a d/b
rm d/b
expect 4
finish
