# what may not be read cannot be watched; below a tree it is passed over
. "$LIB"
mkdir secret tree tree/secret open
touch file tree/a
chmod 700 secret tree/secret
chmod 000 file
chmod 755 tree .
for path in secret file secret/x; do
  run $nobody $INOTIFYWAIT -t 1 $path
  run $nobody $INOTIFYWATCH -t 1 $path
done
run $nobody $INOTIFYWAIT -r -t 1 secret
run $nobody $INOTIFYWATCH -v -r -t 1 tree
