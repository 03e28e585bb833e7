# close_write alone
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e close_write d
echo x >d/a
cat d/a >/dev/null
echo x >d/b
expect 2
finish
