# modify: written, truncated
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e modify d
echo x >d/a
expect 1
: >d/a
expect 2
truncate -s 5 d/a
expect 3
finish
