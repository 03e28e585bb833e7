# access
. "$LIB"
mkdir d
echo x >d/a
start $INOTIFYWAIT -m -e access d
cat d/a >/dev/null
expect 1
finish
