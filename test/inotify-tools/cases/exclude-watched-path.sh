# patterns apply to events on the watched thing itself
. "$LIB"
mkdir d
touch f
start $INOTIFYWAIT -m -e attrib --exclude '^f$' f d
touch f d/a
expect 1
finish
start $INOTIFYWAIT -m -e attrib --exclude '/$' f d
touch d
touch f
expect 1
finish
start $INOTIFYWAIT -m -e attrib --include '^f$' f d
touch d d/a
touch f
expect 1
finish
