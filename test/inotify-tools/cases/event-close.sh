# close is both closes; each is printed with CLOSE beside it
. "$LIB"
mkdir d
start $INOTIFYWAIT -m -e close d
echo x >d/a
cat d/a >/dev/null
expect 2
finish
